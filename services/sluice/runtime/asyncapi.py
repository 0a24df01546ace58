"""The AsyncAPI 3 document of every topic: keys, headers, payloads, and who writes and reads it."""

from __future__ import annotations

import json
import re
from typing import Any

from sluice.domain import topics
from sluice.ports.records import ORIGIN, REASON

Tree = dict[str, Any]

_TRACE: Tree = {
    "traceparent": {"type": "string", "description": "W3C Trace Context."},
    "tracestate": {"type": "string", "description": "W3C Trace Context."},
}


def document() -> str:
    """The document as YAML 1.2."""
    return to_yaml(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Sluice",
                "version": "1.0.0",
                "description": "Every Kafka topic of Sluice. Producers publish to mail.send.*, read mail.outcome, and "
                "keep reference data in ref.*; the other topics are Sluice's own. Metadata travels as CloudEvents 1.0 "
                "binary mode headers. Unknown fields and headers are tolerated.",
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": "application/json",
            "channels": {spec.name: _channel(spec) for spec in topics.topics(topics.Layout())},
            "operations": _operations(),
            "components": {"messages": _messages()},
        }
    )


def _channel(spec: topics.TopicSpec) -> Tree:
    return {
        "address": spec.name,
        "title": spec.why[0].upper() + spec.why[1:],
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in _carried(spec.name)},
        "bindings": {
            "kafka": {"topic": spec.name, "topicConfiguration": {"cleanup.policy": spec.policy.split(",")}},
        },
    }


def _carried(topic: str) -> list[str]:
    """The messages that a topic carries."""
    if topic in topics.SEND.values():
        return ["send"]
    if topic in topics.READY.values():
        return ["ready"]
    if topic in topics.WHEEL.values():
        return ["waitingReady", "waitingSend"]
    return [_SINGLE[topic]]


_SINGLE = {
    topics.OUTCOME: "outcome",
    topics.DEAD: "dead",
    topics.IDEMPOTENCY: "idempotency",
    topics.DEMAND: "demand",
    topics.TENANTS: "tenant",
    topics.TEMPLATES: "template",
    topics.PROFILES: "profile",
    topics.SUPPRESSIONS: "suppression",
    topics.SITES: "site",
}


def _operations() -> Tree:
    """What a reader or writer outside does, seen from Sluice: it receives what they publish."""
    operations: Tree = {}
    for priority, topic in topics.SEND.items():
        operations[f"takeSend{priority.title()}"] = _operation("receive", topic, "Take send events.")
    operations["tellOutcome"] = _operation("send", topics.OUTCOME, "Tell what became of each mail.")
    for topic in topics.REFERENCE:
        name = f"learn{topic.removeprefix('ref.').title()}"
        operations[name] = _operation("receive", topic, "Learn reference data; a record without a value deletes.")
    return operations


def _operation(action: str, topic: str, summary: str) -> Tree:
    return {"action": action, "channel": {"$ref": f"#/channels/{topic}"}, "summary": summary}


