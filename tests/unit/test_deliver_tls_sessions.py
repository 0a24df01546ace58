"""What deliver tells of TLS sessions: with which outcome, of which domain, and how often."""

from __future__ import annotations

from tests.support.deliver import Worker

from sluice.adapters.memory.clock import MemoryClock
from sluice.adapters.memory.resolver import MemoryResolver
from sluice.adapters.memory.tls_policies import MemoryDaneRecords, MemoryStsPolicies
from sluice.deliver.protections import Protections
from sluice.domain.dane import DaneFailed
from sluice.domain.mta_sts import StsFailure, StsPolicy
from sluice.domain.outcome import OutcomeType
from sluice.domain.smtp import Broken
from sluice.domain.tls_sessions import TlsSession
from sluice.ports.resolver import LookupFailed, MxHosts
from sluice.ports.tls_policies import DaneHosts

MX = MxHosts(((10, "mx.example"),), 3_600)


class World:
    """A worker that asks twins what domains publish."""

    def __init__(self) -> None:
        self.sts, self.dane = MemoryStsPolicies(), MemoryDaneRecords()
        resolver = MemoryResolver(dict.fromkeys(("a.example", "b.example"), MX), {"mx.example": ("192.0.2.1",)})
        self.worker = Worker(
            clock=MemoryClock(), routes="*=mx", resolver=resolver, protections=Protections(self.sts, self.dane)
        )

    async def send(self, message_id: str, domain: str = "a.example", *, despite_tls: bool = False) -> None:
        envelope = self.worker.envelope(
            message_id, domain=domain, site="mx.example", lane="mx.example#0", despite_tls=despite_tls
        )
        await self.worker.take(self.worker.record(envelope))
        await self.worker.clock.advance(2.0)

    def told(self, kind: OutcomeType | None = None) -> list[tuple[str, str, list[TlsSession]]]:
        found = self.worker.outcomes(kind)
        return [(one.message_id, one.event_type, one.tls_sessions) for one in found if one.tls_sessions]


def told_of(world: World) -> list[tuple[str, str, str, str | None]]:
    return [
        (message_id, kind, session.policy_type, session.result)
        for message_id, kind, sessions in world.told()
        for session in sessions
    ]


PLAIN = ("no-policy-found", "starttls-not-supported")
"""The twin's servers have no TLS."""


async def test_a_connection_is_told_once_for_each_domain_whose_mail_it_takes() -> None:
    world = World()
    await world.send("m1")
    await world.send("m2")
    await world.send("m3", "b.example")
    assert told_of(world) == [("m1", "attempted", *PLAIN), ("m3", "attempted", *PLAIN)]
    assert len(world.worker.mailer.opened) == 1
    await world.worker.close()


async def test_a_policy_in_testing_that_does_not_name_the_host_is_told_though_the_mail_goes() -> None:
    world = World()
    world.sts.policies["a.example"] = StsPolicy("testing", 86_400, ("other.example",))
    await world.send("m1")
    ((_, _, (session,)),) = world.told()
    assert (session.policy_type, session.result) == ("sts", "validation-failure")
    assert session.policy[:2] == ["version: STSv1", "mode: testing"]
    assert (session.mx_host, session.receiving_ip) == ("mx.example", "192.0.2.1")
    assert [one.message_id for one in world.worker.outcomes("delivered")] == ["m1"]
    await world.worker.close()


async def test_a_handshake_that_fails_is_told_with_the_deferral_and_again_with_the_next() -> None:
    world = World()
    world.sts.policies["a.example"] = StsPolicy("enforce", 86_400, ("mx.example",))
    failure = Broken("starttls", "tls", "mta_sts: certificate verify failed: certificate has expired")
    world.worker.mailer.refuse("mx.example", failure, failure)
    await world.send("m1")
    assert told_of(world) == [("m1", "deferred", "sts", "certificate-expired")]
    await world.worker.close()


async def test_a_connection_that_is_refused_tells_nothing() -> None:
    world = World()
    world.worker.mailer.refuse("mx.example", Broken("connect", "refused"))
    await world.send("m1")
    assert [one.message_id for one in world.worker.outcomes("deferred")] == ["m1"]
    assert told_of(world) == []
    await world.worker.close()


async def test_a_host_that_the_policy_does_not_name_is_told_though_none_was_spoken_to() -> None:
    world = World()
    world.sts.policies["a.example"] = StsPolicy("enforce", 86_400, ("other.example",))
    await world.send("m1")
    ((_, kind, (session,)),) = world.told()
    assert (kind, session.policy_type, session.result) == ("deferred", "sts", "validation-failure")
    assert session.mx_host == "mx.example"
    await world.worker.close()


async def test_dnssec_that_does_not_hold_is_told() -> None:
    world = World()
    world.dane.domains["a.example"] = LookupFailed("servfail")
    await world.send("m1")
    assert told_of(world) == [("m1", "deferred", "tlsa", "dnssec-invalid")]
    await world.worker.close()


async def test_a_host_whose_records_cannot_be_had_is_told_by_name() -> None:
    world = World()
    world.dane.domains["a.example"] = DaneHosts({"mx.example": DaneFailed("servfail")}, 300.0)
    await world.send("m1")
    ((_, kind, (session,)),) = world.told()
    assert (kind, session.policy_type, session.result) == ("deferred", "tlsa", "dnssec-invalid")
    assert session.mx_host == "mx.example"
    await world.worker.close()


async def test_a_policy_that_cannot_be_fetched_is_told() -> None:
    world = World()
    world.sts.failures["a.example"] = StsFailure("sts-policy-fetch-error", "status 404")
    await world.send("m1")
    assert told_of(world) == [("m1", "attempted", "sts", "sts-policy-fetch-error")]
    await world.worker.close()


async def test_a_report_goes_though_the_policy_fails_and_is_no_session_of_the_next_report() -> None:
    world = World()
    world.sts.policies["a.example"] = StsPolicy("enforce", 86_400, ("other.example",))
    world.dane.domains["a.example"] = LookupFailed("servfail")
    await world.send("m1", despite_tls=True)
    (delivered,) = world.worker.outcomes("delivered")
    assert delivered.tls is not None
    assert delivered.tls.policy == "opportunistic"
    assert told_of(world) == []
    await world.worker.close()


async def test_mail_that_asks_for_protection_never_takes_a_reports_connection() -> None:
    world = World()
    world.sts.policies["a.example"] = StsPolicy("enforce", 86_400, ("mx.example",))
    await world.send("m1", despite_tls=True)
    await world.send("m2")
    assert [connection.tls.policy for connection in world.worker.mailer.opened] == ["opportunistic", "mta_sts"]
    await world.worker.close()
