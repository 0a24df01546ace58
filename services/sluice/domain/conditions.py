"""What an attempt's result must look like for a rule or a trigger to be about it."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from sluice.domain.errors import RuleError
from sluice.domain.smtp import Phase, Replied, Result, Unknown

TEXT_READ = 2000
"""Characters of a reply's text that are looked at."""

_CODE = re.compile(r"[2-5x][0-9x]{2}")
_STATUS = re.compile(r"[245x]\.[0-9x]{1,3}\.[0-9x]{1,3}")
_IN_TEXT = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """All of them must hold; those left empty always do.

    ``codes`` are reply codes, ``x`` standing for any digit; ``enhanced`` are statuses, ``x`` standing for a number or
    a digit (``x.1.1``, ``5.7.6xx``); ``contains`` are lower-case literals of which one must occur in the text; ``text``
    is a regular expression; ``reasons`` are those of :class:`~sluice.domain.smtp.Broken`, and make it one about broken
    conversations.
    """

    codes: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    text: str | None = None
    phases: tuple[Phase, ...] = ()
    sites: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


class Matcher:
    """Conditions with their patterns compiled. Raises :class:`RuleError` for a pattern that is wrong."""

    __slots__ = ("codes", "contains", "enhanced", "phases", "reasons", "sites", "text")

    def __init__(self, conditions: Conditions) -> None:
        self.codes = _any(conditions.codes, _code_pattern)
        self.enhanced = _any(conditions.enhanced, _status_pattern)
        self.contains = conditions.contains
        self.phases = frozenset(conditions.phases)
        self.sites = frozenset(conditions.sites)
        self.reasons = frozenset(conditions.reasons)
        try:
            self.text = re.compile(conditions.text, re.IGNORECASE) if conditions.text else None
        except re.error as error:
            raise RuleError(f"text: not a regular expression: {error}") from error

    def answers(self, code: int) -> bool:
        """Whether a reply with ``code`` can match; without codes, every failure can."""
        return bool(self.codes.fullmatch(str(code))) if self.codes is not None else 400 <= code < 600

    def about(self, phase: Phase, site: str) -> bool:
        """Whether the place in the conversation and the site fit."""
        return (not self.phases or phase in self.phases) and (not self.sites or site in self.sites)

    def says(self, enhanced: str | None, text: str) -> bool:
        """Whether status and text fit; ``text`` as :func:`heard` gives it."""
        if self.enhanced is not None and (enhanced is None or not self.enhanced.fullmatch(enhanced)):
            return False
        if self.contains:
            for literal in self.contains:
                if literal in text:
                    break
            else:
                return False
        return self.text is None or self.text.search(text) is not None

    def matches(self, result: Result, site: str) -> bool:
        """Whether all conditions hold for ``result`` at the site named ``site``. A delivered mail matches nothing."""
        if isinstance(result, Replied):
            if self.reasons or result.accepted or not self.answers(result.code):
                return False
            return self.about(result.phase, site) and self.says(*heard(result))
        return result.reason in self.reasons and self.about(phase_of(result), site) and self.says(None, result.detail)


def phase_of(result: Result) -> Phase:
    """Where in the conversation ``result`` belongs; an answer that never came was due after the final dot."""
    return "dot" if isinstance(result, Unknown) else result.phase


def heard(result: Replied) -> tuple[str | None, str]:
    """A reply's status, also one that stands inside its text, and the text in lower case, single blanks, without it."""
    enhanced = result.enhanced
    text = result.text[:TEXT_READ].lower()
    if enhanced is None:
        found = _IN_TEXT.search(text)
        enhanced = found[1] if found and found[1][0] == str(result.code)[0] else None
    if enhanced is not None:
        # Servers repeat the status on every line, so it would stand between the words of a sentence.
        text = text.replace(enhanced, " ")
    return enhanced, " ".join(text.split())


def check_conditions(conditions: Conditions) -> None:
    """Raise :class:`RuleError` when nothing could ever match."""
    if conditions.reasons and (conditions.codes or conditions.enhanced):
        raise RuleError("reasons: a broken conversation has neither code nor status")
    for literal in conditions.contains:
        if literal != " ".join(literal.lower().split()) or not literal:
            raise RuleError(f"contains: {literal!r} can never match; write lower case and single blanks")
    Matcher(conditions)


def _any(patterns: tuple[str, ...], translate: Callable[[str], str]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(each) for each in patterns)) if patterns else None


def _code_pattern(code: str) -> str:
    if not _CODE.fullmatch(code):
        raise RuleError(f"codes: {code!r} is no reply code; write three digits, x for any")
    return code.replace("x", r"\d")


def _status_pattern(status: str) -> str:
    if not _STATUS.fullmatch(status):
        raise RuleError(f"enhanced: {status!r} is no status; write three numbers with dots, x for any")
    return r"\.".join(r"\d{1,3}" if part == "x" else part.replace("x", r"\d") for part in status.split("."))
