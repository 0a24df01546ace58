"""Mirrors reference data from its compacted topics to ClickHouse: for analysts, and to make the topics again from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from sluice.domain.reference import SiteControl, Suppression, Template, Tenant
from sluice.domain.topics import REFERENCE, SITES, SUPPRESSIONS, TEMPLATES, TENANTS
from sluice.ports.clock import Clock
from sluice.ports.follower import Follower
from sluice.ports.intake import Taken
from sluice.ports.mirror import RecordRow, ReferenceMirror, Row, SiteRow, SuppressionRow, TemplateRow, TenantRow
from sluice.ports.outcomes import StoreAway

log = structlog.get_logger(__name__)

MIRRORED = REFERENCE
"""Of profiles the records alone: they are about people, and nobody's question about mail needs them."""
_POLL_S = 1.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0


class Mirror:
    """Follows the topics as a member of a group. What was read and not kept is kept later; nothing waits for it."""

    def __init__(
        self, *, follower: Follower, mirror: ReferenceMirror, clock: Clock, hashed: Callable[[str], str]
    ) -> None:
        self._follower = follower
        self._mirror = mirror
        self._clock = clock
        self._hashed = hashed

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set."""
        while not stop.is_set():
            polled = await self._follower.poll(_POLL_S)
            rows = [row for record in polled.records if (row := mirrored(record, self._hashed)) is not None]
            rows += as_they_are(polled.records, self._hashed)
            if rows and not await self._kept(rows, stop):
                return
            ends = {(record.topic, record.partition): record.offset + 1 for record in polled.records}
            if ends:
                await self._follower.commit(ends)

    async def _kept(self, rows: list[Row], stop: asyncio.Event) -> bool:
        wait = _FIRST_WAIT
        while not stop.is_set():
            try:
                await self._mirror.keep(rows)
            except StoreAway as error:
                log.warning("cannot mirror reference data", reason=str(error), again_in_seconds=wait)
                await self._clock.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                return True
        return False


def mirrored(record: Taken, hashed: Callable[[str], str]) -> Row | None:
    """A record's row for analysts, or None where there is none or it cannot be read. Pure."""
    if record.topic not in _ROWS:
        return None
    key = (record.key or b"").decode("utf-8", "replace")
    fixed: dict[str, Any] = {
        "changed_at": datetime.fromtimestamp(max(0.0, record.stored_at), UTC),
        "log_offset": record.offset,
        "removed": int(not record.value),
    }
    try:
        return _ROWS[record.topic](key, record.value or None, fixed, hashed)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        log.warning(
            "reference data not mirrored", topic=record.topic, offset=record.offset, reason=type(error).__name__
        )
        return None


def as_they_are(records: Iterable[Taken], hashed: Callable[[str], str]) -> list[RecordRow]:
    """The last record of each key, as it is; what is no text is no reference data, and left out. Pure."""
    rows: dict[tuple[str, str], RecordRow] = {}
    for record in records:
        key, value = record.key or b"", record.value or b""
        try:
            texts = {"key": key.decode(), "value": value.decode()} if value else {}
        except UnicodeDecodeError:
            continue
        name = key_hash(key, hashed)
        rows[record.topic, name] = RecordRow(
            topic=record.topic, key_hash=name, log_offset=record.offset, removed=int(not value),
            changed_at=datetime.fromtimestamp(max(0.0, record.stored_at), UTC), **texts,
        )  # fmt: skip
    return list(rows.values())


def key_hash(key: bytes, hashed: Callable[[str], str]) -> str:
    """Names a key without saying it. Of its hexadecimal digits, since hashes of addresses do not mind their case."""
    return hashed(key.hex())


def _tenant(key: str, value: bytes | None, fixed: dict[str, Any], _: Callable[[str], str]) -> Row:
    if value is None:
        return TenantRow(tenant_id=key, **fixed)
    told = msgspec.json.decode(value, type=Tenant)
    return TenantRow(
        tenant_id=told.tenant_id, name=told.name, domains=told.domains, active=int(told.active), rate=told.rate or "",
        campaign_rate=told.campaign_rate or "", in_doubt=told.in_doubt, **fixed,
    )  # fmt: skip


def _template(key: str, value: bytes | None, fixed: dict[str, Any], _: Callable[[str], str]) -> Row:
    tenant_id, template_id, version = key.split("|")
    names: dict[str, Any] = {"tenant_id": tenant_id, "template_id": template_id, "version": int(version)}
    if value is None:
        return TemplateRow(**names, **fixed)
    told = msgspec.json.decode(value, type=Template)
    content = told.locales.get(told.default_locale)
    return TemplateRow(
        **names, default_locale=told.default_locale, locales=sorted(told.locales),
        subject=content.subject if content else "", **fixed,
    )  # fmt: skip


def _suppression(key: str, value: bytes | None, fixed: dict[str, Any], hashed: Callable[[str], str]) -> Row:
    tenant_id, stream, email = key.split("|", 2)
    names: dict[str, Any] = {
        "tenant_id": tenant_id,
        "stream": "" if stream == "*" else stream,
        "recipient_hash": hashed(email),
    }
    if value is None:
        return SuppressionRow(**names, **fixed)
    told = msgspec.json.decode(value, type=Suppression)
    return SuppressionRow(
        **names, reason=told.reason, created_at=_moment(told.created_at), expires_at=_moment(told.expires_at), **fixed
    )


def _site(key: str, value: bytes | None, fixed: dict[str, Any], _: Callable[[str], str]) -> Row:
    if value is None:
        return SiteRow(site=key, **fixed)
    told = msgspec.json.decode(value, type=SiteControl)
    return SiteRow(
        site=told.site, reason=told.reason, set_by=told.by, set_at=_moment(told.at), until=_moment(told.until), **fixed
    )


def _moment(at: datetime | None) -> datetime | None:
    """Within what ClickHouse can keep."""
    return None if at is None else min(max(at, datetime(1970, 1, 1, tzinfo=UTC)), datetime(2100, 1, 1, tzinfo=UTC))


_ROWS: dict[str, Callable[[str, bytes | None, dict[str, Any], Callable[[str], str]], Row]] = {
    TENANTS: _tenant,
    TEMPLATES: _template,
    SUPPRESSIONS: _suppression,
    SITES: _site,
}
