"""How large an installation has to be for a load: partitions, lanes, workers, memory, disk, each with its reason."""

from __future__ import annotations

import math

import msgspec

from sluice.domain.errors import RuleError

CPU_S = {"compose": 0.00076, "deliver": 0.00045, "wheel": 0.00001, "record": 0.00009}
"""CPU seconds per mail of 4 KB, as measured (``docs/performance.md``); a slower core needs more."""
BUSY = 0.5
"""Part of a core that is planned for: the rest is for catching up, and for what a worker that died has left."""
SPARE = 3
"""Partitions per worker at peak: so many times the workers can be added before partitions have to be."""
STEPS = (6, 12, 24, 48, 96, 192, 384, 768)
"""Numbers of partitions that share out evenly among 2, 3, 4, 6 or 12 workers."""
ON_THE_WIRE_S = 0.5
"""Seconds that a connection is taken by one mail at a large site: round trips and its thinking."""
KEPT_S = 7 * 86_400
"""How long Kafka keeps mails, events and outcomes."""
EVENT_BYTES, ENVELOPE_BYTES, OUTCOMES_BYTES = 1024, 1024, 3 * 1024
"""Of a send event; of a mail's headers in Kafka; of all outcomes and checkpoints of one mail."""
WAITING = 0.25
"""Part of the mails that go through the wheel once, and so lie in Kafka once more."""
BASE_BYTES = 150 * 1024**2
"""Memory of a process before its first record."""
HELD_RECORDS, HELD_BYTES = 2000, 48 * 1024**2
"""Most that is unfinished in one partition of one topic (``adapters/kafka/intake.py``)."""
TOPICS_READ = 3


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Mails per second on average over a week, and at peak; bytes of a mail; and by heavy site its part of all mail
    (0 to 1)."""

    rate: float
    peak: float
    mail_bytes: int = 30_000
    heavy: dict[str, float] = {}
    replication: int = 3


class Need(msgspec.Struct, frozen=True):
    """One figure: ``value`` in ``unit``, and why."""

    what: str
    value: int
    unit: str
    why: str


def size(load: Load) -> list[Need]:
    """Everything that a load needs. Raises :class:`RuleError` for a load that makes no sense."""
    _check(load)
    workers = {name: _workers(name, load.peak) for name in CPU_S}
    lanes = {site: _lanes(load.peak * part) for site, part in load.heavy.items()}
    send = _partitions(workers["compose"], 0)
    lane = _partitions(workers["deliver"], sum(lanes.values()))
    wheel = max(4, workers["wheel"] * SPARE)
    needs = [
        Need(f"lanes of {site}", lanes[site], "lanes", _lane_reason(load, site, lanes[site])) for site in load.heavy
    ]
    needs += [
        Need("mail.send.*", send, "partitions", f"{SPARE} for each of {workers['compose']} compose, rounded up"),
        Need("mail.ready.*", lane, "partitions", _partition_reason(workers["deliver"], sum(lanes.values()))),
        Need("mail.wheel.*", wheel, "partitions", "of each tier; what waits is only read and written"),
    ]
    needs += [Need(name, count, "workers", _worker_reason(name, count, load.peak)) for name, count in workers.items()]
    for name, count, partitions in (
        ("compose", workers["compose"], send),
        ("deliver", workers["deliver"], lane),
    ):
        needs.append(_memory(name, math.ceil(partitions / count), load.mail_bytes))
    needs.append(_connections(load, workers["deliver"]))
    needs.append(_disk(load))
    return needs


def _check(load: Load) -> None:
    if not 0 < load.rate <= load.peak:
        raise RuleError(f"the rate ({load.rate:g}/s) must be above 0 and not above the peak ({load.peak:g}/s)")
    if load.mail_bytes < 1:
        raise RuleError("a mail has at least one byte")
    if any(not 0 < part <= 1 for part in load.heavy.values()) or sum(load.heavy.values()) > 1.0001:
        raise RuleError("the heavy sites' parts must be above 0 %, and 100 % together at most")


def _workers(name: str, peak: float) -> int:
    least = 2 if name in ("compose", "deliver") else 1
    return max(least, math.ceil(peak * CPU_S[name] / BUSY))


def _worker_reason(name: str, count: int, peak: float) -> str:
    busy = peak * CPU_S[name] / count
    return f"{CPU_S[name] * 1000:g} ms of CPU per mail: {busy:.0%} of a core each at peak"


def _lanes(peak: float) -> int:
    return max(1, math.ceil(peak * CPU_S["deliver"] / BUSY))


def _lane_reason(load: Load, site: str, lanes: int) -> str:
    mails = load.peak * load.heavy[site]
    one = BUSY / CPU_S["deliver"]
    return f"{mails:.0f} mails/s at peak, and one worker sends {one:.0f}/s; the lanes of its rule, if those are more"


def _partitions(workers: int, lanes: int) -> int:
    wanted = max(SPARE * workers, lanes)
    return next((step for step in STEPS if step >= wanted), wanted)


def _partition_reason(workers: int, lanes: int) -> str:
    heavy = f", or one for each of {lanes} heavy lanes if those are more" if lanes else ""
    return f"{SPARE} for each of {workers} deliver{heavy}; rounded up, since Kafka never takes any away"


def _memory(name: str, partitions: int, mail_bytes: int) -> Need:
    held = min(HELD_RECORDS * mail_bytes, HELD_BYTES)
    total = BASE_BYTES + partitions * TOPICS_READ * held
    return Need(
        f"memory of a {name}",
        math.ceil(total / 1024**2),
        "MiB",
        f"150 and at most {held / 1024**2:.0f} in each of {partitions} partitions of {TOPICS_READ} topics, "
        "if all of them are held up",
    )


def _connections(load: Load, workers: int) -> Need:
    each = math.ceil(load.peak * ON_THE_WIRE_S / workers)
    why = f"{ON_THE_WIRE_S:g} s on the wire for each mail: SLUICE_CONNECTIONS, where the sites allow as many"
    return Need("connections of a deliver", each, "connections", why)


def _disk(load: Load) -> Need:
    one = EVENT_BYTES + ENVELOPE_BYTES + OUTCOMES_BYTES + load.mail_bytes * (1 + WAITING)
    total = load.rate * KEPT_S * one * load.replication
    why = (
        f"{load.rate:g} mails/s for 7 days, {one / 1024:.0f} KiB each with event, outcomes and waits, "
        f"{load.replication} copies"
    )
    return Need("disk of Kafka", math.ceil(total / 1024**3), "GiB", why)
