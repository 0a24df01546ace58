"""The committed contract is what the types say, and means the same to a validator as to the decoders.

Where the two differ: a schema cannot refuse ``1.0`` where an integer is asked for. It takes moments only as RFC 3339
spells them, from 1970 to 2999, while the decoders also read a blank for the ``T`` and an offset without a colon, and
those of outcomes and reference data any year.
"""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.domain import topics
from sluice.domain.errors import Undecodable
from sluice.domain.events import decode_send
from sluice.domain.outcome import Outcome, decode_outcome, encode_outcome
from sluice.runtime.schemas import RECORDS, generate, main

SCHEMAS = Path(__file__).parents[2] / "schemas"
RECORD_NAMES = sorted(RECORDS)
DRAWS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def _load(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.v1.schema.json").read_text())


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def _without_moments(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_moments(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "date-time":
        return {"type": "string"}
    return {name: _without_moments(value) for name, value in schema.items()}


VALIDATORS = {name: _validator(_load(name)) for name in RECORD_NAMES}
LENIENT = {name: _validator(_without_moments(_load(name))) for name in RECORD_NAMES}


def _decodes(name: str, document: Any) -> bool:
    value = json.dumps(document).encode()
    try:
        if name == "send":
            decode_send(value)
        elif name == "outcome":
            decode_outcome(value)
        else:
            msgspec.json.decode(value, type=RECORDS[name])
    except (Undecodable, msgspec.ValidationError):
        return False
    return True


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
MOMENTS = st.from_regex(
    r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"([Zz]|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9])",
    fullmatch=True,
)


def _of_type(info: Any) -> st.SearchStrategy[Any]:  # noqa: C901 - one line for each kind of type
    kinds = msgspec.inspect
    match info:
        case kinds.Metadata():
            return _of_type(info.type)
        case kinds.StrType(pattern=str() as pattern):
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= (info.max_length or 128))
        case kinds.StrType():
            low, high = info.min_length or 0, info.max_length
            text = st.text(min_size=low, max_size=low + 12)
            return text | st.just("é" * high) if high and high < 400 else text
        case kinds.IntType():
            return st.integers(info.ge if info.ge is not None else -(2**63), info.le if info.le is not None else 2**63)
        case kinds.FloatType():
            return st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
        case kinds.BoolType():
            return st.booleans()
        case kinds.NoneType():
            return st.none()
        case kinds.BytesType():
            return st.binary(max_size=20).map(lambda raw: json.loads(msgspec.json.encode(raw)))
        case kinds.DateTimeType():
            return MOMENTS
        case kinds.LiteralType():
            return st.sampled_from(info.values)
        case kinds.ListType():
            return st.lists(
                _of_type(info.item_type), min_size=info.min_length or 0, max_size=(info.min_length or 0) + 2
            )
        case kinds.DictType():
            return st.dictionaries(st.text(max_size=8), _of_type(info.value_type), max_size=2)
        case kinds.UnionType():
            return st.one_of([_of_type(member) for member in info.types])
        case kinds.StructType():
            needed = {field.encode_name: _of_type(field.type) for field in info.fields if field.required}
            others = {field.encode_name: _of_type(field.type) for field in info.fields if not field.required}
            return st.fixed_dictionaries(needed, optional=others)
        case kinds.AnyType():
            return ANY
    raise AssertionError(f"no examples for {info}")


VALID = {name: _of_type(msgspec.inspect.type_info(record)) for name, record in RECORDS.items()}


ODD = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 1.0, 2.5, 10**20, 2**31, 1e300,
        "", "x", "x\n", "x" * 129, "x" * 999, "é" * 321, "bulk", "resend", "broadcast", "delivered", "dot",
        "aGk", "aGk=", "aGl=", "a===", "aG k=", "a-_=", "====", "aGk=\n",
        "2026-06-01T09:00:00Z", "2026-06-01 09:00:00Z", "2026-06-01T09:00:00", "2026-06-01T09:00:00+0200",
        "2026-06-30T23:59:60Z", "0000-01-01T00:00:00Z", "0999-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-12:00", "2026-06-01T24:00:00Z", "2026-06-01T09:00:00+24:00", "2026-06-01T09:00:00.Z",
        "2026-06-01T09:00:00.1234567891234Z", "2026-02-30T09:00:00Z", "2026-06-01T09:00:00Z\n", "２026-06-01T09:00:00Z",
        [], [None], [1], ["x"], ["x"] * 51, [{}], {}, {"email": "a@b"}, {"a": 1}, {"a": "x" * 1025}, {"id": "x"},
    ]
).map(copy.deepcopy)  # fmt: skip


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    found: list[tuple[Any, Any]] = []
    entries: list[tuple[Any, Any]] = []
    if isinstance(document, dict):
        entries = list(document.items())
    elif isinstance(document, list):
        entries = list(enumerate(document))
    for key, value in entries:
        found.append((document, key))
        found += _places(value)
    return found


