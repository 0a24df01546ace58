"""Whether a send event may become mail, and which mails.

Categories of a refusal, stable for analysts: ``invalid``, ``invalid_recipient``, ``invalid_sender``,
``duplicate_recipient``, ``injection``, ``content``, ``attachment``, ``size``, ``schedule``, ``expired``, ``tenant``,
``domain_not_allowed``, ``unsubscribe``, ``template``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from sluice.domain.addresses import Address, Party, domain_to_ascii, parse_address
from sluice.domain.attachments import check_attachments
from sluice.domain.errors import Refused
from sluice.domain.events import InDoubtPolicy, Mailbox, Priority, SendEvent, Unsubscribe
from sluice.domain.headers import check_custom, check_text
from sluice.domain.reference import Tenant
from sluice.domain.unsubscribe import effective_unsubscribe

DAY = 86_400.0
Kind = Literal["to", "cc", "bcc"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator allows. Sizes in octets, times in seconds."""

    max_bytes: int = 25 * 1024 * 1024
    """Attachments decoded, HTML and text together."""
    max_schedule: float = 30 * DAY
    """How far ahead of its publication ``send_at`` may lie."""
    expire_high: float = DAY
    expire_normal: float = 2 * DAY
    expire_bulk: float = 2 * DAY
    """How long after it was due a mail is still worth sending, where the event does not say."""

    def expiry(self, priority: Priority) -> float:
        """Seconds after which mail of ``priority`` is given up."""
        return {"high": self.expire_high, "normal": self.expire_normal, "bulk": self.expire_bulk}[priority]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One mail to be made of an event.

    ``index`` counts over ``to``, ``cc`` and ``bcc`` in this order. ``message_id`` is the event's own when it has one
    recipient in all, else ``{event's}.{index}``. ``rendered_for`` is the index of the ``to`` entry whose content this
    mail carries: its own, or 0 for cc and bcc, which get copies of what the first one gets; ``locale`` and
    ``variables`` are that entry's.
    """

    kind: Kind
    index: int
    message_id: str
    address: Address
    name: str | None = None
    locale: str | None = None
    variables: dict[str, Any] = {}
    rendered_for: int = 0


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A send event that may become mail, its defaults filled in. Times in seconds since the epoch."""

    event: SendEvent
    priority: Priority
    sender: Party
    """The From field."""
    return_path: Address
    reply_to: Party | None
    unsubscribe: Unsubscribe | None
    send_at: float | None
    expires_at: float
    in_doubt: InDoubtPolicy
    deliveries: tuple[Delivery, ...]
    only: int | None = None
    """The one delivery that is wanted, where not all are."""

    @property
    def wanted(self) -> tuple[Delivery, ...]:
        """The mails to be made."""
        return self.deliveries if self.only is None else (self.deliveries[self.only],)

    def for_one(self, index: int) -> Admitted:
        """The same for one of its recipients, whose mail has the event's own id then.

        Raises :class:`Refused` when the event has no such recipient.
        """
        if index >= len(self.deliveries):
            raise Refused("to", "has no recipient of that number", "invalid")
        one = msgspec.structs.replace(self.deliveries[index], message_id=self.event.message_id)
        deliveries = (*self.deliveries[:index], one, *self.deliveries[index + 1 :])
        return msgspec.structs.replace(self, deliveries=deliveries, only=index)

    @property
    def cc(self) -> list[Party]:
        """Who is named in the Cc field of every mail."""
        first = len(self.event.to)
        return [Party(each.address, each.name) for each in self.deliveries[first : first + len(self.event.cc)]]


def admit(
    event: SendEvent, tenant: Tenant, *, priority: Priority, now: float, published_at: float, limits: Limits
) -> Admitted:
    """Check an event against its tenant and the operator's limits, and say which mails follow from it.

    ``now`` and ``published_at`` are seconds since the epoch. An event without ``expires_at`` expires a fixed time after
    it was due, so that old events read again (after Kafka forgot a group's offsets) send nothing.

    Raises :class:`Refused` for the first thing wrong, in this order: tenant, expiry, schedule, sender, recipients,
    content, size, headers, unsubscribe. The same address twice among ``to``, ``cc`` and ``bcc`` is refused rather than
    collapsed: the two entries may differ, and a mail that is silently not sent cannot be accounted for.
    """
    if not tenant.active or tenant.tenant_id != event.tenant_id:
        raise Refused("tenant_id", "the tenant is not active", "tenant")
    if event.report_type is not None and not tenant.tls_reports:
        raise Refused("report_type", "the tenant may not send reports: its tls_reports is not set", "tenant")
    send_at, expires_at = _times(event, priority, now, published_at, limits)
    sender = _sender(event, tenant)
    deliveries = _deliveries(event)
    _check_content(event, limits)
    check_custom(event.headers)
    return Admitted(
        event=event,
        priority=priority,
        sender=sender,
        return_path=_return_path(event, tenant, sender),
        reply_to=_party(event.reply_to, "reply_to", "invalid_sender") if event.reply_to else None,
        unsubscribe=effective_unsubscribe(event.unsubscribe, tenant.unsubscribe, event.stream),
        send_at=send_at,
        expires_at=expires_at,
        in_doubt=event.in_doubt or tenant.in_doubt,
        deliveries=deliveries,
    )


def _times(
    event: SendEvent, priority: Priority, now: float, published_at: float, limits: Limits
) -> tuple[float | None, float]:
    send_at = event.send_at.timestamp() if event.send_at else None
    due = published_at if send_at is None else max(published_at, send_at)
    expires_at = event.expires_at.timestamp() if event.expires_at else due + limits.expiry(priority)
    if expires_at <= now:
        raise Refused("expires_at", "the event expired before it was read", "expired")
    if due - published_at > limits.max_schedule:
        raise Refused("send_at", f"is more than {limits.max_schedule / DAY:g} days ahead", "schedule")
    if due >= expires_at:
        raise Refused("send_at", "is not before expires_at", "schedule")
    return send_at, expires_at


def _party(mailbox: Mailbox, field: str, category: str) -> Party:
    name = (mailbox.name or "").strip() or None
    if name is not None:
        check_text(name, f"{field}.name")
    return Party(parse_address(mailbox.email, f"{field}.email", category), name)


def _sender(event: SendEvent, tenant: Tenant) -> Party:
    mailbox = event.from_ or tenant.from_
    if mailbox is None:
        raise Refused("from", "is missing, and the tenant has no default", "invalid_sender")
    party = _party(mailbox, "from", "invalid_sender")
    _check_domain(party.address, tenant, "from.email")
    return party


def _return_path(event: SendEvent, tenant: Tenant, sender: Party) -> Address:
    if event.return_path is not None:
        address = parse_address(event.return_path, "return_path", "invalid_sender")
        _check_domain(address, tenant, "return_path")
        return address
    if tenant.return_path is not None:
        return parse_address(tenant.return_path, "return_path", "invalid_sender")
    return sender.address


def _check_domain(address: Address, tenant: Tenant, field: str) -> None:
    for allowed in tenant.domains:
        domain, _ = domain_to_ascii(allowed)
        if domain and (address.domain_ascii == domain or address.domain_ascii.endswith(f".{domain}")):
            return
    raise Refused(field, "its domain is not one of the tenant's", "domain_not_allowed")


def _deliveries(event: SendEvent) -> tuple[Delivery, ...]:
    total = len(event.to) + len(event.cc) + len(event.bcc)
    made: list[Delivery] = []
    seen: set[Address] = set()
    first = event.to[0]
    for field, kind, mailbox in _recipients(event):
        index = len(made)
        party = _party(mailbox, field, "invalid_recipient")
        if party.address in seen:
            raise Refused(f"{field}.email", "the address is already among the recipients", "duplicate_recipient")
        seen.add(party.address)
        source = event.to[index] if kind == "to" else first
        made.append(
            Delivery(
                kind=kind,
                index=index,
                message_id=event.message_id if total == 1 else f"{event.message_id}.{index}",
                address=party.address,
                name=party.name,
                locale=source.locale,
                variables=source.variables,
                rendered_for=index if kind == "to" else 0,
            )
        )
    return tuple(made)


def _recipients(event: SendEvent) -> Iterator[tuple[str, Kind, Mailbox]]:
    for position, recipient in enumerate(event.to):
        yield f"to[{position}]", "to", Mailbox(recipient.email, recipient.name)
    for position, mailbox in enumerate(event.cc):
        yield f"cc[{position}]", "cc", mailbox
    for position, mailbox in enumerate(event.bcc):
        yield f"bcc[{position}]", "bcc", mailbox


def _check_content(event: SendEvent, limits: Limits) -> None:
    if event.template is not None:
        for field, value in (("subject", event.subject), ("html", event.html), ("text", event.text)):
            if value is not None:
                raise Refused(field, "is given beside a template; give one or the other", "content")
    elif event.html is None and event.text is None:
        raise Refused("template", "the event has neither a template nor html or text", "content")
    elif event.subject is None:
        raise Refused("subject", "is missing", "content")
    if event.subject is not None:
        check_text(event.subject, "subject")
    size = check_attachments(event.attachments)
    size += sum(len(body.encode("utf-8", "surrogatepass")) for body in (event.html, event.text) if body)
    if size > limits.max_bytes:
        field = "attachments" if event.attachments else "html" if event.html else "text"
        reason = f"content of {size:,} octets; at most {limits.max_bytes:,} are allowed, attachments decoded"
        raise Refused(field, reason, "size")
