"""Plans to drive mails again, as ClickHouse keeps them (schemas/clickhouse/0014_redrive.sql)."""

# ruff: noqa: S608  (only the checked database name is put into SQL; values are parameters)

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse
from sluice.domain.outcome import Source
from sluice.domain.redrive import Candidate, Count, Item, Options, Plan, Reason, Word, standing
from sluice.ports.redrive import Progress, Reached

_SETTINGS = {"async_insert": 0, "date_time_input_format": "best_effort"}
_lines = msgspec.json.Encoder().encode_lines
_CHUNK = 100_000


class _MailRow(msgspec.Struct, kw_only=True):
    plan_id: str
    excluded: str
    number: int
    tenant_id: str
    message_id: str
    state: str
    site: str
    category: str
    recipient_domain: str
    source_topic: str = ""
    source_partition: int = 0
    source_offset: int = 0
    planned_at: datetime


class ClickHousePlans:
    """See :class:`sluice.ports.redrive.Plans`."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    def keep(self, plan: Plan, items: Sequence[Item]) -> None:
        """See the port: the list goes first, so that a plan which is there is whole."""
        for start in range(0, len(items), _CHUNK):
            self._insert("redrive_mails", [_row(plan, item) for item in items[start : start + _CHUNK]])
        row = {name: getattr(plan, name) for name in plan.__struct_fields__ if name != "counts"}
        self._insert("redrive_plans", [{**row, "dead_letters": int(plan.dead_letters)}])

    def plan(self, plan_id: str) -> Plan | None:
        """See the port."""
        rows = self._rows("SELECT * FROM {db}.redrive_plans FINAL WHERE plan_id = {plan:String}", plan=plan_id)
        if not rows:
            return None
        counts = self._rows(
            "SELECT toString(site) AS site, toString(category) AS category, count() AS mails "
            "FROM {db}.redrive_mails FINAL WHERE plan_id = {plan:String} AND excluded = '' "
            "GROUP BY ALL ORDER BY mails DESC, site, category",
            plan=plan_id,
        )
        return _plan(rows[0], [Count(row["site"], row["category"], int(row["mails"])) for row in counts])

    def plans(self) -> list[Plan]:
        """See the port."""
        return [_plan(row, []) for row in self._rows("SELECT * FROM {db}.redrive_plans FINAL ORDER BY created_at DESC")]

    def items(self, plan_id: str, first: int, count: int, *, excluded: Reason | None = None) -> list[Item]:
        """See the port."""
        rows = self._rows(
            "SELECT * FROM {db}.redrive_mails FINAL WHERE plan_id = {plan:String} AND excluded = {excluded:String} "
            "AND number >= {first:UInt32} ORDER BY number LIMIT {count:UInt32}",
            plan=plan_id, excluded=excluded or "", first=first, count=count,
        )  # fmt: skip
        return [_item(row) for row in rows]

    def say(self, word: Word) -> None:
        """See the port."""
        row = {name: getattr(word, name) for name in word.__struct_fields__ if name not in ("at", "options")}
        options = msgspec.json.encode(word.options).decode()
        self._insert("redrive_audit", [{**row, "options": options}])

    def words(self, plan_id: str) -> list[Word]:
        """See the port."""
        return [_word(row) for row in self._words("WHERE plan_id = {plan:String}", plan=plan_id)]

    def reached(self, plan_id: str, batch: Reached) -> None:
        """See the port."""
        self._insert("redrive_batches", [{"plan_id": plan_id, **msgspec.structs.asdict(batch)}])

    def progress(self, plan_id: str) -> Progress:
        """See the port."""
        rows = self._rows(
            "SELECT max(b.next) AS reached, sumMap(b.skipped) AS skipped, max(toNullable(b.at)) AS noted "
            "FROM {db}.redrive_batches AS b FINAL WHERE plan_id = {plan:String}",
            plan=plan_id,
        )
        skipped = {name: int(count) for name, count in rows[0]["skipped"].items()}
        return Progress(int(rows[0]["reached"]), skipped, rows[0]["noted"])

    def active(self) -> list[tuple[str, int]]:
        """Plans that were started and have not ended, with the number that each goes on from."""
        said: dict[str, list[Word]] = {}
        for row in self._words(""):
            said.setdefault(row["plan_id"], []).append(_word(row))
        begun = [plan_id for plan_id, words in said.items() if standing(words).state in ("running", "paused")]
        return [(plan_id, self.progress(plan_id).next) for plan_id in begun]

    def _words(self, where: str, **parameters: Any) -> list[dict[str, Any]]:
        return self._rows(f"SELECT * FROM {{db}}.redrive_audit {where} ORDER BY at", **parameters)

    def _rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        return self._clickhouse.rows(sql.replace("{db}", self._clickhouse.database), parameters)

    def _insert(self, table: str, rows: Sequence[Any]) -> None:
        self._clickhouse.insert(f"{self._clickhouse.database}.{table}", _lines(rows), "JSONEachRow", _SETTINGS)


def _row(plan: Plan, item: Item) -> _MailRow:
    mail, source = item.mail, item.mail.content
    row = _MailRow(
        plan_id=plan.plan_id,
        excluded=item.excluded or "",
        number=item.number,
        tenant_id=mail.tenant_id,
        message_id=mail.message_id,
        state=mail.state,
        site=mail.site,
        category=mail.category,
        recipient_domain=mail.recipient_domain,
        planned_at=plan.created_at.replace(microsecond=0),
    )
    if source is not None:
        row.source_topic, row.source_partition, row.source_offset = source.topic, source.partition, source.offset
    return row


def _item(row: dict[str, Any]) -> Item:
    topic = row["source_topic"]
    mail = Candidate(
        tenant_id=row["tenant_id"],
        message_id=row["message_id"],
        state=row["state"],
        site=row["site"],
        category=row["category"],
        recipient_domain=row["recipient_domain"],
        content=Source(topic, int(row["source_partition"]), int(row["source_offset"])) if topic else None,
    )
    return Item(int(row["number"]), mail, cast("Reason", row["excluded"]) or None)


def _plan(row: dict[str, Any], counts: list[Count]) -> Plan:
    return Plan(
        plan_id=row["plan_id"],
        tenant_id=row["tenant_id"],
        predicate=row["predicate"],
        dead_letters=bool(row["dead_letters"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        mails=int(row["mails"]),
        excluded={name: int(count) for name, count in row["excluded"].items()},
        counts=counts,
    )


def _word(row: dict[str, Any]) -> Word:
    return Word(
        plan_id=row["plan_id"],
        action=row["action"],
        by=row["by"],
        host=row["host"],
        at=row["at"],
        run=row["run"],
        options=msgspec.json.decode(row["options"] or "{}", type=Options),
        note=row["note"],
    )
