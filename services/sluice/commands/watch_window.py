"""What outcomes of the last minute add up to. Pure: moments are given, nothing is asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from sluice.domain.adaptive import THROTTLED
from sluice.domain.events import Moment, Priority
from sluice.domain.mail import Waits
from sluice.domain.outcome import OutcomeType, moment

SECONDS = 60
OVER = 10
"""Seconds over which a rate is taken: whole ones, the latest that are over."""
MOST_FAILURES = 500
"""Kinds of failures that are kept apart."""
MOST_SITES = 2_000
MOST_TIMES = 300
"""Of a site's last attempts, those whose times are kept."""
FAILURES: frozenset[OutcomeType] = frozenset(
    ("rejected", "deferred", "bounced", "expired", "dead", "in_doubt", "held", "bounced_later", "complained")
)


class Code(msgspec.Struct, frozen=True):
    """Of the reply that an attempt ended in; 0 when there was none."""

    code: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an outcome event that is watched: nobody's address, and no text that could quote one."""

    event_type: OutcomeType
    tenant_id: str = ""
    priority: Priority | None = None
    site: str = ""
    category: str = ""
    rule: str = ""
    field: str = ""
    smtp: Code = Code()
    attempt: int = 0
    node: str = ""
    event_time: Moment | None = None
    queued_at: Moment | None = None
    waits: Waits = Waits()
    duration_ms: float = 0.0

    @property
    def kind(self) -> str:
        """Its type; ``throttled`` for a deferral that no server asked for."""
        return THROTTLED if self.event_type == "deferred" and self.category == THROTTLED else self.event_type


class Filters(msgspec.Struct, frozen=True):
    """Which outcomes are looked at; None takes all."""

    site: str | None = None
    tenant: str | None = None
    priority: str | None = None

    def take(self, seen: Seen) -> bool:
        """Whether it is one of them."""
        return (
            (self.site is None or seen.site == self.site)
            and (self.tenant is None or seen.tenant_id == self.tenant)
            and (self.priority is None or seen.priority == self.priority)
        )


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that are alike: how many in the window, and when the last was."""

    at: datetime
    times: int
    what: str
    site: str
    category: str
    rule: str
    code: int
    tenant: str


class SiteTimes(msgspec.Struct, frozen=True, kw_only=True):
    """A site in the window. ``attempt_*`` is the SMTP alone, ``total_p90_ms`` from publishing to the 250 without the
    time that it was scheduled for, ``waits_for`` what delivered mails waited for longest, beside the attempt itself."""

    site: str
    delivered: int
    deferred: int
    bounced: int
    attempt_p50_ms: float
    attempt_p90_ms: float
    total_p90_ms: float | None
    waits_for: str


class _Times:
    """Of one site: second, milliseconds of the attempt, milliseconds in all (of delivered ones), and waits."""

    def __init__(self) -> None:
        self.attempts: deque[tuple[int, float, float | None, Waits]] = deque(maxlen=MOST_TIMES)
        self.kinds: deque[tuple[int, str]] = deque(maxlen=100 * SECONDS)


class _Alike:
    """Failures that are alike: one of them, when the last was, and how many in each second."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.last_at = 0.0
        self.seconds: Counter[int] = Counter()


