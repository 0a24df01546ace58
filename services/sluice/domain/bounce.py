"""What a failed attempt means: its category, whose fault it is, and what to do about it.

The knowledge lies in ``rules/bounces.toml``; this is how it is applied. Rules are tried in order, and the first one
whose every condition holds decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

from sluice.domain.errors import RuleError
from sluice.domain.outcome import Fault
from sluice.domain.replies import retry_hint
from sluice.domain.smtp import Broken, Phase, Replied, Result, Unknown

Category = Literal[
    "invalid_recipient", "bad_domain", "inactive_mailbox", "invalid_sender", "quota", "no_answer", "bad_connection",
    "dns_failure", "routing", "transient", "expired", "protocol", "authentication", "policy", "spam_block",
    "spam_content", "too_many_recipients", "unclassified",
]  # fmt: skip

Action = Literal["deliver", "defer", "bounce", "in_doubt"]

SESSION: frozenset[Phase] = frozenset(("resolve", "connect", "banner", "ehlo", "starttls", "auth"))
"""Phases before the mail is spoken of: a 5xx there refuses the session, so the mail waits unless a rule bounces it."""

NAMED: frozenset[Phase] = frozenset(("resolve", "rcpt", "data", "dot"))
"""Phases that know the recipient: what is refused in another cannot be the recipient's fault, so never suppresses."""

TEXT_READ = 2000
"""Characters of a reply's text that are looked at."""
VERDICTS_KEPT = 4096


class Traits(msgspec.Struct, frozen=True):
    """What goes with a category unless a rule says otherwise. ``suppress`` needs the recipient's fault."""

    fault: Fault
    slow_down: bool = False
    suppress: bool = False


