"""Reference data in ClickHouse (schemas/clickhouse/0012_reference.sql)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse, ClickHouseAway, ClickHouseRefused
from sluice.ports.mirror import Row, SiteRow, SuppressionRow, TemplateRow, TenantRow
from sluice.ports.outcomes import StoreAway

_TABLES: dict[type[Row], str] = {
    TenantRow: "ref_tenants",
    TemplateRow: "ref_templates",
    SuppressionRow: "ref_suppressions",
    SiteRow: "ref_sites",
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
