"""Reference data in ClickHouse (schemas/clickhouse/0012_reference.sql, 0018_reference_records.sql)."""

# ruff: noqa: S608  (only the checked database name is put into SQL)

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse, ClickHouseAway, ClickHouseRefused
from sluice.adapters.clickhouse.clustered import for_cluster
from sluice.ports.mirror import RecordRow, Row, SiteRow, SuppressionRow, TemplateRow, TenantRow
from sluice.ports.outcomes import StoreAway

_TABLES: dict[type[Row], str] = {
    TenantRow: "ref_tenants",
    TemplateRow: "ref_templates",
    SuppressionRow: "ref_suppressions",
    SiteRow: "ref_sites",
    RecordRow: "ref_records",
}
_SETTINGS = {"async_insert": 0, "date_time_input_format": "best_effort"}


class ClickHouseReference:
    """See :class:`sluice.ports.mirror.ReferenceMirror`."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def keep(self, rows: Sequence[Row]) -> None:
        """See :class:`sluice.ports.mirror.ReferenceMirror`."""
        try:
            await asyncio.to_thread(self._keep, rows)
        except (ClickHouseAway, ClickHouseRefused) as error:
            raise StoreAway(str(error)) from error

    def _keep(self, rows: Sequence[Row]) -> None:
        by_table: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_table[_TABLES[type(row)]].append(row)
        for table, of_table in by_table.items():
            lines = msgspec.json.Encoder().encode_lines(of_table)
            self._clickhouse.insert(f"{self._clickhouse.database}.{table}", lines, "JSONEachRow", _SETTINGS)

    def records(self) -> list[RecordRow]:
        """Every key that was ever mirrored, as it was last. Raises what the connection raises."""
        rows = self._clickhouse.rows(
            f"SELECT topic, key_hash, key, value, changed_at, log_offset, removed "
            f"FROM {self._clickhouse.database}.ref_records FINAL ORDER BY topic, key_hash"
        )
        return [RecordRow(**row) for row in rows]

    def empty(self, cluster: str = "") -> None:
        """Forget everything, so that all can be mirrored again: topics made anew count from 0, and would seem older."""
        for table in _TABLES.values():
            self._clickhouse.command(for_cluster(f"TRUNCATE TABLE {self._clickhouse.database}.{table}", cluster))
