"""Looking reference data up."""

from typing import Protocol

from sluice.domain.events import Stream
from sluice.domain.reference import Profile, Suppression, Template, Tenant


class Reference(Protocol):
    """Tenants, templates, profiles and suppressions; :class:`sluice.domain.catalogue.Catalogue` is the twin."""

    def tenant(self, tenant_id: str) -> Tenant | None:
        """The tenant, or None when there is none by that name."""
        ...

    def template(self, tenant_id: str, template_id: str, version: int | None) -> Template | None:
        """A version of a tenant's template, the newest for None; or None when there is none."""
        ...

    def profile(self, tenant_id: str, email: str) -> Profile | None:
        """What the tenant keeps of a recipient, or None."""
        ...

    def suppressed(self, tenant_id: str, stream: Stream, email: str, now: float) -> Suppression | None:
        """The suppression in force for a recipient at ``now`` (seconds since the epoch), or None."""
        ...
