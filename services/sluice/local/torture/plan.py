"""What is done to a running Sluice, and when: drawn from a seed, kept in a file. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from sluice.domain.errors import SluiceError

Kind = Literal[
    "kill", "stop", "term", "leave", "join", "grow",
    "broker", "clickhouse", "sink", "hang", "drop", "busy",
    "latency", "slice", "reset", "hole",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
MEANINGS: dict[Kind, str] = {
    "kill": "SIGKILL of a worker, which its supervisor starts again",
    "stop": "SIGSTOP of a worker, SIGCONT later: others may have taken over meanwhile",
    "term": "SIGTERM of a worker, which its supervisor starts again",
    "leave": "SIGTERM of a worker, which comes back later: a rebalance at each",
    "join": "one more worker of a service joins, and leaves later: a rebalance at each",
    "grow": "partitions are added for lanes",
    "broker": "SIGKILL of Kafka, started again later",
    "clickhouse": "SIGKILL of ClickHouse, started again later",
    "sink": "SIGKILL of the receiving server, started again later",
    "hang": "the receiving server takes mails and never answers the final dot",
    "drop": "the receiving server takes mails and resets the connection instead of answering",
    "busy": "the receiving server answers 421, at MAIL or after the final dot, and takes nothing",
    "latency": "every packet through a proxy is late",
    "slice": "every packet through a proxy is cut into small ones",
    "reset": "a proxy resets all its connections",
    "hole": "a proxy swallows what comes, connections stay open",
}
MEMBERSHIP: tuple[Kind, ...] = ("kill", "term", "leave", "join")
"""What moves partitions soon after they came into being."""
SERVICES = ("deliver", "compose", "record", "wheel")
LANES = "lanes"
SITE = "site"
"""The proxy in front of a tenth of the domains; ``sink`` is the one in front of all others."""
PROXIES = ("sink", SITE, "kafka", "clickhouse")


class Fault(msgspec.Struct, frozen=True):
    """``at`` seconds after the first mail; ``lasts`` is 0.0 for what happens in an instant.

    ``target`` is a process (``deliver-2``), a part, a proxy (one of :data:`PROXIES`), or :data:`LANES`.
    """

    at: float
    kind: Kind
    target: str
    lasts: float = 0.0

    @property
    def ends(self) -> float:
        """When it is over, in seconds after the first mail."""
        return self.at + self.lasts


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes a run what it is: the same plan does the same again, as far as a machine can."""

    seed: int
    mails: int
    rate: float
    """Mails published per second."""
    workers: dict[str, int]
    domains: int = 40
    hold_every: int = 10
    """Of so many mails one is to be held when it is in doubt, rather than sent again; 0 for none."""
    static_members: bool = False
    """Whether workers keep their place in Kafka's groups through a restart (KIP-345), as the chart's pods do."""
    replay: float = 0.0
    """The part of all batches of outcomes that is stored a second time at the end, 0 to 1."""
    faults: tuple[Fault, ...] = ()


class PlanRefused(SluiceError):
    """The operator's fault: the file is no plan, or a fault in it cannot be done."""


class _Draw:
    """``lasts`` seconds, from and to; ``targets`` to choose from; what of ``resource`` is hurt once at a time."""

    def __init__(self, lasts: tuple[float, float], targets: Sequence[str], resource: Callable[[str], str]) -> None:
        self.lasts = lasts
        self.targets = targets
        self.resource = resource


