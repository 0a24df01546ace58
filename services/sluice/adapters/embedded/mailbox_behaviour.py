"""How the mailbox server misbehaves: as values, from a file, and by words in an address."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal

import msgspec

from sluice.domain.errors import RuleError

Phase = Literal["mail", "rcpt", "data", "dot"]
"""What is being answered: MAIL FROM, RCPT TO, the word DATA, or the content's final dot."""

REPLY = re.compile(r"[245]\d\d( [^\r\n]*)?")
WORD = re.compile(r"(defer|full|bounce|reply|spam|slow|drop|hang|lost)(\d+(?:\.\d+)?)?")

WORDS_HELP = """\
words in the local part of a recipient, after a plus sign (ann+defer2@site.example, bob+slow5+bounce@site.example):
  +deferN   451 at RCPT the first N times this recipient is tried, then accepted (N: 1 when left out, 0 for always)
  +fullN    452 mailbox full at RCPT, N as above
  +bounce   550 no such user at RCPT
  +replyNNN reply code NNN at RCPT; 421 also closes the connection
  +spam     554 after the final dot
  +slowS    S seconds (5 when left out) before the reply to the final dot
  +dropN    the connection is closed after the final dot, the mail not kept, N as above
  +hangN    no reply after the final dot, the mail not kept, N as above
  +lostN    the mail is kept and the connection closed without a reply, N as above
"""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do at ``phase`` for recipients whose domain and local part match (globs; ``*`` matches all).

    ``delay`` seconds pass first. Then ``reply`` (such as ``"451 4.7.1 Try later"``) is sent in place of the usual one;
    or, by ``action``, the connection is closed, or nothing is said any more. ``first`` limits it to the first so many
    times per recipient, ``probability`` to a share of the times. ``keep`` stores the mail although no reply is sent:
    only at ``dot``, with ``disconnect`` or ``hang``. At ``mail`` the recipient is not known yet: it takes no patterns.
    """

    phase: Phase = "rcpt"
    domain: str = "*"
    local: str = "*"
    delay: float = 0.0
    reply: str | None = None
    action: Literal["reply", "disconnect", "hang"] = "reply"
    probability: float = 1.0
    first: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Raise :class:`RuleError` for what cannot be done."""
        if self.reply is not None and not REPLY.fullmatch(self.reply):
            raise RuleError(f"reply {self.reply!r} is not a three-digit SMTP code and a text on one line")
        if self.reply is not None and self.action != "reply":
            raise RuleError(f"a reply and the action {self.action!r} exclude each other")
        if self.keep and (self.phase != "dot" or self.action == "reply"):
            raise RuleError("keep goes with phase 'dot' and action 'disconnect' or 'hang' only")
        if self.phase == "mail" and (self.domain, self.local) != ("*", "*"):
            raise RuleError("at phase 'mail' the recipient is not known yet: leave domain and local out")
        if self.delay < 0 or not 0 <= self.probability <= 1 or (self.first is not None and self.first < 1):
            raise RuleError("delay is 0 or more, probability from 0 to 1, first 1 or more")

    @property
    def normal(self) -> bool:
        """Whether the usual reply is sent, perhaps late."""
        return self.action == "reply" and (self.reply is None or self.reply[0] == "2")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    behaviour: list[Behaviour] = []


def read_behaviours(path: Path) -> list[Behaviour]:
    """The ``[[behaviour]]`` tables of a TOML file, with the fields of :class:`Behaviour`. Raises :class:`RuleError`."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).behaviour
    except (OSError, ValueError, RuleError) as error:
        raise RuleError(f"{path}: {error}") from error


class Behaviours:
    """Decides by the rules given, the first that applies winning, and by the words in the address before them."""

    def __init__(self, rules: Iterable[Behaviour] = (), *, random: Random) -> None:
        self.rules = tuple(rules)
        self._patterns = [(re.compile(translate(rule.domain.lower())), rule) for rule in self.rules]
        self._random = random
        self._times: Counter[tuple[Behaviour, str]] = Counter()
        self._of_domain = lru_cache(maxsize=4096)(self._match_domain)

    def decide(self, phase: Phase, recipients: Iterable[str]) -> Behaviour | None:
        """What to do at ``phase`` for the first of ``recipients`` that something is due for; None: nothing special."""
        for recipient in recipients:
            local, _, domain = recipient.lower().rpartition("@")
            for rule in self._candidates(local, domain):
                if rule.phase == phase and self._due(rule, recipient):
                    return rule
        return None

    def _candidates(self, local: str, domain: str) -> Iterable[Behaviour]:
        if "+" in local:
            yield from words(local)
        for rule, pattern in self._of_domain(domain):
            if pattern is None or pattern.fullmatch(local):
                yield rule

    def _match_domain(self, domain: str) -> tuple[tuple[Behaviour, re.Pattern[str] | None], ...]:
        return tuple(
            (rule, None if rule.local == "*" else re.compile(translate(rule.local.lower())))
            for pattern, rule in self._patterns
            if pattern.fullmatch(domain)
        )

    def _due(self, rule: Behaviour, recipient: str) -> bool:
        if rule.probability < 1 and self._random.random() >= rule.probability:
            return False
        if rule.first is not None:
            key = (rule, recipient.lower())
            if self._times[key] >= rule.first:
                return False
            self._times[key] += 1
        return True


def words(local: str) -> list[Behaviour]:
    """The behaviours that the words after plus signs in a local part ask for; words not known mean nothing."""
    found = (WORD.fullmatch(word) for word in local.lower().split("+")[1:])
    return [rule for match in found if match is not None and (rule := _word(match[1], match[2])) is not None]


def _word(word: str, number: str | None) -> Behaviour | None:
    times = 1 if number is None else int(float(number))
    first = times or None
    match word:
        case "defer":
            return Behaviour(reply="451 4.2.0 Try again later", first=first)
        case "full":
            return Behaviour(reply="452 4.2.2 Mailbox full", first=first)
        case "bounce":
            return Behaviour(reply="550 5.1.1 No such user here")
        case "reply" if number is not None and REPLY.fullmatch(number):
            return Behaviour(reply=f"{number} As asked")
        case "spam":
            return Behaviour(phase="dot", reply="554 5.7.1 Content refused")
        case "slow":
            return Behaviour(phase="dot", delay=5.0 if number is None else float(number))
        case "drop":
            return Behaviour(phase="dot", action="disconnect", first=first)
        case "hang":
            return Behaviour(phase="dot", action="hang", first=first)
        case "lost":
            return Behaviour(phase="dot", action="disconnect", keep=True, first=first)
    return None
