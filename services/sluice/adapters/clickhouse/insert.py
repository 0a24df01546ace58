"""Storing batches of outcomes exactly once.

Rows go as JSON lines that msgspec writes from flat structs: measured faster on both sides together than Native columns
built in Python. The server parses one block per batch (no parallel parsing), so a token always names the same block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from sluice.adapters.clickhouse.client import ClickHouse, ClickHouseAway, ClickHouseRefused
from sluice.adapters.clickhouse.rows import outcome_row
from sluice.ports.outcomes import Address, Recorded, StoreAway

_SETTINGS = {
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "async_insert": 0,
    "insert_quorum_parallel": 1,
    "input_format_parallel_parsing": 0,
    "date_time_input_format": "best_effort",
    "max_insert_threads": 1,
}

_lines = msgspec.json.Encoder().encode_lines


class ClickHouseOutcomes:
    """The outcome store in ClickHouse (schemas/clickhouse)."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def store(self, token: str, outcomes: Sequence[Recorded], addresses: Sequence[Address]) -> None:
        """See :class:`sluice.ports.outcomes.OutcomeStore`."""
        try:
            await asyncio.to_thread(self._store, token, outcomes, addresses)
        except (ClickHouseAway, ClickHouseRefused) as error:
            raise StoreAway(str(error)) from error

    def _store(self, token: str, outcomes: Sequence[Recorded], addresses: Sequence[Address]) -> None:
        database = self._clickhouse.database
        if addresses:
            settings = {**_SETTINGS, "insert_deduplication_token": f"{token}:recipients"}
            self._clickhouse.insert(f"{database}.recipients", _lines(addresses), "JSONEachRow", settings)
        if outcomes:
            settings = {**_SETTINGS, "insert_deduplication_token": token}
            rows = _lines([outcome_row(entry) for entry in outcomes])
            self._clickhouse.insert(f"{database}.outcomes", rows, "JSONEachRow", settings)
