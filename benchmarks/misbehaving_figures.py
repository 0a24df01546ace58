"""What a session against a misbehaving server left behind: read from ClickHouse, Kafka and the servers' own notes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from misbehaving_server import MisbehavingServer

from sluice.adapters.kafka.reading import ends, read_range, reader
from sluice.domain.ledger import CHECKPOINT_TYPE, decode_checkpoint
from sluice.domain.shaping import Rate
from sluice.domain.site import lane_name, lane_partition
from sluice.domain.topics import OUTCOME
from sluice.local.stack import LocalStack
from sluice.runtime import wiring

WINDOW = 5
"""Seconds over which latency is summed up."""


class Span(msgspec.Struct, frozen=True):
    """A phase, in seconds since the session began."""

    name: str
    begins: float
    ends: float


class Told(msgspec.Struct, frozen=True):
    """The lane as a checkpoint told it. Mails a second; ``paused_for`` is how many seconds its pause still lasts."""

    at: float
    rate: float
    share: float
    paused_for: float
    paused_why: str
    queued: int
    connections: int


class Counted(msgspec.Struct, frozen=True):
    """Outcomes of one kind in one second of the session, at the site or (``site`` false) at all others."""

    second: int
    site: bool
    event_type: str
    category: str
    rule: str
    count: int


class Latency(msgspec.Struct, frozen=True):
    """From publish to 250 of mails to others that were published in the window from ``second`` on; milliseconds."""

    second: int
    mails: int
    p50: float
    p99: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The session in figures. ``server_`` figures are the misbehaving server's own notes."""

    published: dict[str, int]
    delivered_site: int
    delivered_others: int
    bounced_site: int
    bounced_others: int
    in_doubt_site: int
    site_outcomes: dict[str, int]
    others_p50_ms: float
    others_p99_ms: float
    others_p99_ms_worst_window: float
    server_taken: int
    server_different_recipients: int
    server_most_in_a_second: int
    server_connections: int
    server_most_open: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is drawn, and the summary."""

    phases: list[Span]
    lane: list[Told]
    outcomes: list[Counted]
    latency: list[Latency]
    summary: Summary


def read_session(
    stack: LocalStack,
    site: str,
    campaign: str,
    began: float,
    phases: list[Span],
    published: Counter[str],
    stormy: MisbehavingServer,
) -> Session:
    """Read everything back. Blocks."""
    clickhouse = stack.clickhouse
    given = {"campaign": campaign, "site": site, "began": round(began * 1000)}
    try:

        def rows(sql: str) -> list[dict[str, Any]]:
            return clickhouse.rows(sql.replace("{db}", clickhouse.database), given)

        mine = (
            "FROM {db}.outcomes WHERE campaign_id = {campaign:String} "
            "AND assumeNotNull(queued_at) >= fromUnixTimestamp64Milli({began:Int64})"
        )
        counted = rows(
            "SELECT intDiv(toUnixTimestamp64Milli(event_time) - {began:Int64}, 1000) AS second, "
            "recipient_domain = {site:String} AS at_site, event_type, ifNull(toString(category), '') AS category, "
            f"ifNull(toString(rule), '') AS rule, count() AS n {mine} "
            "AND event_type NOT IN ('queued', 'composed', 'attempted') "
            "GROUP BY second, at_site, event_type, category, rule ORDER BY second"
        )
        took = "dateDiff('millisecond', assumeNotNull(queued_at), event_time)"
        figures = f"count() AS n, quantileExact(0.5)({took}) AS p50, quantileExact(0.99)({took}) AS p99 {mine}"
        others = f"{figures} AND event_type = 'delivered' AND recipient_domain != {{site:String}}"
        latency = rows(
            f"SELECT intDiv(toUnixTimestamp64Milli(assumeNotNull(queued_at)) - {{began:Int64}}, {WINDOW * 1000}) "
            f"* {WINDOW} AS second, {others} GROUP BY second ORDER BY second"
        )
        whole = rows(f"SELECT {others}")[0]
    finally:
        clickhouse.close()
    outcomes = [
        Counted(
            int(row["second"]),
            bool(row["at_site"]),
            row["event_type"],
            row["category"] or "",
            row["rule"] or "",
            int(row["n"]),
        )
        for row in counted
    ]
    windows = [Latency(int(row["second"]), int(row["n"]), float(row["p50"]), float(row["p99"])) for row in latency]
    return Session(
        phases=phases,
        lane=_lane(stack, site, began),
        outcomes=outcomes,
        latency=windows,
        summary=_summary(outcomes, windows, whole, published, stormy, began),
    )


def _lane(stack: LocalStack, site: str, began: float) -> list[Told]:
    consumer = reader({**wiring.kafka_options(stack.settings), "log_level": 2})
    name = lane_name(site, 0)
    told: list[Told] = []
    try:
        partition = lane_partition(name, len(consumer.list_topics(OUTCOME, timeout=20).topics[OUTCOME].partitions))
        for message in read_range(consumer, OUTCOME, partition, *ends(consumer, OUTCOME, partition)):
            if dict(message.headers() or []).get("ce_type") != CHECKPOINT_TYPE.encode():
                continue
            at = message.timestamp()[1] / 1000
            state = decode_checkpoint(message.value() or b"").lanes.get(name)
            if state is None or at < began:
                continue
            rate = Rate.parse(state.rate)
            told.append(
                Told(
                    round(at - began, 2),
                    round(rate.count / rate.per, 3),
                    state.pressure.share,
                    round(max(0.0, state.paused_until - at), 2),
                    state.paused_why,
                    state.queued,
                    state.connections,
                )
            )
    finally:
        consumer.close()
    return told


def _summary(
    outcomes: list[Counted],
    windows: list[Latency],
    whole: dict[str, Any],
    published: Counter[str],
    stormy: MisbehavingServer,
    began: float,
) -> Summary:
    def count(event_type: str, site: bool) -> int:
        return sum(each.count for each in outcomes if each.event_type == event_type and each.site == site)

    kinds: Counter[str] = Counter()
    for each in outcomes:
        if each.site:
            kinds[" ".join(filter(None, (each.event_type, each.category, each.rule)))] += each.count
    taken = [(at, who) for at, who in stormy.taken if at >= began]
    return Summary(
        published=dict(sorted(published.items())),
        delivered_site=count("delivered", True),
        delivered_others=count("delivered", False),
        bounced_site=count("bounced", True),
        bounced_others=count("bounced", False),
        in_doubt_site=count("in_doubt", True),
        site_outcomes=dict(kinds.most_common()),
        others_p50_ms=float(whole["p50"]),
        others_p99_ms=float(whole["p99"]),
        others_p99_ms_worst_window=max((window.p99 for window in windows), default=0.0),
        server_taken=len(taken),
        server_different_recipients=len({who for _, who in taken}),
        server_most_in_a_second=_most_in_a_second([at for at, _ in taken]),
        server_connections=sum(at >= began for at in stormy.connections),
        server_most_open=stormy.most_open,
    )


def _most_in_a_second(moments: list[float]) -> int:
    """In any window of a second, wherever it begins."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
