"""Do the records of a run agree? Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec

from sluice.local.torture.records import Copy, Evidence, Injected, Row

ENDINGS = frozenset(("delivered", "bounced", "expired", "suppressed", "rejected", "dead", "cancelled", "held"))
"""Outcomes after which nothing more happens to a mail by itself."""
CUTS_OFF = ("kill", "stop", "term", "leave", "join")
"""Faults after which a worker's attempts may be without an outcome."""
ENDS = ("kill", "term", "leave", "join")
"""Faults after which a worker begins anew, or is gone."""
EXAMPLES = 20
STORIES = 3


class Breach(msgspec.Struct, frozen=True):
    """An invariant that does not hold: how often, and some of the ids."""

    name: str
    meaning: str
    count: int
    examples: list[str]
    stories: list[str] = []
    """All that the records say of the first of them, line by line."""


class Recovery(msgspec.Struct, frozen=True):
    """What a fault did to delivery; seconds, None when there was nothing to measure it by."""

    injected: Injected
    in_flight: int
    """Attempts that the worker had begun and not concluded when it was hit."""
    silent: float | None
    """The longest time without any mail at the receiving server that touches the fault, to the next one."""
    caught_up: float | None
    """From the fault's beginning until every mail that was accepted before it had arrived."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are mails, if not said otherwise."""

    accepted: int
    uncertain: int
    """Published without an acknowledgement, and found in the log or not."""
    arrived: int
    copies: int
    """Mails at the receiving server beyond the first of each id."""
    most_copies: int
    in_doubt: int
    abandoned: int
    """Attempts in doubt because their worker stopped: records, not mails."""
    unanswered: int
    """Attempts in doubt because the server did not answer after the final dot: records."""
    unheard: int
    """Copies that the server took without telling the sender."""
    in_flight: int
    """Attempts under way at each death or suspension, summed up: the bound of the copies that those can cause."""
    endings: dict[str, int]
    outcomes: int
    """Rows in ClickHouse."""
    breaches: list[Breach]
    recoveries: list[Recovery]

    @property
    def good(self) -> bool:
        """Whether every invariant holds."""
        return not self.breaches


def reconcile(evidence: Evidence) -> Findings:
    """Compare what was accepted, what arrived, and what was recorded."""
    kept = [copy for copy in evidence.copies if copy.kept]
    arrivals = Counter(copy.message_id for copy in kept)
    doubts = Counter(row.message_id for row in evidence.rows if row.event_type == "in_doubt")
    ended: defaultdict[str, set[str]] = defaultdict(set)
    for row in evidence.rows:
        if row.event_type in ENDINGS:
            ended[row.message_id].add(row.event_type)
    recoveries = [_recovery(each, evidence, kept) for each in evidence.injected]
    return Findings(
        accepted=len(evidence.accepted),
        uncertain=len(evidence.uncertain),
        arrived=len(arrivals),
        copies=sum(arrivals.values()) - len(arrivals),
        most_copies=max(arrivals.values(), default=0),
        in_doubt=len(doubts),
        abandoned=sum(row.abandoned for row in evidence.rows if row.event_type == "in_doubt"),
        unanswered=sum(not row.abandoned for row in evidence.rows if row.event_type == "in_doubt"),
        unheard=sum(copy.reply != "250" for copy in kept),
        in_flight=sum(recovery.in_flight for recovery in recoveries),
        endings=dict(Counter(_state(ended.get(each, set())) for each in evidence.accepted)),
        outcomes=len(evidence.rows),
        breaches=[_told(breach, evidence) for breach in _breaches(evidence, arrivals, doubts, ended)],
        recoveries=recoveries,
    )