class BounceRule(msgspec.Struct, frozen=True, kw_only=True):
    """One line of operators' knowledge. Conditions left empty always hold.

    ``codes`` are reply codes, ``x`` standing for any digit; ``enhanced`` are statuses, ``x`` standing for a number or
    a digit (``x.1.1``, ``5.7.6xx``); ``contains`` are lower-case literals of which one must occur in the text; ``text``
    is a regular expression; ``reasons`` are those of :class:`Broken`, and make the rule one about broken conversations.
    ``suspend`` is in seconds. ``pace`` names the retry pace, the category's by default.
    """

    id: str
    category: Category
    codes: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    text: str | None = None
    phases: tuple[Phase, ...] = ()
    sites: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    action: Literal["defer", "bounce"] | None = None
    fault: Fault | None = None
    slow_down: bool | None = None
    suspend: float | None = None
    suppress: bool | None = None
    pace: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What an attempt's result means.

    ``category`` is None when the mail was delivered. ``slow_down``: our reputation is blamed, apply the site's penalty.
    ``suspend``: seconds during which nothing should be tried at the lane. ``suppress``: never mail this recipient
    again. ``rule`` names what decided. ``pace`` goes to :meth:`RetryRules.policy_for`, ``retry_after`` (seconds the
    server asked to wait) to :func:`next_attempt` as its hint.
    """

    category: Category | None
    fault: Fault
    action: Action
    rule: str
    slow_down: bool = False
    suspend: float | None = None
    suppress: bool = False
    pace: str | None = None
    retry_after: float | None = None


DELIVERED = Verdict(None, "none", "deliver", "delivered")

_CODE = re.compile(r"[2-5x][0-9x]{2}")
_STATUS = re.compile(r"[245x]\.[0-9x]{1,3}\.[0-9x]{1,3}")
_IN_TEXT = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")


class _Compiled:
    """A rule with its patterns compiled."""

    __slots__ = ("codes", "contains", "enhanced", "phases", "reasons", "rule", "sites", "text")

    def __init__(self, rule: BounceRule) -> None:
        self.rule = rule
        self.codes = _any(rule.codes, _code_pattern)
        self.enhanced = _any(rule.enhanced, _status_pattern)
        self.contains = rule.contains
        self.phases = frozenset(rule.phases)
        self.sites = frozenset(rule.sites)
        self.reasons = frozenset(rule.reasons)
        try:
            self.text = re.compile(rule.text, re.IGNORECASE) if rule.text else None
        except re.error as error:
            raise RuleError(f"text: not a regular expression: {error}") from error

    def about(self, phase: Phase, site: str) -> bool:
        return (not self.phases or phase in self.phases) and (not self.sites or site in self.sites)

    def says(self, enhanced: str | None, text: str) -> bool:
        if self.enhanced is not None and (enhanced is None or not self.enhanced.fullmatch(enhanced)):
            return False
        if self.contains:
            for literal in self.contains:
                if literal in text:
                    break
            else:
                return False
        return self.text is None or self.text.search(text) is not None


class BounceRules:
    """All rules, compiled. Immutable; verdicts on replies seen before are remembered.

    Raises :class:`RuleError` when a pattern is wrong or a rule would suppress for what is not the recipient's fault.
    """

    def __init__(self, rules: Iterable[BounceRule], traits: Mapping[Category, Traits]) -> None:
        self.rules = tuple(rules)
        self.traits = dict(traits)
        for rule in self.rules:
            check_rule(rule, self.traits)
        compiled = [_Compiled(rule) for rule in self.rules]
        self._spoken = [each for each in compiled if not each.reasons]
        self._broken = [each for each in compiled if each.reasons]
        self._by_code: dict[int, tuple[_Compiled, ...]] = {}
        self.classify = lru_cache(VERDICTS_KEPT)(self._classify)

    def _classify(self, result: Result, site: str) -> Verdict:
        if isinstance(result, Unknown):
            category: Category = "no_answer" if result.reason == "timeout" else "bad_connection"
            return Verdict(category, "site", "in_doubt", "in_doubt", pace=category)
        if isinstance(result, Broken):
            for each in self._broken:
                if result.reason in each.reasons and each.about(result.phase, site) and each.says(None, result.detail):
                    return self._verdict(each.rule, each.rule.action or "defer", result.phase, "")
            return self._fallback("bad_connection", "defer", "fallback.broken", result.phase, "")
        return self._replied(result, site)

    def _replied(self, result: Replied, site: str) -> Verdict:
        if result.accepted:
            return DELIVERED
        code = result.code
        enhanced = result.enhanced
        text = result.text[:TEXT_READ].lower()
        if enhanced is None:
            found = _IN_TEXT.search(text)
            enhanced = found[1] if found and found[1][0] == str(code)[0] else None
        if enhanced is not None:
            # Servers repeat the status on every line, so it would stand between the words of a sentence.
            text = text.replace(enhanced, " ")
        text = " ".join(text.split())
        action: Literal["defer", "bounce"] = "bounce" if 500 <= code < 600 and result.phase not in SESSION else "defer"
        for each in self._candidates(code):
            if each.about(result.phase, site) and each.says(enhanced, text):
                return self._verdict(each.rule, each.rule.action or action, result.phase, text)
        if 400 <= code < 500:
            return self._fallback("transient", action, "fallback.temporary", result.phase, text)
        if 500 <= code < 600:
            return self._fallback("unclassified", action, "fallback.permanent", result.phase, text)
        return self._fallback("protocol", "defer", "fallback.unexpected", result.phase, text)

    def _candidates(self, code: int) -> tuple[_Compiled, ...]:
        found = self._by_code.get(code)
        if found is None:
            text = str(code)
            failure = 400 <= code < 600
            found = tuple(e for e in self._spoken if (e.codes.fullmatch(text) if e.codes is not None else failure))
            self._by_code[code] = found
        return found

    def _verdict(self, rule: BounceRule, action: Literal["defer", "bounce"], phase: Phase, text: str) -> Verdict:
        traits = self.traits[rule.category]
        fault = rule.fault or traits.fault
        suppress = traits.suppress if rule.suppress is None else rule.suppress
        return Verdict(
            rule.category,
            fault,
            action,
            rule.id,
            slow_down=traits.slow_down if rule.slow_down is None else rule.slow_down,
            suspend=rule.suspend,
            suppress=suppress and action == "bounce" and fault == "recipient" and phase in NAMED,
            pace=rule.pace or rule.category,
            retry_after=retry_hint(text) if action == "defer" else None,
        )

    def _fallback(
        self, category: Category, action: Literal["defer", "bounce"], rule: str, phase: Phase, text: str
    ) -> Verdict:
        return self._verdict(BounceRule(id=rule, category=category), action, phase, text)


def classify(rules: BounceRules, result: Result, *, site: str) -> Verdict:
    """What ``result`` means at the site named ``site``. Never raises; everything has a verdict.

    ``in_doubt`` is the action for :class:`Unknown`: the mail's own policy decides whether it is sent again.
    """
    return rules.classify(result, site)


def check_rule(rule: BounceRule, traits: Mapping[Category, Traits]) -> None:
    """Raise :class:`RuleError` when ``rule`` cannot be followed."""
    if rule.category not in traits:
        raise RuleError(f"category: {rule.category} has no [category.{rule.category}] table")
    if rule.suppress and (rule.fault or traits[rule.category].fault) != "recipient":
        raise RuleError("suppress: only what is the recipient's own fault may suppress")
    if rule.reasons and (rule.codes or rule.enhanced):
        raise RuleError("reasons: a broken conversation has neither code nor status")
    for literal in rule.contains:
        if literal != " ".join(literal.lower().split()) or not literal:
            raise RuleError(f"contains: {literal!r} can never match; write lower case and single blanks")
    _Compiled(rule)


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
