"""What replies mean: the built-in rules against a corpus, and how rules are applied."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.rules import load_rules
from sluice.domain.bounce import BounceRule, BounceRules, Category, Traits, Verdict, classify
from sluice.domain.errors import RuleError
from sluice.domain.routing import LOOP, NO_ADDRESS, NO_SUCH_DOMAIN, NULL_MX, lookup_failed
from sluice.domain.smtp import Broken, Phase, Replied, Unknown

RULES = load_rules().bounces
CORPUS = tomllib.loads((Path(__file__).parent / "corpus" / "replies.toml").read_text())["reply"]
PHASES: tuple[Phase, ...] = get_args(Phase)
TRAITS: dict[Category, Traits] = {
    "transient": Traits("site"),
    "unclassified": Traits("none"),
    "protocol": Traits("site"),
    "bad_connection": Traits("site"),
    "invalid_recipient": Traits("recipient", suppress=True),
}


def replied(text: str, phase: Phase = "rcpt") -> Replied:
    match = re.fullmatch(r"(\d{3})[ -](?:(\d\.\d{1,3}\.\d{1,3}) )?(.*)", text, re.DOTALL)
    assert match
    return Replied(phase, int(match[1]), match[3], match[2])


def verdict(text: str, phase: Phase = "rcpt", *, site: str = "any.example") -> Verdict:
    return classify(RULES, replied(text, phase), site=site)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["reply"][:40])
def test_known_replies_mean_what_their_operators_say(case: dict[str, Any]) -> None:
    found = verdict(case["reply"], case["phase"], site=case.get("site", "any.example"))
    by_code = {"4": "defer", "5": "bounce"}.get(case["reply"][0])
    told = {key: getattr(found, key) for key in case if key not in ("reply", "phase", "site")}
    assert told == {key: case[key] for key in told}, found.rule
    assert found.action == case.get("action", by_code), found.rule
    assert found.suppress == case.get("suppress", found.suppress)


def test_the_corpus_is_large_and_covers_what_matters() -> None:
    assert len(CORPUS) >= 80
    covered = {case["category"] for case in CORPUS}
    by_reply = set(get_args(Category)) - {"no_answer", "dns_failure", "expired"}
    assert by_reply <= covered


def test_an_accepted_mail_is_delivered() -> None:
    found = verdict("250 2.0.0 queued", "dot")
    assert found.action == "deliver"
    assert found.category is None
    assert verdict("250 2.1.5 ok", "rcpt").action == "defer"


@pytest.mark.parametrize("reason", ["timeout", "disconnected", "garbage", "never heard of"])
def test_no_reply_after_the_dot_is_doubt(reason: str) -> None:
    assert classify(RULES, Unknown(reason), site="x").action == "in_doubt"


@pytest.mark.parametrize(
    ("result", "category", "action", "suppress"),
    [
        (NULL_MX, "bad_domain", "bounce", True),
        (NO_SUCH_DOMAIN, "bad_domain", "bounce", True),
        (LOOP, "routing", "bounce", False),
        (NO_ADDRESS, "routing", "defer", False),
        (lookup_failed("servfail"), "dns_failure", "defer", False),
        (Broken("connect", "refused"), "no_answer", "defer", False),
        (Broken("connect", "timeout"), "no_answer", "defer", False),
        (Broken("rcpt", "timeout"), "bad_connection", "defer", False),
        (Broken("data", "disconnected"), "bad_connection", "defer", False),
        (Broken("ehlo", "garbage"), "protocol", "defer", False),
        (Broken("starttls", "tls"), "policy", "defer", False),
        (Broken("mail", "unsupported"), "protocol", "bounce", False),
        (Broken("auth", "unsupported"), "protocol", "defer", False),
        (Broken("rset", "never heard of"), "bad_connection", "defer", False),
    ],
)
def test_conversations_without_a_reply(result: Broken, category: str, action: str, suppress: bool) -> None:
    found = classify(RULES, result, site="x")
    assert (found.category, found.action, found.suppress) == (category, action, suppress)


texts = st.text(max_size=200) | st.sampled_from([case["reply"] for case in CORPUS])
statuses = st.none() | st.from_regex(r"[245]\.\d{1,3}\.\d{1,3}", fullmatch=True)


@given(st.integers(100, 999), texts, statuses, st.sampled_from(PHASES))
def test_everything_has_a_verdict_and_only_recipients_are_suppressed(
    code: int, text: str, enhanced: str | None, phase: Phase
) -> None:
    found = classify(RULES, Replied(phase, code, text, enhanced), site="google")
    assert found.rule
    if found.suppress:
        assert found.fault == "recipient"
        assert found.action == "bounce"
    if 400 <= code < 500:
        assert found.action == "defer"
    if found.slow_down:
        assert found.fault == "sender"


@pytest.mark.parametrize("category", [name for name in get_args(Category) if RULES.traits[name].fault == "sender"])
def test_what_is_the_senders_fault_never_suppresses(category: Category) -> None:
    assert not any(rule.suppress for rule in RULES.rules if rule.category == category)
    assert not RULES.traits[category].suppress


@pytest.mark.parametrize(
    "text", ["a" * 10_000, "spam " * 2000, "5.1.1 " * 1600, "1." * 5000, " " * 10_000, "mail for " * 1100]
)
def test_replies_of_ten_kilobytes_cost_next_to_nothing(text: str) -> None:
    begun = time.thread_time()
    for code in (421, 450, 550, 554):
        RULES.classify.__wrapped__(Replied("dot", code, text), "google")  # past the memory of verdicts
    assert time.thread_time() - begun < 0.05


def test_every_regular_expression_is_linear_enough() -> None:
    for rule in RULES.rules:
        if rule.text:
            for text in ("a" * 10_000, "spam" * 2500, " -" * 5000):
                begun = time.thread_time()
                re.search(rule.text, text, re.IGNORECASE)
                assert time.thread_time() - begun < 0.02, rule.id


def rules(*given: BounceRule) -> BounceRules:
    return BounceRules(given, TRAITS)


def test_the_first_rule_whose_every_condition_holds_decides() -> None:
    tried = rules(
        BounceRule(id="site", category="transient", sites=("there",), contains=("full",)),
        BounceRule(id="phase", category="transient", phases=("dot",), contains=("full",)),
        BounceRule(id="code", category="transient", codes=("45x",), contains=("full",)),
        BounceRule(id="status", category="transient", enhanced=("x.2.x",), contains=("full",)),
        BounceRule(id="text", category="transient", text="fu+ll$"),
        BounceRule(id="late", category="transient", contains=("full",)),
    )
    assert classify(tried, replied("550 full"), site="there").rule == "site"
    assert classify(tried, replied("550 full", "dot"), site="x").rule == "phase"
    assert classify(tried, replied("451 Full"), site="x").rule == "code"
    assert classify(tried, replied("550 5.2.3 full"), site="x").rule == "status"
    assert classify(tried, replied("550 FULL"), site="x").rule == "text"
    assert classify(tried, replied("550 full of it"), site="x").rule == "late"
    assert classify(tried, replied("550 else"), site="x").rule == "fallback.permanent"


def test_a_status_inside_the_text_counts_when_its_class_fits() -> None:
    tried = rules(BounceRule(id="unknown", category="invalid_recipient", enhanced=("5.1.1",)))
    assert classify(tried, replied("550 sorry (#5.1.1)"), site="x").rule == "unknown"
    assert classify(tried, replied("450 sorry (#5.1.1)"), site="x").rule == "fallback.temporary"
    assert classify(tried, replied("550 at 5.1.1.7"), site="x").rule == "fallback.permanent"


def test_a_refused_session_waits_but_a_refused_mail_bounces() -> None:
    tried = rules(BounceRule(id="no", category="invalid_recipient", codes=("554",)))
    waiting = classify(tried, replied("554 no", "banner"), site="x")
    assert (waiting.action, waiting.suppress) == ("defer", False)
    refused = classify(tried, replied("554 no", "rcpt"), site="x")
    assert (refused.action, refused.suppress) == ("bounce", True)


@pytest.mark.parametrize(
    "wrong",
    [
        BounceRule(id="x", category="transient", codes=("5500",)),
        BounceRule(id="x", category="transient", enhanced=("5.1",)),
        BounceRule(id="x", category="transient", text="("),
        BounceRule(id="x", category="transient", contains=("Upper",)),
        BounceRule(id="x", category="transient", suppress=True),
        BounceRule(id="x", category="quota"),
        BounceRule(id="x", category="transient", reasons=("timeout",), codes=("550",)),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(wrong: BounceRule) -> None:
    with pytest.raises(RuleError):
        rules(wrong)
