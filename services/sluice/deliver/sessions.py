"""What is to be told of the TLS sessions that one sender agent begins (RFC 8460)."""

from __future__ import annotations

from sluice.deliver.item import Item
from sluice.deliver.paths import Path, Paths
from sluice.domain.smtp import Broken, Replied, Tls
from sluice.domain.tls_policy import Protection
from sluice.domain.tls_sessions import Place, TlsSession, session_opened, session_refused
from sluice.ports.mailer import Connection, Hop


class Sessions:
    """Told of what happens to a seat's connections, it says what an attempt has to report.

    A connection that several domains share is a session of each, told with the first mail to it: a domain that
    publishes a policy is not to be left without a report because another one's mail came first. What failed is told
    with the next attempt, which is the one that it was for. Mail by a route of the operator's, and reports, have
    nothing to tell.
    """

    def __init__(self, paths: Paths, path: Path) -> None:
        self._paths = paths
        self._path = path
        self._failed: list[TlsSession] = []
        self._hop: Hop | None = None
        self._told: set[str] = set()

    def refused(self, item: Item, hop: Hop | None, answer: Replied | Broken) -> None:
        """There is no connection to ``hop``; None when it did not come to one."""
        protection = self._protection(item)
        if protection is not None:
            found = session_refused(protection, _place(hop), answer)
            if found is not None:
                self._failed.append(found)

    def opened(self, hop: Hop) -> None:
        """There is a connection to ``hop`` from now on."""
        self._hop = hop
        self._told.clear()

    def of_attempt(self, item: Item, connection: Connection | None = None) -> tuple[TlsSession, ...]:
        """What to report with the attempt for ``item``, over ``connection`` if there is one."""
        failed, self._failed = self._failed, []
        found = self._opened(item, connection.address, connection.tls) if connection is not None else None
        return (*failed, found) if found is not None else tuple(failed)

    def _opened(self, item: Item, address: str, tls: Tls) -> TlsSession | None:
        domain = item.mail.envelope.domain
        if self._hop is None or domain in self._told:
            return None
        self._told.add(domain)
        protection = self._protection(item)
        if protection is None:
            return None
        place = _place(self._hop)
        return session_opened(protection, Place(place.mx_host, address, place.sending_ip), tls)

    def _protection(self, item: Item) -> Protection | None:
        """What the mail's domain publishes; None when that was not asked for."""
        if not self._path.protection.domain:
            return None
        known = self._paths.known(item.mail.envelope.domain)
        if isinstance(known, Path) and known.key == self._path.key:
            return known.protection
        return self._path.protection


def _place(hop: Hop | None) -> Place:
    return Place(hop.host, hop.address or "", hop.source_address or "") if hop else Place()
