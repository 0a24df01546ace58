"""Taking a person out of ClickHouse: who they are goes, what happened to mail stays counted."""

# ruff: noqa: S608  (only names of this module, the checked database name and escaped literals are put into SQL)

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.clickhouse.queries import literal
from sluice.domain.topics import PROFILES, SUPPRESSIONS

EMPTIED = {
    "recipient_hash": "''",
    "recipient_domain": "''",
    "rfc5322_message_id": "''",
    "tags": "[]",
    "metadata": "map()",
    "smtp_text": "''",
    "reason": "''",
    "tls_sessions": "''",
}
"""Columns of outcomes that say, or may say, who a mail was for. The domain may be a person's own, and so may a policy's
hosts; a reply may quote a name, tags and metadata are the producer's."""

_AT_ONCE = 2_000
"""Ids in one statement."""
_WAIT = {"mutations_sync": 2}
"""Until it is done, on all replicas."""


class Person(msgspec.Struct, frozen=True):
    """Whom to look for: the keyed hash of the address, the address in lower case, and of which tenant; None for all."""

    recipient_hash: str
    address: str
    tenant_id: str | None = None


class Traces(msgspec.Struct, frozen=True):
    """What ClickHouse holds of a person. ``waiting`` of the mails are still under way, and will be told of again."""

    mails: Sequence[str]
    outcomes: int
    recipients: int
    waiting: int


class Erasure:
    """Finds and erases. All raise what the connection raises."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._database = clickhouse.database

    def find(self, person: Person) -> Traces:
        """What there is; changes nothing."""
        only, values = self._condition(person)
        rows = self._clickhouse.rows(
            f"SELECT DISTINCT message_id FROM {self._database}.recipients "
            f"WHERE (recipient_hash = {{hash:String}} OR lowerUTF8(recipient) = {{address:String}}) {only} "
            f"UNION DISTINCT SELECT DISTINCT message_id FROM {self._database}.outcomes "
            f"WHERE recipient_hash = {{hash:String}} {only}",
            values,
        )
        mails = sorted(row["message_id"] for row in rows)
        addresses = self._clickhouse.rows(
            f"SELECT count() AS n FROM {self._database}.recipients "
            f"WHERE (recipient_hash = {{hash:String}} OR lowerUTF8(recipient) = {{address:String}}) {only}",
            values,
        )
        outcomes = waiting = 0
        for part in _parts(mails):
            tenant = {"tenant": values["tenant"]} if "tenant" in values else {}
            outcomes += self._clickhouse.rows(
                f"SELECT count() AS n FROM {self._database}.outcomes WHERE message_id IN ({part}) {only}", tenant
            )[0]["n"]
            waiting += self._clickhouse.rows(
                f"SELECT count() AS n FROM {self._database}.mail_state "
                f"WHERE message_id IN ({part}) AND state = 'waiting' {only}",
                tenant,
            )[0]["n"]
        return Traces(mails, outcomes, addresses[0]["n"], waiting)

    def erase(self, person: Person, traces: Traces) -> None:
        """Erase what was found, and wait until it is done; safe to repeat. Old files go some minutes later."""
        only = "" if person.tenant_id is None else f"AND tenant_id = {literal(person.tenant_id)}"
        emptied = ", ".join(f"{name} = {empty}" for name, empty in EMPTIED.items())
        for part in _parts(traces.mails):
            self._clickhouse.command(
                f"ALTER TABLE {self._database}.outcomes UPDATE {emptied} WHERE message_id IN ({part}) {only}", _WAIT
            )
            self._clickhouse.command(
                f"ALTER TABLE {self._database}.mails UPDATE recipient_domain = '' WHERE message_id IN ({part}) {only}",
                _WAIT,
            )
        self._clickhouse.command(
            f"ALTER TABLE {self._database}.recipients DELETE WHERE (recipient_hash = {literal(person.recipient_hash)} "
            f"OR lowerUTF8(recipient) = {literal(person.address)}) {only}",
            _WAIT,
        )

    def erase_reference(self, person: Person, *, suppressions: bool) -> None:
        """Erase the person's profiles, and suppressions if asked to, from the mirror of the reference topics."""
        topics = [PROFILES, SUPPRESSIONS] if suppressions else [PROFILES]
        only = "" if person.tenant_id is None else f"AND startsWith(key, {literal(f'{person.tenant_id}|')})"
        self._clickhouse.command(
            f"ALTER TABLE {self._database}.ref_records DELETE WHERE topic IN ({', '.join(map(literal, topics))}) "
            f"AND endsWith(key, {literal(f'|{person.address}')}) {only}",
            _WAIT,
        )

    def _condition(self, person: Person) -> tuple[str, dict[str, str]]:
        values = {"hash": person.recipient_hash, "address": person.address}
        if person.tenant_id is None:
            return "", values
        return "AND tenant_id = {tenant:String}", {**values, "tenant": person.tenant_id}


def _parts(mails: Sequence[str]) -> list[str]:
    return [", ".join(map(literal, mails[at : at + _AT_ONCE])) for at in range(0, len(mails), _AT_ONCE)]