def _damage(data: st.DataObject, name: str) -> Any:
    document = copy.deepcopy(data.draw(VALID[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            break
        container, key = data.draw(st.sampled_from(places))
        match data.draw(st.sampled_from(["replace", "replace", "remove", "add"])):
            case "replace":
                container[key] = data.draw(ODD)
            case "remove":
                del container[key]
            case "add" if isinstance(container, dict):
                fields = [field.encode_name for field in msgspec.structs.fields(RECORDS[name])]
                container[data.draw(st.sampled_from([*fields, "unknown"]))] = data.draw(ODD)
    return document


def _has_whole_floats(document: Any) -> bool:
    return any(isinstance(box[key], float) and box[key].is_integer() for box, key in _places(document))


@pytest.mark.parametrize("name", RECORD_NAMES)
@DRAWS
@given(data=st.data())
def test_what_the_type_allows_is_valid_by_schema_and_by_decoder(name, data):
    document = data.draw(VALID[name])
    VALIDATORS[name].validate(document)
    assert _decodes(name, document)


@pytest.mark.parametrize("name", RECORD_NAMES)
@settings(DRAWS, max_examples=250)
@given(data=st.data())
def test_schema_and_decoder_agree_on_damaged_records(name, data):
    document = _damage(data, name)
    by_schema, by_decoder = VALIDATORS[name].is_valid(document), _decodes(name, document)
    if by_schema and not by_decoder:
        assert _has_whole_floats(document), f"only the decoder refuses {document}"
    if by_decoder and not by_schema:
        assert LENIENT[name].is_valid(document), f"only the schema refuses {document}"


@pytest.mark.parametrize("name", RECORD_NAMES)
@DRAWS
@given(data=st.data())
def test_what_our_code_encodes_is_valid_by_schema(name, data):
    value = msgspec.json.decode(json.dumps(data.draw(VALID[name])).encode(), type=RECORDS[name])
    encoded = encode_outcome(value) if isinstance(value, Outcome) else msgspec.json.encode(value)
    VALIDATORS[name].validate(json.loads(encoded))


@pytest.mark.parametrize("name", RECORD_NAMES)
def test_unknown_fields_are_valid_in_every_object(name):
    assert 'additionalProperties": false' not in json.dumps(_load(name))


def test_the_committed_files_are_what_the_types_say():
    """When this fails, run ``python -m sluice.runtime.schemas schemas`` and commit what changed."""
    for name, text in generate().items():
        assert (SCHEMAS / name).read_text(encoding="utf-8") == text, f"{name} is stale"


def test_there_is_no_schema_that_nothing_generates():
    assert {path.name for path in SCHEMAS.glob("*.json")} == {name for name in generate() if name.endswith(".json")}


def test_the_check_names_stale_files_and_writes_nothing(tmp_path, capsys):
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    (tmp_path / "send.v1.schema.json").write_text("{}")
    assert main([str(tmp_path), "--check"]) == 1
    assert "send.v1.schema.json" in capsys.readouterr().err
    assert (tmp_path / "send.v1.schema.json").read_text() == "{}"


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.name)
def test_a_schema_is_a_schema(path):
    schema = json.loads(path.read_text())
    jsonschema_rs.meta.validate(schema)
    assert schema["$id"] == f"urn:sluice:{path.name.removesuffix('.v1.schema.json')}:v1"
    assert schema["description"]
    assert r"\Z" not in path.read_text()


def test_every_field_of_the_send_event_says_what_it_is_for():
    for name, schema in _load("send")["properties"].items():
        assert schema.get("description"), name


def _references(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        own = [tree["$ref"]] if isinstance(tree.get("$ref"), str) else []
        return own + [found for value in tree.values() for found in _references(value)]
    return [found for value in tree for found in _references(value)] if isinstance(tree, list) else []


def test_the_asyncapi_document_has_every_topic_and_its_references_resolve():
    document = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == {spec.name for spec in topics.topics(topics.Layout())}
    for reference in _references(document):
        file, _, pointer = reference.partition("#")
        if file:
            assert (SCHEMAS / file).exists(), reference
            continue
        node = document
        for step in pointer.strip("/").split("/"):
            node = node[step]
        assert node
