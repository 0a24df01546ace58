"""Reference data mirrored for reading: one row for each record of a compacted topic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """``log_offset`` is the record's; the highest of a key holds. ``removed`` is 1 when the key was removed."""

    changed_at: datetime
    log_offset: int
    removed: int = 0


class TenantRow(Mirrored, frozen=True, kw_only=True):
    """A tenant; rates are empty where there is no limit."""

    tenant_id: str
    name: str = ""
    domains: list[str] = []
    active: int = 0
    rate: str = ""
    campaign_rate: str = ""
    in_doubt: str = ""


class TemplateRow(Mirrored, frozen=True, kw_only=True):
    """A version of a template; ``subject`` is that of the default locale."""

    tenant_id: str
    template_id: str
    version: int
    default_locale: str = ""
    locales: list[str] = []
    subject: str = ""


class SuppressionRow(Mirrored, frozen=True, kw_only=True):
    """A suppression, by the keyed hash of its address; ``stream`` is empty for all mail."""

    tenant_id: str
    stream: str
    recipient_hash: str
    reason: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None


class SiteRow(Mirrored, frozen=True, kw_only=True):
    """An operator's word on a site; ``until`` None: until it is taken back."""

    site: str
    reason: str = ""
    set_by: str = ""
    set_at: datetime | None = None
    until: datetime | None = None


class RecordRow(Mirrored, frozen=True, kw_only=True):
    """A record as it is, to make its topic again from; of a removed one only the keyed hash of its key."""

    topic: str
    key_hash: str
    key: str = ""
    value: str = ""


Row = TenantRow | TemplateRow | SuppressionRow | SiteRow | RecordRow


class ReferenceMirror(Protocol):
    """Keeps the rows."""

    async def keep(self, rows: Sequence[Row]) -> None:
        """Keep rows; keeping them again changes nothing.

        Raises :class:`sluice.ports.outcomes.StoreAway` when it is not certain that all are kept: keep them again.
        """
        ...
