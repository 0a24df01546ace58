"""How well the built-in rules read replies: ``python benchmarks/classifier.py [--wrong]``.

Over the corpus in ``tests/unit/corpus`` it prints, for the replies that rules were written from and for the fifth kept
out of sight, the share whose category and whose action (wait or bounce) is right, the share left unclassified and the
number that would suppress a recipient for a fault not theirs, and the same by category; then the microseconds that one
reply takes when it was not seen before. ``--wrong`` lists what the open part gets wrong, never the held-out part.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import statistics
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

from sluice.adapters.rules import load_rules
from sluice.domain.bounce import SESSION, BounceRules, Category, Verdict
from sluice.domain.replies import enhanced_status
from sluice.domain.smtp import Phase, Replied

CORPUS = Path(__file__).parents[1] / "tests" / "unit" / "corpus"
FALLBACKS = frozenset(("fallback.temporary", "fallback.permanent", "fallback.unexpected"))
OF_THE_RECIPIENT = frozenset(("invalid_recipient", "bad_domain", "inactive_mailbox"))


class Case(NamedTuple):
    """A reply of the corpus, what it means by its source's own words, and that source."""

    replied: Replied
    site: str
    category: Category
    action: str
    source: str

    @property
    def letters(self) -> str:
        """The reply without its code, digits and signs: what tells one wording from another."""
        return re.sub(r"[^a-z]", "", (self.replied.enhanced or "") + self.replied.text.lower())


class Score(NamedTuple):
    """Counts over some cases."""

    cases: int
    category: int
    action: int
    unclassified: int
    suppressed_wrongly: int

    def __str__(self) -> str:
        shares = (f"{100 * part / self.cases:5.1f} %" for part in (self.category, self.action, self.unclassified))
        return f"{self.cases:5d}  " + "   ".join(shares) + f"   {self.suppressed_wrongly:8d}"


def read_corpus(path: Path) -> list[Case]:
    """The cases of one corpus file (a list of [[source]] tables), or of every file in a folder."""
    if path.is_dir():
        return [case for file in sorted(path.glob("*.toml")) for case in read_corpus(file)]
    sources = tomllib.loads(path.read_text(encoding="utf-8"))["source"]
    return [_case(source, told) for source in sources for told in source["replies"]]


def held_out(case: Case) -> bool:
    """Whether a wording belongs to the fifth kept out of sight: decided by its letters alone, so nobody chooses."""
    return hashlib.blake2b(case.letters.encode()).digest()[0] % 5 == 0


def verdict(rules: BounceRules, case: Case) -> Verdict:
    """What ``rules`` make of the case."""
    return rules.classify(case.replied, case.site)


def unclassified(found: Verdict) -> bool:
    """No rule knew the reply: it was judged by its code's first digit alone, or called unclassified."""
    return found.rule in FALLBACKS or found.category == "unclassified"


def suppresses_wrongly(case: Case, found: Verdict) -> bool:
    """The recipient would never be mailed again, for a fault that is not theirs."""
    return found.suppress and case.category not in OF_THE_RECIPIENT


def score(rules: BounceRules, cases: Iterable[Case]) -> Score:
    """How many of ``cases`` the rules read right."""
    pairs = [(case, verdict(rules, case)) for case in cases]
    return Score(
        len(pairs),
        sum(found.category == case.category for case, found in pairs),
        sum(found.action == case.action for case, found in pairs),
        sum(unclassified(found) for _, found in pairs),
        sum(suppresses_wrongly(case, found) for case, found in pairs),
    )


def _case(source: dict[str, Any], told: dict[str, str]) -> Case:
    phase = cast("Phase", told["phase"])
    code, text = int(told["reply"][:3]), told["reply"][4:]
    enhanced = enhanced_status(code, text)
    if enhanced is not None and text.startswith(enhanced):
        text = text[len(enhanced) :].lstrip()
    by_code = "bounce" if code >= 500 and phase not in SESSION else "defer"
    action = told.get("action", by_code)
    category = cast("Category", told["category"])
    return Case(
        Replied(phase, code, text, enhanced), source.get("site", "any.example"), category, action, source["name"]
    )


def _microseconds(rules: BounceRules, cases: list[Case], rounds: int = 20) -> float:
    fresh = rules.classify.__wrapped__  # past the memory of verdicts
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for case in cases:
            fresh(case.replied, case.site)
        taken.append((time.perf_counter() - begun) / len(cases) * 1e6)
    return statistics.median(taken)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrong", action="store_true", help="list the open replies that are read wrongly")
    asked = parser.parse_args()
    rules = load_rules().bounces
    parts = {"open": read_corpus(CORPUS / "open"), "held out": read_corpus(CORPUS / "held_out.toml")}
    print(f"{len(rules.rules)} rules, {sum(map(len, parts.values()))} replies")
    print(f"{'':<32}cases  category   action   unclassified  suppressed wrongly")
    for name, cases in parts.items():
        print(f"{name:<30} {score(rules, cases)}")
        by_category: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            by_category[case.category].append(case)
        for category in sorted(by_category):
            print(f"  {category:<28} {score(rules, by_category[category])}")
    print(f"{_microseconds(rules, parts['open'] + parts['held out']):.1f} µs per reply not seen before")
    if asked.wrong:
        for case in parts["open"]:
            found = verdict(rules, case)
            if (found.category, found.action) != (case.category, case.action):
                told = f"{case.replied.code} {case.replied.enhanced or ''} {case.replied.text[:110]!r}"
                print(f"{case.category}/{case.action} read as {found.category}/{found.action} by {found.rule}: {told}")


if __name__ == "__main__":
    main()
