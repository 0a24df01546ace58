"""A tenth of all batches is stored again, late, in other orders, after inserts that broke off in the middle: rows and
rollups are what one pass of everything would have left."""

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.clickhouse.queries import Queries
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.domain.mail import Waits
from sluice.domain.outcome import Outcome, SmtpReply
from sluice.ports.outcomes import Address, Recorded, StoreAway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
AT = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=1)
"""Batches span the end of a month, and are too young for any rule of retention."""
ROLLUPS = (
    "recipients", "outcomes_per_minute", "outcomes_per_day", "mails", "waits_per_hour", "replies_per_day",
    "variant_mails", "sites_per_day", "waits_of_all_per_hour",
)  # fmt: skip
BATCHES = 60


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        store = ClickHouse(Target(running.url, database="replayed"))
        migrations.apply(store)
        yield store
        store.close()


class Batch:
    """What a consumer would hand to the store, whole, each time."""

    def __init__(self, token: str, outcomes: list[Recorded]) -> None:
        self.token = token
        self.outcomes = outcomes
        self.addresses = [
            Address(o.message_id, o.tenant_id, f"{o.message_id}@example.com", "h", int(o.event_time.timestamp()))
            for o in {entry.outcome.message_id: entry.outcome for entry in outcomes}.values()
        ]


def mail(number: int, rng: random.Random) -> Iterator[Outcome]:
    """The outcomes of one mail, over the end of a month."""
    queued = AT + timedelta(seconds=rng.random() * 7200)
    fixed: dict[str, Any] = {
        "message_id": f"m{number}",
        "tenant_id": rng.choice(("acme", "globex")),
        "site": rng.choice(("google.com", "outlook.com", f"site{number % 7}.example")),
        "campaign_id": rng.choice((None, "autumn")),
        "variant": rng.choice((None, "a", "b")),
        "priority": rng.choice(("high", "bulk")),
        "queued_at": queued,
        "size_bytes": 1000 + number,
    }
    fate = rng.choice(("delivered", "delivered", "retried", "bounced", "waiting"))
    steps: list[tuple[str, dict[str, Any]]] = [("composed", {}), ("attempted", {"attempt": 1})]
    if fate in ("retried", "waiting"):
        reply = SmtpReply(451, "rcpt", f"4.7.1 try again in {rng.randint(1, 900)} seconds", "4.7.1")
        steps += [("deferred", {"attempt": 1, "smtp": reply, "category": "transient", "rule": "fallback.temporary"})]
    if fate == "bounced":
        reply = SmtpReply(550, "rcpt", "5.1.1 no such user", "5.1.1")
        steps += [("bounced", {"attempt": 1, "smtp": reply, "category": "invalid_recipient"})]
    if fate in ("delivered", "retried"):
        waits = Waits(queue=rng.randint(0, 900), rate=rng.choice((0, 4000)))
        steps += [("delivered", {"attempt": 2, "waits": waits, "duration_ms": 12.5, "smtp": SmtpReply(250, "dot")})]
    for step, (kind, fields) in enumerate(steps):
        at = queued + timedelta(seconds=step * rng.randint(1, 40))
        yield Outcome(event_id=f"{number}-{step}", event_type=kind, event_time=at, **fixed, **fields)  # type: ignore[arg-type]


def batches(rng: random.Random) -> list[Batch]:
    told = [outcome for number in range(BATCHES * 12) for outcome in mail(number, rng)]
    told.sort(key=lambda outcome: outcome.event_time)
    cuts = sorted(rng.sample(range(1, len(told)), BATCHES - 1))
    return [
        Batch(f"mail.outcome:0:{first}-{end - 1}", [Recorded(o, 0, first + n) for n, o in enumerate(told[first:end])])
        for first, end in zip([0, *cuts], [*cuts, len(told)], strict=True)
    ]


@contextlib.contextmanager
def broken(clickhouse: ClickHouse, table: str) -> Iterator[None]:
    """``table`` takes no rows, so an insert breaks off when it comes to it, with others written before or not."""
    name = f"{clickhouse.database}.{table}"
    clickhouse.command(f"ALTER TABLE {name} ADD CONSTRAINT broken CHECK now() < toDateTime(0)")
    try:
        yield
    finally:
        clickhouse.command(f"ALTER TABLE {name} DROP CONSTRAINT broken")


