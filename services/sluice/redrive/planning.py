"""From a predicate to a plan: which mails, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from sluice.domain.outcome import Source
from sluice.domain.redrive import Candidate, Item, Plan, counted, exclusion, listed
from sluice.domain.topics import DEAD, SEND
from sluice.ports.held import is_held, is_note
from sluice.ports.intake import Taken
from sluice.ports.records import ORIGIN
from sluice.ports.redrive import Contents, Limits, Mails

_EVENTS = frozenset(SEND.values())


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants driven again. ``tenant_id`` empty for all tenants; ``by`` is who wants it."""

    plan_id: str
    predicate: str
    tenant_id: str = ""
    dead_letters: bool = False
    by: str
    at: datetime
    limits: Limits = Limits()


def make_plan(wish: Wish, mails: Mails, contents: Contents) -> tuple[Plan, list[Item]]:
    """The plan and its list. Nothing is stored, and no mail is touched.

    Raises what :meth:`Mails.select` does.
    """
    found = mails.select(wish.predicate, wish.tenant_id, dead_letters=wish.dead_letters, limits=wish.limits)
    if wish.dead_letters:
        found = with_letters(found, contents.letters())
    kept = contents.first_kept()
    items = listed((mail, exclusion(mail, plan=wish.plan_id, now=wish.at, first_kept=kept)) for mail in found)
    counts, excluded = counted(items)
    plan = Plan(
        plan_id=wish.plan_id,
        tenant_id=wish.tenant_id,
        predicate=wish.predicate,
        dead_letters=wish.dead_letters,
        created_at=wish.at,
        created_by=wish.by,
        mails=sum(count.mails for count in counts),
        excluded=excluded,
        counts=counts,
    )
    return plan, items


def with_letters(found: Iterable[Candidate], letters: Iterable[Taken]) -> list[Candidate]:
    """The same mails, with the content of those whose event lies among the dead letters: it is kept longer there."""
    places = {name: place for letter in letters if (name := event_of(letter)) for place in [_place(letter)]}
    return [
        msgspec.structs.replace(mail, content=places[mail.message_id]) if mail.message_id in places else mail
        for mail in found
    ]


def event_of(letter: Taken) -> str | None:
    """The id of the event that a dead letter is; None for held mails, for notes, and for what is no event."""
    if letter.value is None or is_note(letter) or is_held(letter) or origin_of(letter) not in _EVENTS:
        return None
    try:
        body = msgspec.json.decode(letter.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    name = body.get("message_id") if isinstance(body, dict) else None
    return name if isinstance(name, str) else None


def origin_of(record: Taken) -> str:
    """The topic that a record was published to first: its own, or for a dead letter the one it came from."""
    if record.topic != DEAD:
        return record.topic
    place = next((value for name, value in record.headers if name == ORIGIN), b"")
    return place.decode("utf-8", "replace").partition(":")[0]


def _place(letter: Taken) -> Source:
    return Source(letter.topic, letter.partition, letter.offset)
