"""A tenant's limit is one limit over all sites and workers, and other tenants' mail does not wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
from tests.support.busiest import busiest_second
from tests.support.counting_sink import CountingSink
from tests.support.stack import Stack, wait_for
from tests.support.workers import counting_sink, publish, several_workers

from sluice.domain.events import Mailbox
from sluice.domain.reference import Tenant
from sluice.domain.site import lane_partition
from sluice.local.seed import example_reference

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
RATE, BURST = 60, 4
SITES = [f"limited{number}.example" for number in range(8)]


@pytest.fixture(scope="module")
def sink() -> Iterator[CountingSink]:
    """Where everything goes."""
    with counting_sink() as made:
        yield made


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, sink: CountingSink) -> Iterator[Stack]:
    """Two deliver workers, of which only the first runs; tenant acme has a limit."""
    reference = [
        msgspec.structs.replace(entry, rate=f"{RATE}/s,burst={BURST}")
        if isinstance(entry, Tenant) and entry.tenant_id == "acme"
        else entry
        for entry in example_reference()
    ]
    free = Tenant(tenant_id="free", domains=["free.example"], from_=Mailbox("a@free.example"))
    with several_workers(tmp_path_factory.mktemp("shared"), sink, deliver=2, reference=[*reference, free]) as made:
        yield made


def test_a_tenants_limit_holds_through_standstills_a_join_and_a_death(workers: Stack, sink: CountingSink) -> None:
    """Counted where the mail arrives."""
    assert len({lane_partition(f"{site}#0", 4) for site in SITES}) > 1
    ids = publish(workers, [f"u{number}@{SITES[number % len(SITES)]}" for number in range(1600)])
    wait_for(lambda: sum(sink.arrived()[site] for site in SITES), lambda count: count > 100, 60, "the first mails")
    others = publish(workers, [f"free{number}@other.example" for number in range(100)], "free")
    wait_for(lambda: sink.arrived()["other.example"], lambda count: count == len(others), 15, "the other tenant's")
    assert sum(sink.arrived()[site] for site in SITES) < len(ids)
    for _ in range(3):
        # Mails whose turns came meanwhile have their attempts written down together.
        workers.suspend("kafka", 0.7)
        time.sleep(1.5)
    workers.start("deliver-2")
    time.sleep(8)
    workers.kill("deliver-1")
    wait_for(lambda: workers.equation(ids).delivered, lambda count: count == len(ids), 150, "all mails")
    assert busiest_second(at for at, to in sink.mails if to in SITES) <= 1.1 * RATE + BURST + 2
    owners = workers.query(
        "SELECT DISTINCT node FROM {db}.outcomes WHERE event_type = 'delivered' AND tenant_id = 'acme'"
    )
    assert len(owners) == 2, "the limit was never shared: nothing was shown"
