"""From a send event to the mails it asks for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from sluice.domain.admission import Admitted, Delivery, Limits, admit
from sluice.domain.conclusion import Recorder
from sluice.domain.content import (
    Rendered,
    compose_content,
    encode_attachments,
    given_content,
    message_id_of,
    needs_smtputf8,
)
from sluice.domain.errors import Refused
from sluice.domain.events import Priority, SendEvent
from sluice.domain.mail import Envelope, Mail, Progress, Waits
from sluice.domain.mime import Part
from sluice.domain.outcome import Outcome, Source
from sluice.domain.redriven import Redrive
from sluice.domain.reference import Template, Tenant
from sluice.domain.site import Site, lane_for
from sluice.domain.variables import choose_content, merge_variables
from sluice.ports.reference import Reference
from sluice.ports.renderer import Renderer
from sluice.ports.signer import Signer


class Origin(msgspec.Struct, frozen=True):
    """Where an event comes from: the priority of its topic, when it was published, its trace, its record, and the plan
    that drives it again."""

    priority: Priority
    published_at: float
    traceparent: str | None = None
    source: Source | None = None
    redrive: Redrive | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace id of a W3C ``traceparent`` (its second field)."""
        parts = (self.traceparent or "").split("-")
        return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None


class Made(msgspec.Struct, frozen=True):
    """What came of one recipient: a mail with the outcome ``composed``, or only the outcome that says why not."""

    outcome: Outcome
    mail: Mail | None = None