async def test_rows_and_rollups_are_exact_whatever_was_stored_again(clickhouse: ClickHouse) -> None:
    rng = random.Random(20261130)
    made = batches(rng)
    store = ClickHouseOutcomes(clickhouse)
    again = rng.sample(made, BATCHES // 10)
    schedule = [(number + rng.random(), batch) for number, batch in enumerate(made)]
    for batch in again:
        schedule += [(made.index(batch) + rng.random() * BATCHES, batch) for _ in range(rng.randint(1, 3))]
    breaks = dict(zip(rng.sample(made, len(ROLLUPS)), ROLLUPS, strict=True))
    broke = 0
    for _, batch in sorted(schedule, key=lambda entry: entry[0]):
        if table := breaks.pop(batch, None):
            with broken(clickhouse, table), contextlib.suppress(StoreAway):
                await store.store(batch.token, batch.outcomes, batch.addresses)
                broke -= 1
            broke += 1
        await store.store(batch.token, batch.outcomes, batch.addresses)
    assert broke == len(ROLLUPS), "the broken tables broke nothing"
    compare(clickhouse, [entry.outcome for batch in made for entry in batch.outcomes])


def compare(clickhouse: ClickHouse, told: list[Outcome]) -> None:
    """The tables against sums made here."""

    def counted(sql: str) -> dict[Any, int]:
        rows = clickhouse.rows(sql.replace("{db}", clickhouse.database))
        found = {tuple(value for name, value in row.items() if name != "n"): row["n"] for row in rows}
        assert len(found) == len(rows)
        return found

    assert counted("SELECT event_id, count() AS n FROM {db}.outcomes GROUP BY event_id") == {
        (o.event_id,): 1 for o in told
    }
    mails = {o.message_id for o in told}
    assert counted("SELECT message_id, count() AS n FROM {db}.recipients FINAL GROUP BY message_id") == {
        (m,): 1 for m in mails
    }
    daily: Counter[tuple[date, str, str, str, str, str]] = Counter()
    minutes: Counter[tuple[datetime, str, str]] = Counter()
    sizes = 0
    for o in told:
        daily[o.event_time.date(), o.tenant_id, o.site or "", o.campaign_id or "", o.variant or "", o.event_type] += 1
        minutes[o.event_time.replace(second=0, microsecond=0), o.tenant_id, o.event_type] += 1
        sizes += o.size_bytes
    assert daily == counted(
        "SELECT day, tenant_id, site, campaign_id, variant, event_type, sum(outcomes) AS n FROM {db}.outcomes_per_day "
        "GROUP BY ALL"
    )
    assert minutes == counted(
        "SELECT minute, tenant_id, event_type, sum(outcomes) AS n FROM {db}.outcomes_per_minute GROUP BY ALL"
    )
    assert counted("SELECT sum(size_bytes) AS n FROM {db}.outcomes_per_day")[()] == sizes
    delivered = [o for o in told if o.event_type == "delivered"]
    waits: Counter[tuple[str, str]] = Counter()
    for o in delivered:
        waits[o.tenant_id, "total"] += 1
        waits[o.tenant_id, "attempt"] += 1
        for reason in ("queue", "rate"):
            waits[o.tenant_id, reason] += getattr(o.waits, reason) > 0
    assert waits == counted(
        "SELECT tenant_id, reason, sum(mails) AS n FROM {db}.waits_per_hour GROUP BY tenant_id, reason"
    )
    assert counted("SELECT sum(milliseconds) AS n FROM {db}.waits_per_hour WHERE reason = 'rate'")[()] == sum(
        o.waits.rate for o in delivered
    )
    assert {("total",): len(delivered), ("attempt",): len(delivered)}.items() <= counted(
        "SELECT reason, sum(mails) AS n FROM {db}.waits_of_all_per_hour GROUP BY reason"
    ).items()
    sites = Counter((o.event_time.date(), o.site, o.event_type) for o in told if o.site)
    for column in ("composed", "delivered", "bounced", "deferred"):
        assert {(day, site): n for (day, site, kind), n in sites.items() if kind == column} == counted(
            f"SELECT day, site, sum({column}) AS n FROM {{db}}.sites_per_day GROUP BY day, site HAVING n > 0"
        )
    assert counted("SELECT sum(ended) AS n FROM {db}.sites_per_day")[()] == sum(
        o.event_type in ("delivered", "bounced") for o in told
    )
    replies = Counter((o.smtp.code, o.event_type) for o in told if o.smtp is not None and o.smtp.code >= 400)
    assert replies == counted(
        "SELECT smtp_code, event_type, sum(outcomes) AS n FROM {db}.replies_per_day GROUP BY smtp_code, event_type"
    )
    variants: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for o in told:
        if o.variant and o.campaign_id:
            variants[o.tenant_id, o.variant, o.event_type].add(o.message_id)
    assert {key: len(ids) for key, ids in variants.items()} == counted(
        "SELECT tenant_id, variant, event_type, uniqCombined64Merge(mails) AS n FROM {db}.variant_mails "
        "GROUP BY tenant_id, variant, event_type"
    )
    equation = Queries(clickhouse).equation()
    ended = {kind: len({o.message_id for o in told if o.event_type == kind}) for kind in ("delivered", "bounced")}
    assert (equation.accepted, equation.delivered, equation.bounced) == (
        len(mails), ended["delivered"], ended["bounced"],
    )  # fmt: skip
    assert equation.waiting == len(mails) - sum(ended.values())
    assert counted("SELECT sum(deferrals) AS n FROM {db}.mail_state")[()] == sum(
        o.event_type == "deferred" for o in told
    )
