"""What a failed attempt means: its category, whose fault it is, and what to do about it.

The knowledge lies in ``rules/bounces.toml``; this is how it is applied. Rules are tried in order, and the first one
whose every condition holds decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

from sluice.domain.conditions import Conditions, Matcher, check_conditions, heard
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

VERDICTS_KEPT = 4096


class Traits(msgspec.Struct, frozen=True):
    """What goes with a category unless a rule says otherwise. ``suppress`` needs the recipient's fault."""

    fault: Fault
    slow_down: bool = False
    suppress: bool = False


class BounceRule(Conditions, frozen=True, kw_only=True):
    """One line of operators' knowledge: what it means when the conditions hold.

    ``suspend`` is in seconds. ``pace`` names the retry pace, the category's by default.
    """

    id: str
    category: Category
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


class BounceRules:
    """All rules, compiled. Immutable; verdicts on replies seen before are remembered.

    Raises :class:`RuleError` when a pattern is wrong or a rule would suppress for what is not the recipient's fault.
    """

    def __init__(self, rules: Iterable[BounceRule], traits: Mapping[Category, Traits]) -> None:
        self.rules = tuple(rules)
        self.traits = dict(traits)
        for rule in self.rules:
            check_rule(rule, self.traits)
        compiled = [(rule, Matcher(rule)) for rule in self.rules]
        self._spoken = [each for each in compiled if not each[1].reasons]
        self._broken = [each for each in compiled if each[1].reasons]
        self._by_code: dict[int, tuple[tuple[BounceRule, Matcher], ...]] = {}
        self.classify = lru_cache(VERDICTS_KEPT)(self._classify)

    def _classify(self, result: Result, site: str) -> Verdict:
        if isinstance(result, Unknown):
            category: Category = "no_answer" if result.reason == "timeout" else "bad_connection"
            return Verdict(category, "site", "in_doubt", "in_doubt", pace=category)
        if isinstance(result, Broken):
            for rule, matcher in self._broken:
                if matcher.matches(result, site):
                    return self._verdict(rule, rule.action or "defer", result.phase, "")
            return self._fallback("bad_connection", "defer", "fallback.broken", result.phase, "")
        return self._replied(result, site)

    def _replied(self, result: Replied, site: str) -> Verdict:
        if result.accepted:
            return DELIVERED
        code = result.code
        enhanced, text = heard(result)
        action: Literal["defer", "bounce"] = "bounce" if 500 <= code < 600 and result.phase not in SESSION else "defer"
        for rule, matcher in self._candidates(code):
            if matcher.about(result.phase, site) and matcher.says(enhanced, text):
                return self._verdict(rule, rule.action or action, result.phase, text)
        if 400 <= code < 500:
            return self._fallback("transient", action, "fallback.temporary", result.phase, text)
        if 500 <= code < 600:
            return self._fallback("unclassified", action, "fallback.permanent", result.phase, text)
        return self._fallback("protocol", "defer", "fallback.unexpected", result.phase, text)

    def _candidates(self, code: int) -> tuple[tuple[BounceRule, Matcher], ...]:
        found = self._by_code.get(code)
        if found is None:
            found = tuple(each for each in self._spoken if each[1].answers(code))
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
    check_conditions(rule)
