"""Events of an earlier version are read by this one, and this one's by an earlier.

tests/fixtures/v1 keeps what was written. An earlier reader needs that everything it knows is still there under its
name, and passes over what it does not know, as this one does.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from sluice.domain.catalogue import Catalogue
from sluice.domain.events import decode_send
from sluice.domain.ledger import decode_checkpoint, decode_entry, encode_checkpoint
from sluice.domain.mail import ENVELOPE, PROGRESS, Mail, read_mail, ready_headers
from sluice.domain.outcome import decode_outcome, encode_outcome
from sluice.domain.repeats import decode_seen, encode_seen
from sluice.domain.sharing import decode_report, encode_report
from sluice.domain.topics import PROFILES, SITES, SUPPRESSIONS, TEMPLATES, TENANTS

FIXTURES = Path(__file__).parents[1] / "fixtures"
VERSIONS = sorted(folder for folder in FIXTURES.iterdir() if folder.name.startswith("v"))


def required(kind: str, folder: Path = VERSIONS[0]) -> bytes:
    """The JSON of a record with nothing but what it needs."""
    records = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
    return json.dumps(next(each["value"] for each in records if each["name"] == "required fields alone")).encode()


def of_topic(topic: str) -> Callable[[bytes], Any]:
    def read(value: bytes) -> Any:
        known = Catalogue()
        known.apply(topic, b"key", value)
        tables = (known.tenants, known.templates, known.profiles, known.suppressions, known.controls)
        return next(entry for table in tables for entry in table.values())  # type: ignore[attr-defined]

    return read


READERS: dict[str, Callable[[bytes], Any]] = {
    "send": decode_send,
    "envelope": lambda value: read_mail([(ENVELOPE, value)], b"").envelope,
    "progress": lambda value: read_mail([(ENVELOPE, required("envelope")), (PROGRESS, value)], b"").progress,
    "outcome": decode_outcome,
    "checkpoint": decode_checkpoint,
    "seen": decode_seen,
    "demand": decode_report,
    "tenant": of_topic(TENANTS),
    "template": of_topic(TEMPLATES),
    "profile": of_topic(PROFILES),
    "suppression": of_topic(SUPPRESSIONS),
    "site": of_topic(SITES),
}
"""By kind of record, how the services read it."""


def header(name: str) -> Callable[[Any], bytes]:
    def write(part: Any) -> bytes:
        envelope = part if name == ENVELOPE else read_mail([(ENVELOPE, required("envelope"))], b"").envelope
        mail = Mail(envelope, b"", part) if name == PROGRESS else Mail(envelope, b"")
        return dict(ready_headers(mail, time=""))[name]

    return write


WRITERS: dict[str, Callable[[Any], bytes]] = {
    "envelope": header(ENVELOPE),
    "progress": header(PROGRESS),
    "outcome": encode_outcome,
    "checkpoint": encode_checkpoint,
    "seen": encode_seen,
    "demand": encode_report,
}
"""By kind, how the services write it; the others are written by whoever publishes them."""


def kept() -> Iterator[Any]:
    for folder in VERSIONS:
        for file in sorted(folder.glob("*.json")):
            for each in json.loads(file.read_text(encoding="utf-8")):
                yield pytest.param(file.stem, each["value"], id=f"{folder.name}-{file.stem}-{each['name']}")


KEPT = list(kept())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
each_record = pytest.mark.parametrize(("kind", "value"), KEPT)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def lacks(now: Any, then: Any, path: str = "$") -> list[str]:
    """What ``then`` has and ``now`` has not, or has otherwise."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [
            wrong
            for name, entry in then.items()
            for wrong in (lacks(now[name], entry, f"{path}.{name}") if name in now else [f"{path}.{name}"])
        ]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(now, then, strict=True))
        return [wrong for number, (a, b) in pairs for wrong in lacks(a, b, f"{path}[{number}]")]
    return [] if now == then else [path]


def structs(value: Any, kind: inspect.Type) -> Iterator[dict[str, Any]]:
    """Every object in a record whose fields are ours: to others, such as metadata, names are added by producers."""
    if isinstance(kind, inspect.UnionType):
        kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.StructType):
        yield value
        fields = {each.encode_name: each.type for each in kind.fields}
        for name, entry in list(value.items()):
            yield from structs(entry, fields[name])
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        for entry in value:
            yield from structs(entry, kind.item_type)
    elif isinstance(kind, inspect.DictType):
        for entry in value.values():
            yield from structs(entry, kind.value_type)


@each_record
def test_what_an_earlier_version_wrote_is_read_whole(kind: str, value: Any) -> None:
    """Nothing of it is lost on the way in: what was read, written down, has all of it."""
    assert lacks(json.loads(msgspec.json.encode(READERS[kind](encoded(value)))), value) == []


@each_record
def test_what_is_written_has_what_an_earlier_version_reads(kind: str, value: Any) -> None:
    if kind in WRITERS:
        assert lacks(json.loads(WRITERS[kind](READERS[kind](encoded(value)))), value) == []


@given(record=st.sampled_from([each.values for each in KEPT]), later=ANYTHING, name=st.text(min_size=1))
def test_what_a_later_version_may_add_is_passed_over(record: tuple[str, Any], later: Any, name: str) -> None:
    kind, value = record
    read = READERS[kind](encoded(value))
    grown = copy.deepcopy(value)
    for each in list(structs(grown, inspect.type_info(type(read)))):
        each.setdefault(f"later {name}", later)
    assert READERS[kind](encoded(grown)) == read


@pytest.mark.parametrize("value", [value.values[1] for value in KEPT if value.values[0] == "outcome"])
def test_the_ledger_reads_its_part_of_every_outcome(value: Any) -> None:
    assert decode_entry(encoded(value)).event_type == value["event_type"]


def test_every_kind_of_record_is_kept() -> None:
    for folder in VERSIONS:
        assert {file.stem for file in folder.glob("*.json")} == READERS.keys()
