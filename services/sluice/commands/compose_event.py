"""One send event from command line options."""

from __future__ import annotations

import mimetypes
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import msgspec

from sluice.commands.failures import WrongUsage
from sluice.commands.moments import parse_moment


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed."""

    tenant: str | None = None
    to: list[str] = []
    sender: str | None = None
    reply_to: str | None = None
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    template: str | None = None
    locale: str | None = None
    variables: dict[str, Any] = {}
    attach: list[Path] = []
    headers: list[str] = []
    tags: list[str] = []
    stream: str | None = None
    campaign: str | None = None
    at: str | None = None
    expires: str | None = None
    idempotency_key: str | None = None


def compose_event(given: Given, now: datetime) -> dict[str, Any]:
    """The event by its JSON names, without an id; raises :class:`WrongUsage` for options that do not fit together.

    What an event's fields may hold is not looked at here: the client and compose judge that, as for any producer.
    """
    if given.tenant is None or not given.to:
        raise WrongUsage("--tenant and --to are needed, or --file with whole events")
    if given.template is None and given.text is None and given.html is None:
        raise WrongUsage("there is nothing to say: --text, --html or --template")
    if given.template is not None and (given.subject or given.text or given.html):
        raise WrongUsage("--template brings its own subject and content: leave --subject, --text and --html out")
    if given.template is None and given.variables:
        raise WrongUsage("--var is for templates: --text and --html are sent as they are")
    event: dict[str, Any] = {
        "tenant_id": given.tenant,
        "to": [{**_mailbox(text, "--to"), **({"locale": given.locale} if given.locale else {})} for text in given.to],
        "from": _mailbox(given.sender, "--from") if given.sender else None,
        "reply_to": _mailbox(given.reply_to, "--reply-to") if given.reply_to else None,
        "subject": given.subject,
        "text": _content(given.text, "--text"),
        "html": _content(given.html, "--html"),
        "template": _template(given) if given.template else None,
        "headers": dict(_headers(given.headers)),
        "attachments": [_attachment(path) for path in given.attach],
        "tags": given.tags,
        "stream": given.stream,
        "campaign_id": given.campaign,
        "idempotency_key": given.idempotency_key,
        "send_at": parse_moment(given.at, "--at", now).isoformat() if given.at else None,
        "expires_at": parse_moment(given.expires, "--expires", now).isoformat() if given.expires else None,
    }
    return {name: value for name, value in event.items() if value not in (None, [], {})}


def _mailbox(text: str, option: str) -> dict[str, str]:
    """``Name <address>`` or an address; a bare one is taken as it is, whatever its characters."""
    if "<" not in text:
        return {"email": text.strip()}
    name, address = parseaddr(text)
    if not address:
        raise WrongUsage(f"{option}: {text!r}: write an address, or 'Name <address>'")
    return {"email": address, "name": name} if name else {"email": address}


def _content(text: str | None, option: str) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise WrongUsage(f"{option}: {text[1:]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WrongUsage(f"{option}: {text[1:]}: not UTF-8, from byte {error.start}") from error


def _template(given: Given) -> dict[str, Any]:
    name, _, version = (given.template or "").rpartition("@")
    if name and version.isdigit():
        return {"id": name, "version": int(version), "variables": given.variables}
    return {"id": given.template, "variables": given.variables}


def _headers(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise WrongUsage(f"--header: {line!r}: write NAME:VALUE")
        yield name.strip(), value.strip()


def _attachment(path: Path) -> dict[str, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WrongUsage(f"--attach: {path}: {error.strerror}") from error
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {"filename": path.name, "content_type": kind, "content": b64encode(content).decode("ascii")}