class Window:
    """Takes outcomes as they come; those of the last :data:`SECONDS` seconds count."""

    def __init__(self) -> None:
        self._seconds: dict[int, Counter[str]] = {}
        self._nodes: dict[int, Counter[str]] = {}
        self._sites: dict[str, _Times] = {}
        self._failures: dict[tuple[str, ...], _Alike] = {}
        self._told_at: dict[str, float] = {}

    def take(self, seen: Seen, at: float) -> None:
        """Add an outcome that was written at ``at``, seconds since the epoch."""
        second = int(at)
        self._seconds.setdefault(second, Counter())[seen.kind] += 1
        if seen.node:
            self._nodes.setdefault(second, Counter())[seen.node] += 1
            self._told_at[seen.node] = max(at, self._told_at.get(seen.node, 0.0))
        if seen.event_type in FAILURES and seen.kind != THROTTLED:
            self._failed(seen, at)
        if seen.site and seen.kind in ("delivered", "deferred", "bounced"):
            self._of_site(seen, second)

    def _failed(self, seen: Seen, at: float) -> None:
        key = (seen.kind, seen.site, seen.category, seen.rule or seen.field, str(seen.smtp.code), seen.tenant_id)
        alike = self._failures.pop(key, None) or _Alike(seen)
        self._failures[key] = alike
        if len(self._failures) > MOST_FAILURES:
            del self._failures[next(iter(self._failures))]
        alike.last_at = max(at, alike.last_at)
        alike.seconds[int(at)] += 1

    def _of_site(self, seen: Seen, second: int) -> None:
        times = self._sites.pop(seen.site, None) or _Times()
        self._sites[seen.site] = times
        if len(self._sites) > MOST_SITES:
            # The one that was heard of least lately.
            del self._sites[next(iter(self._sites))]
        times.kinds.append((second, seen.kind))
        total = None
        if seen.event_type == "delivered" and seen.queued_at is not None and seen.event_time is not None:
            took = (seen.event_time - seen.queued_at).total_seconds() * 1000
            total = max(0.0, took - seen.waits.schedule)
        if seen.duration_ms > 0:
            times.attempts.append((second, seen.duration_ms, total, seen.waits))

    def forget(self, now: float) -> None:
        """Let go of what is older than the window."""
        oldest = int(now) - SECONDS - 1
        for kept in (self._seconds, self._nodes):
            for second in [second for second in kept if second < oldest]:
                del kept[second]
        for node in [node for node, at in self._told_at.items() if at < oldest]:
            del self._told_at[node]
        self._forget_sites(oldest)
        self._forget_failures(oldest)

    def _forget_sites(self, oldest: int) -> None:
        for name, times in list(self._sites.items()):
            while times.kinds and times.kinds[0][0] < oldest:
                times.kinds.popleft()
            while times.attempts and times.attempts[0][0] < oldest:
                times.attempts.popleft()
            if not times.kinds:
                del self._sites[name]

    def _forget_failures(self, oldest: int) -> None:
        for key, alike in list(self._failures.items()):
            for second in [second for second in alike.seconds if second < oldest]:
                del alike.seconds[second]
            if not alike.seconds:
                del self._failures[key]

    def counts(self, kind: str, now: float) -> list[int]:
        """How many in each of the last :data:`SECONDS` whole seconds, the oldest first."""
        last = int(now)
        return [self._seconds.get(second, Counter())[kind] for second in range(last - SECONDS, last)]

    def kinds(self, now: float) -> set[str]:
        """What there is any of in the window."""
        return {kind for second, counted in self._seconds.items() if second >= int(now) - SECONDS for kind in counted}

    def nodes(self, now: float) -> dict[str, float]:
        """Outcomes per second of each process that wrote any in the window."""
        last = int(now)
        over = [self._nodes.get(second, Counter()) for second in range(last - OVER, last)]
        return {node: sum(one[node] for one in over) / OVER for node in sorted(self._told_at)}

    def failures(self) -> list[Failure]:
        """Alike ones together, the latest first."""
        found = [_failure(alike) for alike in self._failures.values()]
        return sorted(found, key=lambda one: (one.at, one.times), reverse=True)

    def slowest(self) -> list[SiteTimes]:
        """Sites by the time that their attempts take, the slowest first."""
        found = [_site(name, times) for name, times in self._sites.items() if times.attempts]
        return sorted(found, key=lambda one: (-one.attempt_p90_ms, one.site))


def _failure(alike: _Alike) -> Failure:
    seen = alike.seen
    return Failure(
        at=moment(alike.last_at), times=alike.seconds.total(), what=seen.event_type, site=seen.site,
        category=seen.category, rule=seen.rule or seen.field, code=seen.smtp.code, tenant=seen.tenant_id,
    )  # fmt: skip


def _site(name: str, times: _Times) -> SiteTimes:
    kinds = Counter(kind for _, kind in times.kinds)
    attempts = sorted(each[1] for each in times.attempts)
    totals = sorted(each[2] for each in times.attempts if each[2] is not None)
    waited = [each[3] for each in times.attempts if each[2] is not None]
    reasons: dict[str, Callable[[Waits], int]] = {
        "queue": lambda waits: waits.queue,
        "rate": lambda waits: waits.rate,
        "connection": lambda waits: waits.connection,
        "retry": lambda waits: waits.retry,
    }
    sums = {reason: sum(of(waits) for waits in waited) for reason, of in reasons.items()}
    longest = max(sums, key=lambda reason: sums[reason])
    return SiteTimes(
        site=name, delivered=kinds["delivered"], deferred=kinds["deferred"], bounced=kinds["bounced"],
        attempt_p50_ms=_quantile(attempts, 0.5), attempt_p90_ms=_quantile(attempts, 0.9),
        total_p90_ms=_quantile(totals, 0.9) if totals else None,
        waits_for=longest if sums[longest] > 0 else "",
    )  # fmt: skip


def _quantile(ordered: list[float], part: float) -> float:
    """The value that ``part`` of the ordered values do not pass."""
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1)


def per_second(counts: Iterable[int]) -> float:
    """The mean of the last :data:`OVER` seconds."""
    latest = list(counts)[-OVER:]
    return round(sum(latest) / OVER, 2)


_decoder = msgspec.json.Decoder(Seen)


def decode_seen(value: bytes) -> Seen | None:
    """The watched part of an outcome event; None for what another version wrote and this one cannot read."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
