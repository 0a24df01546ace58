"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from sluice.commands.failures import explain

State = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: how it is, in detail, and what to do about it."""

    check: str
    state: State
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """As it should be."""
    return Finding(check, "ok", detail)


def doubtful(check: str, detail: str, remedy: str) -> Finding:
    """Works, but perhaps not as meant."""
    return Finding(check, "warn", detail, remedy)


def wrong(check: str, detail: str, remedy: str) -> Finding:
    """Mail will not go out, or will be lost sight of, until this is mended."""
    return Finding(check, "fail", detail, remedy)


def guarded(check: str, remedy: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What ``look`` finds; an expected failure of it is a finding itself."""
    try:
        yield from look()
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        yield wrong(check, told[0], remedy)
