"""What the commands that analyse, keep and erase outcomes are built on; loaded by them only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from sluice.runtime.config import Settings
from sluice.runtime.console import clickhouse

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.erasure import Erasure, Person


def retention() -> ModuleType:
    """For how long tenants' rows are kept."""
    from sluice.adapters.clickhouse import retention

    return retention


def ready_made() -> ModuleType:
    """Ready-made queries."""
    from sluice.adapters.clickhouse import ready_made

    return ready_made


@contextmanager
def erasure(settings: Settings) -> Iterator[Erasure]:
    """Finds and erases people in ClickHouse."""
    from sluice.adapters.clickhouse.erasure import Erasure

    with clickhouse(settings, timeout_s=3600) as store:
        yield Erasure(store)


def person(recipient_hash: str, address: str, tenant_id: str | None) -> Person:
    """Whom to look for."""
    from sluice.adapters.clickhouse.erasure import Person

    return Person(recipient_hash, address, tenant_id)