def _messages() -> Tree:
    wheel_headers = {
        "not-before": {"type": "string", "pattern": "^[0-9]+$", "description": "Milliseconds since the epoch."},
        "return-to": {"type": "string", "description": "The topic, or topic:partition, to return to."},
    }
    send_key = "The recipient's domain: lower case, A-label form."
    ready_headers = {"$ref": "./ready-headers.v1.schema.json"}
    return {
        "send": _message(
            "A producer asks for mail.",
            key=f"{send_key} An idempotency_key chooses the partition instead (examples/README.md says how).",
            headers=_cloud_events("sluice.send.v1", "The message_id."),
            payload="send",
        ),
        "ready": _message(
            "One composed mail for one recipient.",
            key="The recipient's domain; the partition is the lane's.",
            headers=ready_headers,
            content_type="message/rfc822",
        ),
        "waitingSend": _message(
            "A send event that waits for its time.",
            key="As on the topic it returns to.",
            headers={"type": "object", "properties": wheel_headers, "required": ["not-before", "return-to"]},
            payload="send",
        ),
        "waitingReady": _message(
            "A mail that waits: for a retry, or for room under a limit.",
            key="As on the topic it returns to.",
            headers={"allOf": [ready_headers, {"required": ["not-before", "return-to"]}]},
            content_type="message/rfc822",
        ),
        "outcome": _message(
            "One thing that happened to one mail; repeated with the same event_id after a crash.",
            key="The message_id; the partition is that of the mail on mail.ready.*.",
            headers=_cloud_events("sluice.outcome.v1", "The event_id."),
            payload="outcome",
        ),
        "dead": _message(
            "A record that could not be handled: its own bytes, its own headers, and headers that say why.",
            key="As it was.",
            headers={
                "type": "object",
                "properties": {
                    REASON: {"type": "string", "description": "What was wrong, without addresses."},
                    ORIGIN: {"type": "string", "description": "Where it was read from: topic:partition:offset."},
                },
                "required": [REASON, ORIGIN],
            },
            content_type="application/octet-stream",
        ),
        "idempotency": _message(
            "A key that was seen; Sluice's own.", key="A digest of the tenant and the idempotency key."
        ),
        "demand": _message(
            "What a deliver worker wants and uses of limits that span workers; Sluice's own.",
            key="None; there is one partition.",
        ),
        "tenant": _message("Who may send, and how.", key="tenant_id", payload="tenant"),
        "template": _message("A version of a template.", key="tenant_id|template_id|version", payload="template"),
        "profile": _message("What a tenant keeps of a recipient.", key="tenant_id|email", payload="profile"),
        "suppression": _message(
            "An address that a tenant must not mail.",
            key="tenant_id|stream|email; * for every stream.",
            payload="suppression",
        ),
        "site": _message("An operator's word on a receiving site: send it nothing.", key="site", payload="site"),
    }


def _message(
    summary: str,
    *,
    key: str,
    headers: Tree | None = None,
    payload: str | None = None,
    content_type: str = "application/json",
) -> Tree:
    message: Tree = {"summary": summary, "contentType": content_type}
    if headers:
        message["headers"] = _draft_2020(headers)
    if payload:
        message["payload"] = _draft_2020({"$ref": f"./{payload}.v1.schema.json"})
    message["bindings"] = {"kafka": {"key": {"type": "string", "description": key}}}
    return message


def _draft_2020(schema: Tree) -> Tree:
    return {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": schema}


def _cloud_events(kind: str, identity: str) -> Tree:
    return {
        "type": "object",
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_type": {"const": kind},
            "ce_id": {"type": "string", "description": identity},
            "ce_source": {"type": "string", "description": "Who published it, as a URI reference."},
            "ce_time": {"type": "string", "format": "date-time"},
            "content-type": {"type": "string", "pattern": "^application/json"},
            **_TRACE,
        },
        "description": "CloudEvents 1.0, binary mode. All are optional; a producer without an SDK may send none.",
    }


_plain_scalar = re.compile(r"^[A-Za-z][A-Za-z0-9_./ -]*[A-Za-z0-9_.]$")
_reserved = {"true", "false", "null", "yes", "no", "on", "off"}


def to_yaml(value: Tree, indent: int = 0) -> str:
    """A tree of dicts, lists and scalars as block YAML, in the order given; strings are JSON-quoted where needed."""
    lines = []
    pad = " " * indent
    for name, item in value.items():
        start = f"{pad}{_scalar(name)}:"
        if isinstance(item, dict) and item:
            lines.append(f"{start}\n{to_yaml(item, indent + 2)}")
        elif isinstance(item, list) and any(isinstance(entry, dict) for entry in item):
            entries = [to_yaml(entry, indent + 4) for entry in item]
            lines.append(start + "\n" + "".join(f"{pad}  - {entry.lstrip()}" for entry in entries))
        elif isinstance(item, list):
            lines.append(f"{start} [{', '.join(map(_scalar, item))}]\n")
        else:
            lines.append(f"{start} {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, str) and _plain_scalar.match(value) and value.lower() not in _reserved:
        return value
    return json.dumps(value, ensure_ascii=False)
