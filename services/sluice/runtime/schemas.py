"""The contract with the outside, generated from the types: JSON Schemas (2020-12) and an AsyncAPI 3 document.

``python -m sluice.runtime.schemas schemas`` writes the files below ``schemas/``; with ``--check`` it writes nothing and
exits with 1, naming them, when files differ from what the types say.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from sluice.domain import mail, outcome, reference
from sluice.domain.events import SendEvent
from sluice.runtime import asyncapi

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

RECORDS: dict[str, type[msgspec.Struct]] = {
    "send": SendEvent,
    "outcome": outcome.Outcome,
    "tenant": reference.Tenant,
    "template": reference.Template,
    "profile": reference.Profile,
    "suppression": reference.Suppression,
    "site": reference.SiteControl,
}
"""The value of a record, by the name of its schema."""

DATE_TIME = (
    r"^(19[7-9][0-9]|2[0-9]{3})-[0-9]{2}-[0-9]{2}[Tt]"
    r"[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
"""Narrower than RFC 3339 by what the decoder cannot hold: leap seconds, and years outside 1970 to 2999."""

BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
"""RFC 4648, section 4, with padding."""

TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
"""W3C Trace Context, section 3.2."""


def generate() -> dict[str, str]:
    """Every file of the contract: its name below ``schemas/`` and its text."""
    files = {f"{name}.v1.schema.json": record_schema(name, record) for name, record in RECORDS.items()}
    files["ready-headers.v1.schema.json"] = ready_headers_schema()
    texts = {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in files.items()}
    texts["asyncapi.yaml"] = asyncapi.document()
    return texts


def record_schema(name: str, record: type[msgspec.Struct]) -> Schema:
    """The JSON Schema of a record's value; the types that it uses are under ``$defs``."""
    definitions = _definitions(record)
    root = definitions.pop(record.__name__)
    schema = {"$schema": DIALECT, "$id": f"urn:sluice:{name}:v1", **root}
    if definitions:
        schema["$defs"] = dict(sorted(definitions.items()))
    return schema


def ready_headers_schema() -> Schema:
    """The header set of a ready mail as an object of header name to text."""
    definitions = _definitions(mail.Envelope, mail.Progress)
    properties: Schema = {
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"const": "sluice.ready.v1"},
        "ce_id": {"type": "string", "minLength": 1, "description": "The message_id of the envelope."},
        "ce_source": {"type": "string", "minLength": 1},
        "ce_time": {**_date_time(), "description": "When the mail was composed."},
        "content-type": {"const": "message/rfc822"},
        mail.ENVELOPE: _embedded("Envelope", "Written once, when the mail is composed."),
        mail.PROGRESS: _embedded("Progress", "Written anew whenever the mail moves; absent means no attempt yet."),
        mail.NOT_BEFORE: {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "On the wheel's topics: milliseconds since the epoch, not returned before.",
        },
        mail.RETURN_TO: {
            "type": "string",
            "pattern": "^[A-Za-z0-9._-]+(:[0-9]+)?$",
            "description": "On the wheel's topics: the topic, or topic:partition, to return to.",
        },
        "traceparent": {"type": "string", "pattern": TRACEPARENT},
        "tracestate": {"type": "string"},
    }
    return {
        "$schema": DIALECT,
        "$id": "urn:sluice:ready-headers:v1",
        "title": "ReadyHeaders",
        "description": "Kafka headers of a record on mail.ready.*, each read as UTF-8 text; the record's value is the "
        "mail itself, message/rfc822.",
        "type": "object",
        "properties": properties,
        "required": ["ce_specversion", "ce_type", "ce_id", "ce_source", "ce_time", "content-type", mail.ENVELOPE],
        "$defs": dict(sorted(definitions.items())),
    }


def _embedded(name: str, description: str) -> Schema:
    return {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": f"#/$defs/{name}"},
        "description": description,
    }


def _date_time() -> Schema:
    return {"type": "string", "format": "date-time", "pattern": DATE_TIME}


def _definitions(*records: type[msgspec.Struct]) -> dict[str, Schema]:
    """The JSON Schema of each record and of every Struct it uses, by class name."""
    _, found = msgspec.json.schema_components(records, ref_template="#/$defs/{name}")
    definitions: dict[str, Schema] = _in_ecma_terms(found)
    for struct in _structs(*records):
        schema = definitions[struct.__name__]
        schema["description"] = _plain(struct.__doc__ or "")
        docs = _field_docs(struct)
        for field in msgspec.structs.fields(struct):
            if field.name in docs:
                schema["properties"][field.encode_name]["description"] = _plain(docs[field.name])
    return definitions


def _structs(*records: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The records and the Structs that their fields mention, each once."""
    found: dict[type[msgspec.Struct], None] = {}
    left: list[Any] = list(msgspec.inspect.multi_type_info(records))
    while left:
        info = left.pop()
        if isinstance(info, msgspec.inspect.StructType) and info.cls not in found:
            found[info.cls] = None
            left += [field.type for field in info.fields]
        left += getattr(info, "types", ())
        left += [getattr(info, name) for name in ("type", "item_type", "value_type") if hasattr(info, name)]
    return list(found)


def _field_docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The string that follows each field in the class's source (Python keeps no such docstring at run time)."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - what getsource of a class parses to
    docs: dict[str, str] = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            docs[statement.target.id] = str(following.value.value)
    return docs


def _plain(text: str) -> str:
    """A docstring as one line of plain text."""
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", text)
    return " ".join(text.replace("``", "`").split())


def _in_ecma_terms(schema: Any) -> Any:
    """msgspec's schema in the terms that any validator knows: ECMA 262 patterns, date-times and base64 spelt out."""
    if isinstance(schema, list):
        return [_in_ecma_terms(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {name: _in_ecma_terms(value) for name, value in schema.items()}
    if isinstance(out.get("pattern"), str):
        out["pattern"] = out["pattern"].replace(r"\Z", "$")
    if out.get("format") == "date-time":
        out.update(_date_time())
    if out.get("contentEncoding") == "base64":
        out["pattern"] = BASE64
    return out


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sluice.runtime.schemas", description="Write the contract's files.")
    parser.add_argument("folder", type=Path, help="the repository's schemas/")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    options = parser.parse_args(arguments)
    stale = []
    for name, text in generate().items():
        path = options.folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not options.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if options.check and stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `python -m sluice.runtime.schemas {options.folder}`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