class Composer:
    """Composes mails. Decides nothing about when or where; does no I/O beyond its ports."""

    def __init__(
        self,
        *,
        reference: Reference,
        renderer: Renderer,
        signer: Signer,
        recorder: Recorder,
        limits: Limits,
        site_of: Callable[[str], Site],
    ) -> None:
        """``site_of`` tells the site of a domain whose site is known already."""
        self._reference = reference
        self._renderer = renderer
        self._signer = signer
        self._recorder = recorder
        self._limits = limits
        self._site_of = site_of

    def follow(self, limits: Limits) -> None:
        """Other limits are in force, for events that are admitted from now on."""
        self._limits = limits

    def admit(self, event: SendEvent, origin: Origin, now: float) -> Admitted:
        """Check the event against its tenant and the limits; raises :class:`Refused`."""
        tenant = self._tenant(event)
        admitted = admit(
            event,
            tenant,
            priority=origin.priority,
            now=now,
            published_at=origin.published_at,
            limits=self._limits,
        )
        if event.template is not None:
            self._template(event)
        if origin.redrive is not None and origin.redrive.only is not None:
            return admitted.for_one(origin.redrive.only)
        return admitted

    def compose(self, admitted: Admitted, origin: Origin, now: float) -> list[Made]:
        """One result per recipient: what is wrong with one of them does not touch the others.

        Raises :class:`sluice.ports.signer.SigningKeyMissing`, the operator's fault, for the event as a whole.
        """
        parts = encode_attachments(admitted.event)
        given = given_content(admitted.event) if admitted.event.template is None else None
        return [self._one(admitted, delivery, given, parts, origin, now) for delivery in admitted.wanted]

    def _one(
        self, admitted: Admitted, delivery: Delivery, given: Rendered | None, parts: tuple[Part, ...],
        origin: Origin, now: float,
    ) -> Made:  # fmt: skip
        event = admitted.event
        address = delivery.address.addr_spec
        suppression = self._reference.suppressed(event.tenant_id, event.stream, address, now)
        if suppression is not None:
            return Made(
                self._recorder.of_event(
                    event, delivery.message_id, "suppressed", now,
                    priority=origin.priority, queued_at=origin.published_at, recipient=delivery.address,
                    category="suppressed", fault="recipient", reason=suppression.reason, trace_id=origin.trace_id,
                    source=origin.source, redrive=origin.redrive,
                )
            )  # fmt: skip
        tenant = self._tenant(event)
        try:
            rendered = given or self._render(admitted, delivery, tenant)
            unsigned = compose_content(admitted, delivery, rendered, parts, date=now)
            if len(unsigned) > self._limits.max_bytes * 3 // 2:
                raise Refused("attachments", "the mail is too large once encoded", "size")
        except Refused as error:
            return Made(self.refused(event, delivery.message_id, error, origin, now, delivery))
        content = self._signer.sign(unsigned, tenant.signing, now=now)
        waits = _waits(admitted, origin, now)
        mail = Mail(self._envelope(admitted, delivery, content, origin, now), content, Progress(waits=waits))
        composed = self._recorder.of_mail(
            mail.envelope, "composed", now, waits=waits, source=origin.source, expires_at=event.expires_at
        )
        return Made(composed, mail)

    def _render(self, admitted: Admitted, delivery: Delivery, tenant: Tenant) -> Rendered:
        event = admitted.event
        asked = event.template
        if asked is None:
            return given_content(event)
        template = self._template(event)
        shown = admitted.deliveries[delivery.rendered_for].address.addr_spec
        profile = self._reference.profile(event.tenant_id, shown)
        content = choose_content(
            template, delivery.locale, asked.locale, profile.locale if profile else None, tenant.locale
        )
        variables = merge_variables(template, tenant, profile, asked, delivery.variables)
        return self._renderer.render(template, content, variables)

    def _envelope(self, admitted: Admitted, delivery: Delivery, content: bytes, origin: Origin, now: float) -> Envelope:
        event = admitted.event
        site = self._site_of(delivery.address.domain_ascii)
        return Envelope(
            message_id=delivery.message_id,
            rfc5322_message_id=message_id_of(admitted, delivery),
            tenant_id=event.tenant_id,
            stream=event.stream,
            priority=origin.priority,
            mail_from=admitted.return_path.addr_spec,
            rcpt_to=delivery.address.addr_spec,
            domain=delivery.address.domain_ascii,
            site=site.name,
            lane=lane_for(site, delivery.message_id),
            size=len(content),
            queued_at=origin.published_at,
            composed_at=now,
            expires_at=admitted.expires_at,
            campaign_id=event.campaign_id,
            template_id=event.template.id if event.template else None,
            tags=event.tags,
            metadata=event.metadata,
            in_doubt=admitted.in_doubt,
            smtputf8=needs_smtputf8(admitted, delivery),
            despite_tls=event.report_type is not None,
            trace_id=origin.trace_id,
            egress=origin.redrive.egress if origin.redrive else None,
            redrive_plan=origin.redrive.plan if origin.redrive else None,
            redrive_of=origin.redrive.of if origin.redrive else None,
        )

    def driven(self, admitted: Admitted, redrive: Redrive, origin: Origin, now: float) -> Outcome:
        """The outcome of the first mail: it is driven again from now on, and by this plan."""
        (delivery,) = admitted.wanted
        return self._recorder.of_event(
            admitted.event, redrive.of, "redriven", now, redrive.plan,
            priority=origin.priority, queued_at=origin.published_at, recipient=delivery.address,
            reason=f"driven again as {delivery.message_id}", trace_id=origin.trace_id, redrive=redrive,
        )  # fmt: skip

    def _tenant(self, event: SendEvent) -> Tenant:
        tenant = self._reference.tenant(event.tenant_id)
        if tenant is None:
            raise Refused("tenant_id", "there is no such tenant", "tenant")
        return tenant

    def _template(self, event: SendEvent) -> Template:
        asked = event.template
        template = self._reference.template(event.tenant_id, asked.id, asked.version) if asked else None
        if asked is None or template is None:
            version = f" version {asked.version}" if asked and asked.version else ""
            raise Refused("template.id", f"the tenant has no such template{version}", "template")
        return template

    def refused(
        self, event: SendEvent, message_id: str, error: Refused, origin: Origin, now: float,
        delivery: Delivery | None = None,
    ) -> Outcome:  # fmt: skip
        """The outcome of a refusal: ``expired`` when the event came too late, else ``rejected``."""
        return self._recorder.of_event(
            event,
            message_id,
            "expired" if error.category == "expired" else "rejected",
            now,
            error.field,
            priority=origin.priority,
            queued_at=origin.published_at,
            recipient=delivery.address if delivery else None,
            category=error.category,
            fault="producer",
            field=error.field,
            reason=error.reason,
            trace_id=origin.trace_id,
            source=origin.source,
            redrive=origin.redrive,
        )


def _waits(admitted: Admitted, origin: Origin, now: float) -> Waits:
    """Where the time since the publication went: until it was due, and then in the queue."""
    due = max(origin.published_at, admitted.send_at or origin.published_at)
    return Waits().plus("schedule", (due - origin.published_at) * 1000).plus("queue", (now - due) * 1000)


def message_ids(event: SendEvent) -> list[str]:
    """The ids of the mails that an event asks for, as :func:`sluice.domain.admission.admit` gives them."""
    total = len(event.to) + len(event.cc) + len(event.bcc)
    return [event.message_id] if total == 1 else [f"{event.message_id}.{index}" for index in range(total)]


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
