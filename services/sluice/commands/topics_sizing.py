"""What ``sluice topics plan --rate`` says: how large an installation has to be."""

from __future__ import annotations

from sluice.commands.failures import WrongUsage
from sluice.commands.output import console, print_json, say, table
from sluice.domain.sizing import Load, size

_SETTINGS = {
    "mail.send.*": "SLUICE_KAFKA_SEND_PARTITIONS",
    "mail.ready.*": "SLUICE_KAFKA_LANE_PARTITIONS",
    "mail.wheel.*": "SLUICE_KAFKA_WHEEL_PARTITIONS",
}


def heavy_sites(given: list[str]) -> dict[str, float]:
    """``NAME=40%`` (or ``NAME=0.4``) as parts of all mail; raises :class:`WrongUsage`."""
    found: dict[str, float] = {}
    for text in given:
        name, _, part = text.partition("=")
        try:
            found[name] = float(part.removesuffix("%")) / 100 if part.endswith("%") else float(part)
        except ValueError:
            raise WrongUsage(f"--heavy-site {text}: write NAME=40%, its part of all mail") from None
    return found


def print_size(load: Load, *, as_json: bool) -> None:
    """The table, and the settings to take over; raises :class:`sluice.domain.errors.RuleError`."""
    needs = size(load)
    if as_json:
        return print_json(needs)
    rows = [(need.what, need.value, need.unit, need.why) for need in needs]
    console().print(table(("what", "needed>", "", "why"), rows))
    for need in needs:
        if need.unit == "partitions":
            say(f"export {_SETTINGS[need.what]}={need.value}")
    return say("\nA plan from what was measured on one machine: try it with your mail before you trust it.")
