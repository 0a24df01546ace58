"""What a running stack says about itself: what its processes have in hand, and how many mails end per second."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import msgspec

from sluice.adapters.clickhouse.client import ClickHouseAway, ClickHouseRefused
from sluice.local.stack import LocalStack

WINDOW = 10
"""Seconds over which rates are taken."""
TIMEOUT = 1.0


class Figures(msgspec.Struct, frozen=True):
    """``facts`` by process, as its health tells; ``rates`` in outcomes per second by type, None when not known."""

    facts: dict[str, dict[str, Any]]
    rates: dict[str, float] | None


class Observer:
    """Asks the processes and ClickHouse. Blocks, for a few seconds at most."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._clickhouse = stack.clickhouse

    def look(self) -> Figures:
        """How it is now."""
        facts = {name: _facts(url) for name, url in self._stack.health_urls().items()}
        return Figures(facts, self._rates())

    def _rates(self) -> dict[str, float] | None:
        sql = (
            f"SELECT event_type, count() / {WINDOW} AS rate FROM {self._clickhouse.database}.outcomes "  # noqa: S608
            f"WHERE recorded_at > now64(3) - INTERVAL {WINDOW} SECOND GROUP BY event_type ORDER BY rate DESC"
        )
        try:
            return {row["event_type"]: row["rate"] for row in self._clickhouse.rows(sql)}
        except (ClickHouseAway, ClickHouseRefused):
            return None

    def close(self) -> None:
        """Let the connection go."""
        self._clickhouse.close()


def _facts(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310  our own process
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            found = json.load(error)
        except ValueError:
            found = {}
    except (OSError, ValueError):
        found = {}
    return found
