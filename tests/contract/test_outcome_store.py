"""Every outcome store: a batch is kept once however often it is stored. The memory twin, and ClickHouse itself."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.embedded.ports import free_port
from sluice.adapters.memory.outcomes import MemoryOutcomes
from sluice.domain.mail import Waits
from sluice.domain.outcome import Outcome, SmtpReply, Source, TlsUsed
from sluice.ports.outcomes import Address, OutcomeStore, Recorded, StoreAway

AT = datetime(2026, 11, 30, 23, 59, 58, 123000, tzinfo=UTC)

Counts = Callable[[], Awaitable[tuple[int, int]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture(params=["memory", pytest.param("clickhouse", marks=pytest.mark.slow)])
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[tuple[OutcomeStore, Counts]]:
    """A store, and how many outcomes and addresses it holds."""
    if request.param == "memory":
        memory = MemoryOutcomes()

        async def in_memory() -> tuple[int, int]:
            return len(memory.outcomes), len(memory.addresses)

        yield memory, in_memory
        return
    server: EmbeddedClickHouse = request.getfixturevalue("server")
    clickhouse = ClickHouse(Target(server.url, database="contract"))
    clickhouse.command("DROP DATABASE IF EXISTS contract")
    migrations.apply(clickhouse)

    async def in_clickhouse() -> tuple[int, int]:
        (found,) = clickhouse.rows(
            "SELECT (SELECT count() FROM contract.outcomes) AS outcomes, "
            "(SELECT count() FROM contract.recipients) AS addresses, "
            "(SELECT sum(outcomes) FROM contract.outcomes_per_minute) AS counted"
        )
        assert found["counted"] == found["outcomes"]
        return found["outcomes"], found["addresses"]

    yield ClickHouseOutcomes(clickhouse), in_clickhouse
    clickhouse.close()


def outcomes(first: int, count: int, **fields: object) -> list[Recorded]:
    return [
        Recorded(
            Outcome(
                **{
                    "event_id": f"e{number}",
                    "event_type": "delivered",
                    "event_time": AT + timedelta(milliseconds=100 * number),
                    "message_id": f"m{number}",
                    "tenant_id": "acme",
                    "queued_at": AT,
                    **fields,
                }
            ),
            0,
            number,
        )
        for number in range(first, first + count)
    ]


def addresses(first: int, count: int) -> list[Address]:
    return [
        Address(f"m{n}", "acme", f"u{n}@example.com", f"h{n}", int(AT.timestamp())) for n in range(first, first + count)
    ]


async def test_a_batch_stored_again_changes_nothing(kept: tuple[OutcomeStore, Counts]) -> None:
    store, counts = kept
    for _ in range(3):
        await store.store("t:0:0-99", outcomes(0, 100), addresses(0, 50))
    assert await counts() == (100, 50)


async def test_equal_batches_under_other_tokens_are_other_batches(kept: tuple[OutcomeStore, Counts]) -> None:
    store, counts = kept
    await store.store("t:0:0-9", outcomes(0, 10), [])
    await store.store("t:0:10-19", outcomes(0, 10), [])
    assert await counts() == (20, 0)


async def test_an_old_batch_stored_again_among_new_ones_changes_nothing(kept: tuple[OutcomeStore, Counts]) -> None:
    store, counts = kept
    for batch in range(12):
        await store.store(f"t:0:{batch}", outcomes(batch * 10, 10), addresses(batch * 10, 10))
        await store.store(f"t:0:{batch // 2}", outcomes(batch // 2 * 10, 10), addresses(batch // 2 * 10, 10))
    assert await counts() == (120, 120)


async def test_a_batch_over_the_end_of_a_month_is_one_batch(kept: tuple[OutcomeStore, Counts]) -> None:
    store, counts = kept
    for _ in range(2):
        await store.store("t:0:0-49", outcomes(0, 50), [])
    assert {entry.outcome.event_time.month for entry in outcomes(0, 50)} == {11, 12}
    assert await counts() == (50, 0)


async def test_every_field_and_every_odd_value_is_taken(kept: tuple[OutcomeStore, Counts]) -> None:
    store, counts = kept
    odd = [
        *outcomes(0, 1, event_time=datetime(9999, 1, 1, tzinfo=UTC), queued_at=datetime(1066, 10, 14, tzinfo=UTC)),
        *outcomes(1, 1, attempt=-1, size_bytes=1 << 40, waits=Waits(queue=1 << 50, retry=-5), duration_ms=1e300),
        *outcomes(2, 1, smtp=SmtpReply(70000, "dot", "line\r\n\x00\t'\"\\ 中文"), tls=TlsUsed("required", "TLSv1.3")),
        *outcomes(3, 1, source=Source("mail.ready.high", 1 << 40, 1 << 70), tags=["a", "中"], metadata={"k": "v'\""}),
        *outcomes(4, 1, site="x" * 10_000, reason="", field="to[0].email", fault="recipient"),
    ]
    await store.store("t:0:0-4", odd, [])
    assert await counts() == (5, 0)


async def test_a_store_that_cannot_be_reached_says_so() -> None:
    store = ClickHouseOutcomes(ClickHouse(Target(f"http://127.0.0.1:{free_port()}", connect_timeout=1)))
    with pytest.raises(StoreAway, match=r"127\.0\.0\.1"):
        await store.store("t:0:0-0", outcomes(0, 1), [])


@pytest.mark.slow
async def test_a_store_without_schema_says_so(server: EmbeddedClickHouse) -> None:
    store = ClickHouseOutcomes(ClickHouse(Target(server.url, database="nowhere")))
    with pytest.raises(StoreAway, match="nowhere"):
        await store.store("t:0:0-0", outcomes(0, 1), [])
