"""What happens to one batch of outcomes: split from their addresses, and stored under the batch's token."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

from sluice.domain.errors import Undecodable
from sluice.domain.ledger import CHECKPOINT_TYPE
from sluice.domain.outcome import Outcome, SmtpReply, decode_outcome
from sluice.domain.replies import without_addresses
from sluice.ports.bus import Bus
from sluice.ports.intake import Taken
from sluice.ports.outcomes import Address, Batch, OutcomeStore, Recorded
from sluice.ports.records import dead_record

_CHECKPOINT = CHECKPOINT_TYPE.encode()


class Sorted(msgspec.Struct, frozen=True):
    """A batch's records by what becomes of them."""

    outcomes: list[Recorded]
    addresses: list[Address]
    undecodable: list[tuple[Taken, Undecodable]]


async def record(batch: Batch, *, store: OutcomeStore, bus: Bus) -> Sorted:
    """Store one batch; what cannot be decoded goes to ``mail.dead`` with its bytes and the reason.

    Raises :class:`StoreAway` or :class:`NotStored`: nothing is lost then, the same batch is to be recorded again.
    """
    result = sort_out(batch)
    for stored in [bus.publish(dead_record(entry, f"record: {why}")) for entry, why in result.undecodable]:
        await stored
    if result.outcomes or result.addresses:
        await store.store(batch.token, result.outcomes, result.addresses)
    return result


def sort_out(batch: Batch) -> Sorted:
    """Decode a batch, leave the ledger's checkpoints out, and part addresses from outcomes. Pure: a batch that is built
    again gives the same."""
    outcomes: list[Recorded] = []
    addresses: dict[tuple[str, str], Address] = {}
    undecodable: list[tuple[Taken, Undecodable]] = []
    for entry in itertools.chain.from_iterable(part.records for part in batch.slices):
        if _is_checkpoint(entry.headers):
            continue
        try:
            if entry.value is None:
                raise Undecodable("value", "an outcome has a value")
            outcome = decode_outcome(entry.value)
        except Undecodable as error:
            undecodable.append((entry, error))
            continue
        if outcome.recipient:
            addresses.setdefault((outcome.tenant_id, outcome.message_id), _address(outcome, outcome.recipient))
        outcomes.append(Recorded(without_address(outcome), entry.partition, entry.offset))
    return Sorted(outcomes, list(addresses.values()), undecodable)


def without_address(outcome: Outcome) -> Outcome:
    """The outcome without its recipient, also where a server's reply or a reason quotes it."""
    changes: dict[str, object] = {}
    if outcome.recipient is not None:
        changes["recipient"] = None
    if outcome.smtp is not None and "@" in outcome.smtp.text:
        smtp = outcome.smtp
        changes["smtp"] = SmtpReply(smtp.code, smtp.phase, without_addresses(smtp.text), smtp.enhanced)
    if outcome.reason is not None and "@" in outcome.reason:
        changes["reason"] = without_addresses(outcome.reason)
    return msgspec.structs.replace(outcome, **changes) if changes else outcome


def _address(outcome: Outcome, recipient: str) -> Address:
    return Address(
        message_id=outcome.message_id,
        tenant_id=outcome.tenant_id,
        recipient=recipient,
        recipient_hash=outcome.recipient_hash or "",
        seen_at=max(0, int(outcome.event_time.timestamp())),
    )


def _is_checkpoint(headers: Iterable[tuple[str, bytes]]) -> bool:
    for name, value in headers:
        if name == "ce_type":
            return value == _CHECKPOINT
    return False
