"""Mails that are held because it is not known whether the receiving server took them: how they lie in ``mail.dead``.

A held mail is a dead letter with a reason of its own. What became of it is a second record there, a note without a
value, so that nothing that was decided is decided again. Mail and round name both: a mail that is released and held
once more is another round.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from sluice.domain.conclusion import Recorder
from sluice.domain.errors import Undecodable
from sluice.domain.mail import Mail, read_mail
from sluice.domain.outcome import Outcome, OutcomeType
from sluice.domain.site import lane_partition
from sluice.domain.topics import DEAD, READY
from sluice.ports.bus import Record
from sluice.ports.intake import Taken
from sluice.ports.records import REASON, dead_record, replay_record

HELD = "held in doubt: "
"""How the reason of a held mail's letter begins."""
DECIDED = "sluice-decided"
"""Header of a note: ``released`` or ``dropped``."""
SUBJECT = "sluice-subject"
"""Header of a note: the mail's id and round that were decided on."""


What = Literal["released", "dropped"]


class Decision(msgspec.Struct, frozen=True):
    """What an operator decides on held mails, as ``who``, and why."""

    who: str
    why: str
    at: float


class Held(msgspec.Struct, frozen=True):
    """A mail that waits for somebody to decide. ``since`` in seconds since the epoch."""

    mail: Mail
    letter: Taken
    reason: str
    since: float

    @property
    def name(self) -> str:
        """The mail and its round."""
        return f"{self.mail.envelope.message_id}/{self.mail.progress.round}"


def held_record(record: Taken, reason: str) -> Record:
    """A ready mail, set aside until somebody decides."""
    return dead_record(record, HELD + reason)


def is_held(letter: Taken) -> bool:
    """Whether a record of ``mail.dead`` is a held mail."""
    return dict(letter.headers).get(REASON, b"").startswith(HELD.encode())


def is_note(letter: Taken) -> bool:
    """Whether a record of ``mail.dead`` only says what became of a held mail."""
    return any(name == DECIDED for name, _ in letter.headers)


def still_held(letters: Iterable[Taken]) -> list[Held]:
    """Of everything in ``mail.dead``, in order: the mails that nobody decided on yet, each once, the oldest first."""
    found: dict[str, Held] = {}
    decided: set[str] = set()
    for letter in letters:
        headers = dict(letter.headers)
        if is_note(letter):
            decided.add(headers.get(SUBJECT, b"").decode("utf-8", "replace"))
        elif is_held(letter):
            try:
                mail = read_mail(letter.headers, letter.value or b"")
            except Undecodable:
                # No mail of ours: somebody wrote the reason by hand. It stays among the dead letters.
                continue
            reason = headers[REASON].decode("utf-8", "replace").removeprefix(HELD)
            held = Held(mail, letter, reason, letter.stored_at)
            found.setdefault(held.name, held)
    return [held for name, held in found.items() if name not in decided]


def release(held: Held, decision: Decision, recorder: Recorder, partitions: int) -> tuple[Record, Outcome]:
    """The mail for its lane, as its next round, and the outcome that says who let it go.

    Released twice it is the same round twice, of which deliver sends one.
    """
    envelope = held.mail.envelope
    record = replay_record(held.letter, READY[envelope.priority], lane_partition(envelope.lane, partitions))
    return record, _outcome(held, decision, recorder, "redriven", "released")


def drop(held: Held, decision: Decision, recorder: Recorder) -> Outcome:
    """The outcome that ends the mail for good, and says who did it and why."""
    return _outcome(held, decision, recorder, "cancelled", "dropped")


def note(held: Held, what: What) -> Record:
    """What keeps a mail from being decided on again."""
    return Record(DEAD, None, held.letter.key, [(DECIDED, what.encode()), (SUBJECT, held.name.encode())])


def _outcome(held: Held, decision: Decision, recorder: Recorder, kind: OutcomeType, what: What) -> Outcome:
    progress = held.mail.progress
    return recorder.of_mail(
        held.mail.envelope,
        kind,
        decision.at,
        what,
        progress.round,
        attempt=progress.attempt,
        waits=progress.waits,
        category=what,
        reason=f"{what} by {decision.who}: {decision.why}"[:500],
    )
