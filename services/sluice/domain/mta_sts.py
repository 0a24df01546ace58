"""What a domain publishes by MTA-STS: its TXT record and its policy (RFC 8461)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, cast, get_args

import msgspec

from sluice.domain.errors import Undecodable

StsMode = Literal["enforce", "testing", "none"]
StsResult = Literal["sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"]
"""What can go wrong with a policy that is announced, in the words of RFC 8460 section 4.3.2.2."""

MOST_AGE = 31_557_600
"""Seconds: the longest that a policy may be kept (RFC 8461 section 3.2)."""
MOST_PATTERNS = 1_000

_record = re.compile(r"v=STSv1[ \t]*;(.*)", re.DOTALL)
_id = re.compile(r"[A-Za-z0-9]{1,32}")
_age = re.compile(r"[0-9]{1,10}")
_label = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_pattern = re.compile(rf"(?:\*\.)?{_label}(?:\.{_label})*")


class StsPolicy(msgspec.Struct, frozen=True):
    """A policy. ``max_age`` in seconds; ``mx`` are host names, or ``*.`` and a name for one label more."""

    mode: StsMode
    max_age: int
    mx: tuple[str, ...] = ()

    def names(self, host: str) -> bool:
        """Whether ``host`` is one of the mail hosts that the policy vouches for (section 4.1)."""
        name = host.rstrip(".").lower()
        _, dot, parent = name.partition(".")
        return name in self.mx or (bool(dot) and f"*.{parent}" in self.mx)


class StsFailure(msgspec.Struct, frozen=True):
    """Why a policy that a domain announces could not be had."""

    result: StsResult
    reason: str


def record_id(texts: Iterable[str]) -> str | None:
    """The policy's id, from the TXT records at ``_mta-sts.DOMAIN``; None when they announce no policy (section 3.1)."""
    announced = [found[1] for text in texts if (found := _record.match(text))]
    if len(announced) != 1:
        return None
    fields = [field.strip(" \t") for field in announced[0].split(";")]
    ids = [field[3:].strip(" \t") for field in fields if field.startswith("id=")]
    return ids[0] if ids and _id.fullmatch(ids[0]) else None


def parse_policy(text: str) -> StsPolicy:
    """Read a policy file. Raises :class:`Undecodable` with the field at fault.

    Of a field given twice the first counts, but for ``mx``; fields that nobody knows are passed over (section 3.2).
    """
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        key, colon, value = (part.strip(" \t") for part in line.partition(":"))
        if key == "mx":
            patterns.append(value.rstrip(".").lower())
        elif colon:
            fields.setdefault(key, value)
    if fields.get("version") != "STSv1":
        raise Undecodable("version", "not STSv1")
    mode = fields.get("mode", "")
    if mode not in get_args(StsMode):
        raise Undecodable("mode", "not enforce, testing or none")
    age = fields.get("max_age", "")
    if not _age.fullmatch(age):
        raise Undecodable("max_age", "not a number of seconds")
    if len(patterns) > MOST_PATTERNS or not all(len(each) <= 255 and _pattern.fullmatch(each) for each in patterns):
        raise Undecodable("mx", "not host names")
    if not patterns and mode != "none":
        raise Undecodable("mx", "no mail host is named")
    return StsPolicy(cast("StsMode", mode), min(int(age), MOST_AGE), tuple(dict.fromkeys(patterns)))
