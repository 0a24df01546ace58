"""Reference data in memory, as the compacted ``ref.*`` topics tell it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from sluice.domain.errors import NOT_DECODED, Undecodable
from sluice.domain.events import Stream, locate
from sluice.domain.lanes import FOREVER
from sluice.domain.reference import (
    Profile,
    SiteControl,
    Suppression,
    Template,
    Tenant,
    profile_key,
    suppression_key,
    template_key,
)
from sluice.domain.topics import PROFILES, SITES, SUPPRESSIONS, TEMPLATES, TENANTS


class Catalogue:
    """Tenants, templates, profiles, suppressions and site controls, looked up by what an event or a mail says."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.templates: dict[str, Template] = {}
        self.profiles: dict[str, Profile] = {}
        self.suppressions: dict[str, Suppression] = {}
        self.controls: dict[str, SiteControl] = {}
        self._newest: dict[tuple[str, str], int] = {}
        tables: dict[str, tuple[dict[str, Any], Callable[[bytes], Any]]] = {
            TENANTS: (self.tenants, msgspec.json.Decoder(Tenant).decode),
            TEMPLATES: (self.templates, msgspec.json.Decoder(Template).decode),
            PROFILES: (self.profiles, msgspec.json.Decoder(Profile).decode),
            SUPPRESSIONS: (self.suppressions, msgspec.json.Decoder(Suppression).decode),
            SITES: (self.controls, msgspec.json.Decoder(SiteControl).decode),
        }
        self._tables = tables

    def apply(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Take in a record; a null value removes its key.

        Raises :class:`Undecodable` for a value that its topic does not carry; what was known then stays.
        """
        if topic not in self._tables:
            return
        table, decode = self._tables[topic]
        name = key.decode("utf-8", "replace")
        if not value:
            removed = table.pop(name, None)
            if isinstance(removed, Template):
                self._forget_newest(removed)
            return
        try:
            entry = decode(value)
        except msgspec.ValidationError as error:
            raise Undecodable(*locate(str(error))) from error
        except NOT_DECODED as error:
            raise Undecodable("value", f"not JSON: {error}") from error
        table[name] = entry
        if isinstance(entry, Template):
            pair = (entry.tenant_id, entry.template_id)
            self._newest[pair] = max(entry.version, self._newest.get(pair, 0))

    def tenant(self, tenant_id: str) -> Tenant | None:
        """The tenant, or None when there is none by that name."""
        return self.tenants.get(tenant_id)

    def template(self, tenant_id: str, template_id: str, version: int | None) -> Template | None:
        """A version of a tenant's template, the newest for None; or None when there is none."""
        wanted = version or self._newest.get((tenant_id, template_id))
        return None if wanted is None else self.templates.get(template_key(tenant_id, template_id, wanted))

    def profile(self, tenant_id: str, email: str) -> Profile | None:
        """What the tenant keeps of a recipient."""
        return self.profiles.get(profile_key(tenant_id, email))

    def suppressed(self, tenant_id: str, stream: Stream, email: str, now: float) -> Suppression | None:
        """The suppression in force for a recipient, in this stream or in all; expired ones do not count."""
        for scope in (stream, None):
            found = self.suppressions.get(suppression_key(tenant_id, scope, email))
            if found is not None and (found.expires_at is None or found.expires_at.timestamp() > now):
                return found
        return None

    def suspended_until(self, site: str) -> float:
        """Until when an operator wants nothing sent to a site, seconds since the epoch; 0.0 when nobody does."""
        control = self.controls.get(site)
        if control is None:
            return 0.0
        return FOREVER if control.until is None else control.until.timestamp()

    def _forget_newest(self, removed: Template) -> None:
        pair = (removed.tenant_id, removed.template_id)
        left = [t.version for t in self.templates.values() if (t.tenant_id, t.template_id) == pair]
        self._newest.pop(pair, None)
        if left:
            self._newest[pair] = max(left)
