"""The figures of ``compare.py``, and what follows from them."""

from __future__ import annotations

from statistics import median

import msgspec

NOT_THE_SYSTEM = ("producer", "smtp-sink")
"""Processes that load and receive: they use the machine, but are no part of what is compared."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. ``seconds`` is to the last 250, for Sluice to the last outcome stored where that is later."""

    system: str
    variant: str
    mails: int
    extra_copies: int
    """Mails beyond those sent that the sink took: an at-least-once system may send one twice."""
    mean_size: float
    """Octets, of the mails that were looked at before."""
    seconds_to_250: float
    seconds: float
    cpu_ms_per_mail: dict[str, float]

    @property
    def rate(self) -> float:
        """Mails a second."""
        return self.mails / self.seconds


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds of one system and variant; rates in mails a second."""

    system: str
    variant: str
    rounds: int
    rate: float
    slowest: float
    fastest: float
    rate_to_250: float
    mean_size: float
    cpu_ms_per_mail: dict[str, float]

    @property
    def own_cpu(self) -> float:
        """CPU milliseconds per mail of the system itself."""
        return sum(used for name, used in self.cpu_ms_per_mail.items() if name not in NOT_THE_SYSTEM)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    rounds: list[Round]
    summary: list[Line]


def summarise(rounds: list[Round]) -> list[Line]:
    """Medians, in the order in which systems and variants first came."""
    groups: dict[tuple[str, str], list[Round]] = {}
    for done in rounds:
        groups.setdefault((done.system, done.variant), []).append(done)
    return [
        Line(
            system=system,
            variant=variant,
            rounds=len(group),
            rate=median(done.rate for done in group),
            slowest=min(done.rate for done in group),
            fastest=max(done.rate for done in group),
            rate_to_250=median(done.mails / done.seconds_to_250 for done in group),
            mean_size=median(done.mean_size for done in group),
            cpu_ms_per_mail={
                name: round(median(done.cpu_ms_per_mail.get(name, 0.0) for done in group), 3)
                for name in group[0].cpu_ms_per_mail
            },
        )
        for (system, variant), group in groups.items()
    ]


def ratios(comparison: Comparison) -> str:
    """A sentence that sets Sluice's median rate against each of the others'; empty when either was not measured."""
    ours = max((line.rate for line in comparison.summary if line.system == "Sluice"), default=None)
    others = [line for line in comparison.summary if line.system != "Sluice"]
    if ours is None or not others:
        return ""
    told = [f"{ours / line.rate:.1f} times {line.system} with {line.variant}" for line in others]
    return f"Sluice delivers {', '.join(told[:-1])}{' and ' if told[:-1] else ''}{told[-1]}, in mails a second."


def table(comparison: Comparison) -> str:
    """Markdown: the systems, then what each of their parts costs."""
    lines = [
        "| system | mails/s | slowest to fastest | to the 250 alone | CPU ms per mail | octets |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {line.system}, {line.variant} | {line.rate:,.0f} | {line.slowest:,.0f} to {line.fastest:,.0f} | "
        f"{line.rate_to_250:,.0f} | {line.own_cpu:.2f} | {line.mean_size:,.0f} |"
        for line in comparison.summary
    ]
    if told := ratios(comparison):
        lines += ["", told]
    lines += ["", "| CPU ms per mail | by process |", "|---|---|"]
    lines += [
        f"| {line.system}, {line.variant} | "
        + ", ".join(f"{name} {used:.2f}" for name, used in line.cpu_ms_per_mail.items())
        + " |"
        for line in comparison.summary
    ]
    return "\n".join(lines)
