"""What a receiving server sees of several egresses: where connections come from, and by what name they say hello."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.support.deliver import Worker, rules_with
from tests.support.scripted_smtp import Peer, ScriptedServer, polite

from sluice.adapters.rules import load_rules
from sluice.adapters.smtp.mailer import SmtpMailer
from sluice.domain.egress import Egress, Egresses
from sluice.domain.errors import RuleError
from sluice.domain.shaping import Rate
from sluice.domain.triggers import Trigger, Triggers
from sluice.ports.mailer import Timeouts
from sluice.runtime import wiring
from sluice.runtime.config import Settings

QUICK = Timeouts(connect=10, command=10, data=10, dot=10, quit=1)
WITHIN_S = 60.0


class Seen:
    """A server that remembers its callers, and refuses those from some addresses."""

    def __init__(self) -> None:
        self.callers: list[tuple[str, Peer]] = []
        self.answers: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

    async def serve(self, peer: Peer) -> None:
        source = peer.writer.get_extra_info("peername")[0]
        self.callers.append((source, peer))
        await polite(self.answers[source])(peer)

    def hellos(self) -> set[tuple[str, bytes]]:
        return {(source, peer.commands[0]) for source, peer in self.callers}

    def mails(self, source: str) -> int:
        return sum(len(peer.contents) for address, peer in self.callers if address == source)


async def taken(worker: Worker, count: int, start: int, **given: Any) -> None:
    """Bring mails in and wait until they are done."""
    until = len(worker.done) + count
    await worker.take(
        *(worker.record(worker.envelope(f"m{number}", **given)) for number in range(start, start + count))
    )
    async with asyncio.timeout(WITHIN_S):
        while len(worker.done) < until:
            await worker.clock.advance(0.01)
            await asyncio.sleep(0.001)


def worker_to(server: ScriptedServer, egresses: str, *triggers: Trigger, **site: Any) -> Worker:
    rules = msgspec.structs.replace(
        rules_with(**{"rate": None, "connect_rate": None, **site}), triggers=Triggers(triggers)
    )
    return Worker(
        mailer=cast("Any", SmtpMailer(QUICK)),
        rules=rules,
        routes=f"*=smtp://127.0.0.1:{server.port}?tls=none",
        egresses=Egresses.parse(egresses, "host.example"),
        patience=1e9,
    )


async def test_a_server_sees_each_egress_by_its_address_and_name() -> None:
    """A pool of two; outcomes say which mail came from where."""
    seen = Seen()
    async with ScriptedServer(seen.serve) as server:
        worker = worker_to(server, "one=127.0.0.1?ehlo=one.example two=127.0.0.2?ehlo=two.example")
        await taken(worker, 30, 0)
        assert seen.hellos() == {("127.0.0.1", b"EHLO one.example"), ("127.0.0.2", b"EHLO two.example")}
        delivered = [outcome.egress for outcome in worker.outcomes("delivered")]
        assert seen.mails("127.0.0.1") == delivered.count("one") > 5
        assert seen.mails("127.0.0.2") == delivered.count("two") > 5
        await worker.close()


async def test_after_a_block_the_server_is_called_from_elsewhere_until_the_time_is_over() -> None:
    """At the first reply, here; one site's block changes nothing for another's mail."""
    seen = Seen()
    trigger = Trigger(id="listed", action="switch_egress", egress="spare", lasts=600.0, rules=("list.dnsbl",))
    async with ScriptedServer(seen.serve) as server:
        worker = worker_to(
            server, "main=127.0.0.1?ehlo=main.example spare=127.0.0.2?ehlo=spare.example&pool=spare", trigger
        )
        await taken(worker, 3, 0)
        assert (seen.mails("127.0.0.1"), seen.mails("127.0.0.2")) == (3, 0)
        seen.answers["127.0.0.1"]["RCPT"] = b"554 5.7.1 blocked using zen.spamhaus.org\r\n"
        await taken(worker, 1, 10)
        assert [outcome.egress for outcome in worker.outcomes("bounced")] == ["main"]
        await taken(worker, 5, 20)
        assert seen.mails("127.0.0.2") == 5
        assert ("127.0.0.2", b"EHLO spare.example") in seen.hellos()
        seen.answers.clear()
        await taken(worker, 2, 30, domain="other.example")
        assert seen.mails("127.0.0.1") == 5
        await worker.clock.advance(601.0)
        worker.handler.sweep()
        await taken(worker, 2, 40)
        assert seen.mails("127.0.0.1") == 7
        await worker.close()


async def test_a_server_never_sees_more_connections_from_an_egress_than_it_may_have() -> None:
    """Three of each address; ten for all."""
    seen = Seen()
    now: dict[str, int] = {}
    most: dict[str, int] = {}

    async def count(peer: Peer) -> None:
        source = peer.writer.get_extra_info("peername")[0]
        now[source] = now.get(source, 0) + 1
        most[source] = max(most.get(source, 0), now[source])
        try:
            await seen.serve(peer)
        finally:
            now[source] -= 1

    async with ScriptedServer(count) as server:
        worker = worker_to(server, "one=127.0.0.1 two=127.0.0.2", egress_connections=3, connections=10)
        await taken(worker, 60, 0, priority="high")
        assert all(0 < most[source] <= 3 for source in ("127.0.0.1", "127.0.0.2"))
        assert seen.mails("127.0.0.1") + seen.mails("127.0.0.2") == 60
        await worker.close()


def test_addresses_that_this_machine_does_not_have_are_refused_at_the_start() -> None:
    """192.0.2.0/24 is for documentation: nobody has it."""
    rules = rules_with()
    kept = wiring.egresses(Settings(egresses="a=127.0.0.1 b=127.0.0.2?pool=b"), rules)
    assert [egress.name for egress in kept.all] == ["a", "b"]
    with pytest.raises(RuleError, match=r"SLUICE_EGRESSES: .* of b: 192\.0\.2\.77"):
        wiring.egresses(Settings(egresses="a=127.0.0.1 b=192.0.2.77"), rules)
    with pytest.raises(RuleError, match=r"SLUICE_SOURCE_ADDRESS: .*192\.0\.2\.77"):
        wiring.egresses(Settings(source_address="192.0.2.77"), rules)


def test_egresses_that_rules_name_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "sites.toml").write_text('[[site]]\nname = "x"\negress = "warm"\n')
    rules = load_rules(tmp_path)
    with pytest.raises(RuleError, match=r"sites\.toml: egress: there is no egress and no pool named warm"):
        wiring.egresses(Settings(), rules)
    assert wiring.egresses(Settings(egresses="a=127.0.0.1?pool=warm"), rules).knows("warm")


def test_the_old_settings_and_the_new_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="takes the place of source_address"):
        Settings(egresses="a=127.0.0.1", source_address="127.0.0.1")
    one = wiring.egresses(
        Settings(source_address="127.0.0.1", egress_rate="5/s", ehlo_name="out.example"), rules_with()
    )
    assert one.all == (Egress("127.0.0.1", "out.example", ("127.0.0.1",), rate=Rate.parse("5/s")),)