def _breaches(
    evidence: Evidence, arrivals: Counter[str], doubts: Counter[str], ended: dict[str, set[str]]
) -> Iterable[Breach]:
    accepted, known = evidence.accepted.keys(), evidence.accepted.keys() | evidence.uncertain
    excused = {each for each, types in ended.items() if types - {"delivered"}}
    yield from _breach("lost", "accepted, neither arrived nor ended otherwise", accepted - arrivals.keys() - excused)
    yield from _breach("unsettled", "accepted, and without an ending in ClickHouse", accepted - ended.keys())
    phantoms = {each for each, types in ended.items() if "delivered" in types} - arrivals.keys()
    yield from _breach("phantom", "delivered by ClickHouse, and never taken by the receiving server", phantoms)
    extra = {each for each, count in arrivals.items() if count - 1 > doubts[each]}
    yield from _breach("unexplained", "more copies than there were attempts in doubt", extra)
    twice = {each for each in evidence.holding if arrivals[each] > 1}
    yield from _breach("held twice", "two copies of a mail that was to be held when in doubt", twice)
    strangers = (arrivals.keys() | ended.keys()) - known
    yield from _breach("stranger", "mail that nobody published, or that was told not to be", strangers)
    places = Counter(row.place for row in evidence.rows)
    doubled = [_place(place) for place, count in places.items() if count > 1]
    yield from _breach("counted twice", "outcomes that ClickHouse has more than once", doubled)
    missing = [_place(place) for place in evidence.logged - places.keys()]
    yield from _breach("gap", "outcomes of the log that ClickHouse has not", missing)
    types = Counter(row.event_type for row in evidence.rows)
    wrong = [
        f"{name}: {types[name]} rows, {evidence.rollup.get(name, 0)} in the rollup"
        for name in sorted(types.keys() | evidence.rollup.keys())
        if types[name] != evidence.rollup.get(name, 0)
    ]
    yield from _breach("rollup", "the table per minute differs from the rows", wrong)


def _breach(name: str, meaning: str, found: Iterable[str]) -> Iterable[Breach]:
    listed = sorted(found)
    if listed:
        yield Breach(name, meaning, len(listed), listed[:EXAMPLES])


def _told(breach: Breach, evidence: Evidence) -> Breach:
    stories = [line for example in breach.examples[:STORIES] for line in (example, *story(evidence, example))]
    return msgspec.structs.replace(breach, stories=stories)


def story(evidence: Evidence, message_id: str) -> list[str]:
    """What happened to a mail, in order; times are seconds since the first mail was accepted."""
    began = min(evidence.accepted.values(), default=0.0)
    events: list[tuple[float, str]] = []
    if (accepted := evidence.accepted.get(message_id)) is not None:
        events.append((accepted, "accepted"))
    events += [
        (row.at, f"{row.event_type} {row.node} {row.detail}".strip())
        for row in evidence.rows
        if row.message_id == message_id
    ]
    events += [
        (copy.at, f"at the server: {'kept' if copy.kept else 'refused'}, answered {copy.reply}")
        for copy in evidence.copies
        if copy.message_id == message_id
    ]
    return [f"{at - began:9.3f} s  {what}" for at, what in sorted(events)]


def _recovery(injected: Injected, evidence: Evidence, kept: list[Copy]) -> Recovery:
    worker = injected.fault.kind in CUTS_OFF
    before = (each for each in evidence.injected if each.fault.target == injected.fault.target)
    begun = max((each.at for each in before if each.fault.kind in ENDS and each.at < injected.at), default=0.0)
    return Recovery(
        injected,
        in_flight=len(in_flight(evidence.rows, injected.fault.target, begun, injected.at)) if worker else 0,
        silent=_silence(sorted(copy.at for copy in kept), injected.at, injected.until),
        caught_up=_caught_up(evidence.accepted, kept, injected.at),
    )


def in_flight(rows: Iterable[Row], node: str, begun: float, moment: float) -> set[str]:
    """Ids that ``node`` had begun to send at ``moment``, and of which it had recorded nothing more.

    What it had begun before ``begun``, when it ended the last time, counts no more.
    """
    under_way: set[str] = set()
    of_node = [row for row in rows if row.node == node and begun < row.at <= moment]
    for row in sorted(of_node, key=lambda row: (row.at, row.event_type != "attempted")):
        if row.event_type == "attempted":
            under_way.add(row.message_id)
        elif row.event_type != "in_doubt" or not row.abandoned:
            under_way.discard(row.message_id)
    return under_way


def _silence(moments: list[float], begins: float, ends: float) -> float | None:
    first = bisect_left(moments, begins)
    gaps = [
        moments[index] - moments[index - 1]
        for index in range(max(1, first), len(moments))
        if moments[index - 1] <= ends
    ]
    return max(gaps, default=None)


def _caught_up(accepted: dict[str, float], kept: list[Copy], moment: float) -> float | None:
    arrived: dict[str, float] = {}
    for copy in kept:
        arrived[copy.message_id] = min(copy.at, arrived.get(copy.message_id, copy.at))
    late = [arrived[each] for each, at in accepted.items() if at <= moment and each in arrived]
    return max(0.0, max(late) - moment) if late else None


def _state(types: set[str]) -> str:
    if not types:
        return "none"
    return "delivered" if "delivered" in types else min(types)


def _place(place: tuple[int, int]) -> str:
    return f"mail.outcome {place[0]}:{place[1]}"