def draw(
    seed: int,
    *,
    duration: float,
    mails: int,
    rate: float,
    workers: Mapping[str, int],
    kinds: Sequence[Kind] = KINDS,
    every: float = 4.0,
    longest_stop: float = 25.0,
    static_members: bool = False,
    replay: float = 0.0,
) -> Plan:
    """A plan of about one fault in ``every`` seconds, all over ``duration`` seconds after the first mail.

    Each kind comes before any comes a second time. Where workers are hurt at all, one moves partitions in the first
    seconds of their life, and so does one after each growth. ``longest_stop`` bounds how long a worker is suspended.
    """
    rng = random.Random(seed)  # noqa: S311  nothing secret
    draws = _draws(workers, longest_stop)
    kinds = [kind for kind in KINDS if kind in kinds and draws[kind].targets]
    faults: list[Fault] = []
    free_at: dict[str, float] = {}
    soon = [kind for kind in kinds if kind in MEMBERSHIP]

    def place(kind: Kind, at: float, target: str | None = None) -> bool:
        drawn = draws[kind]
        target = target or rng.choice(drawn.targets)
        lasts = round(rng.uniform(*drawn.lasts), 1)
        resource = drawn.resource(target)
        if at < free_at.get(resource, 0.0) or at + lasts > duration:
            return False
        free_at[resource] = at + lasts + SETTLES
        faults.append(Fault(round(at, 1), kind, target, lasts))
        return True

    if soon:
        place(kind := rng.choice(soon), rng.uniform(0.5, 2.5), _first(draws[kind].targets, "deliver"))
    at = every
    waiting = rng.sample(kinds, len(kinds))
    while waiting and at < duration:
        chosen = next((kind for kind in waiting if place(kind, at)), None)
        if chosen is None:
            at += 1.0
            continue
        waiting.remove(chosen)
        if chosen == "grow" and soon:
            # Members notice growth within ten seconds; what is read of the new partitions is not committed yet then.
            place(again := rng.choice(soon), at + rng.uniform(9.0, 12.0), _first(draws[again].targets, "deliver"))
        waiting = waiting or rng.sample(kinds, len(kinds))
        at += rng.uniform(0.5, 1.5) * every
    ordered = tuple(sorted(faults, key=lambda fault: (fault.at, fault.target)))
    return Plan(
        seed=seed,
        mails=mails,
        rate=rate,
        workers=dict(workers),
        static_members=static_members,
        replay=replay,
        faults=ordered,
    )


SETTLES = 3.0
"""Seconds that a process has to itself between two faults of its own."""


def _draws(workers: Mapping[str, int], longest_stop: float) -> dict[Kind, _Draw]:
    # Half of what hurts a worker hurts deliver, where copies can come from.
    weights = {"deliver": 3, "compose": 1, "record": 1, "wheel": 1}
    named = [
        f"{service}-{number}"
        for service, weight in weights.items()
        for number in range(1, workers.get(service, 0) + 1)
        for _ in range(weight)
    ]
    more = [
        f"{service}-{workers[service] + 1}"
        for service, weight in weights.items()
        for _ in range(weight)
        if workers.get(service)
    ]

    def own(target: str) -> str:
        return target

    def fixed(resource: str) -> Callable[[str], str]:
        return lambda _: resource

    at_sink = fixed("sink")
    return {
        "kill": _Draw((0, 0), named, own),
        "stop": _Draw((4, longest_stop), named, own),
        "term": _Draw((0, 0), named, own),
        "leave": _Draw((2, 8), named, own),
        "join": _Draw((4, 12), more, own),
        "grow": _Draw((0, 0), (LANES,), own),
        "broker": _Draw((0.5, 5), ("kafka",), own),
        "clickhouse": _Draw((1, 8), ("clickhouse",), own),
        "sink": _Draw((0.5, 4), ("sink",), at_sink),
        "hang": _Draw((1, 4), ("sink",), at_sink),
        "drop": _Draw((1, 3), ("sink",), at_sink),
        "busy": _Draw((1, 4), ("sink",), at_sink),
        "latency": _Draw((3, 8), PROXIES, own),
        "slice": _Draw((3, 8), PROXIES, own),
        "reset": _Draw((0, 0), PROXIES, own),
        "hole": _Draw((2, 8), PROXIES, own),
    }


def _first(targets: Sequence[str], service: str) -> str:
    return next((target for target in targets if target.startswith(service)), targets[0])


def check(plan: Plan) -> None:
    """Raise :class:`PlanRefused` for a fault whose target its kind cannot have."""
    draws = _draws(plan.workers, 0.0)
    for fault in plan.faults:
        if fault.target not in draws[fault.kind].targets:
            known = ", ".join(sorted(set(draws[fault.kind].targets)))
            raise PlanRefused(f"{fault.kind} at {fault.at:g} s has no target {fault.target}: {known or 'none'}")
        if fault.at < 0 or fault.lasts < 0:
            raise PlanRefused(f"{fault.kind} of {fault.target}: at and lasts are 0 or more")


def read_plan(content: bytes) -> Plan:
    """A plan from its JSON. Raises :class:`PlanRefused`."""
    try:
        plan = msgspec.json.decode(content, type=Plan)
    except msgspec.DecodeError as error:
        raise PlanRefused(f"not a plan: {error}") from error
    check(plan)
    return plan


def write_plan(plan: Plan) -> bytes:
    """The plan as JSON, to be read by people too."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"
