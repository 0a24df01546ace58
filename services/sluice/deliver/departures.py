"""Which egress a mail takes: its tenant's, its site's, or any; and another one while a trigger keeps it from there."""

from __future__ import annotations

from collections.abc import Callable

from sluice.deliver.lane import Lane
from sluice.domain.egress import Egress, Egresses
from sluice.domain.mail import Mail
from sluice.domain.reference import Tenant


class Departures:
    """``tenant`` looks a tenant up."""

    def __init__(self, egresses: Egresses, tenant: Callable[[str], Tenant | None] = lambda _: None) -> None:
        self.egresses = egresses
        self._tenant = tenant
        self._only = egresses.all[0] if len(egresses.all) == 1 else None

    def choose(self, mail: Mail, lane: Lane) -> Egress:
        """The egress for a mail at this moment. Its own goes before its tenant's, and that before its site's."""
        if self._only is not None:
            return self._only
        envelope = mail.envelope
        tenant = self._tenant(envelope.tenant_id)
        wanted = envelope.egress or (tenant and tenant.egress) or lane.site.egress
        return self.egresses.instead(self.egresses.choose(wanted, envelope.message_id), lane.switched)

    def moved(self, egress: Egress, lane: Lane) -> bool:
        """Whether mails of the lane that were to take ``egress`` take another one now."""
        return egress.name in lane.switched and self.egresses.instead(egress, lane.switched) is not egress
