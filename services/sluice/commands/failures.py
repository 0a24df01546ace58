"""Failures that are expected, as a sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from sluice.domain.errors import RuleError, SluiceError

EXIT_FAILED = 1
EXIT_USAGE = 2
T = TypeVar("T")


class WrongUsage(SluiceError):
    """The caller's fault: an option, or a file that was given, cannot be used."""


def explain(error: Exception) -> tuple[str, int] | None:
    """What to tell, and the exit code; None for what is a defect of Sluice itself."""
    if isinstance(error, RuleError | WrongUsage):
        return str(error), EXIT_USAGE
    if isinstance(error, SluiceError):
        return _of_store(error) or str(error), EXIT_FAILED
    # Only a command that spoke to Kafka can fail with its error; for the others the library need not be loaded.
    kafka = sys.modules.get("confluent_kafka")
    if kafka is not None and isinstance(error, kafka.KafkaException):
        return f"Kafka: {error.args[0].str()}", EXIT_FAILED
    return None


def answer_or_problem(ask: Callable[[], T], problems: list[str]) -> T | None:
    """What it answers; None when it cannot, and ``problems`` gets the reason. A defect is raised."""
    try:
        return ask()
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        problems.append(told[0])
        return None


_NO_SUCH = (60, 81)
"""ClickHouse's error numbers: no such table, no such database."""
_NOT_YOU = (192, 193, 194, 497, 516)
"""Unknown user, wrong or missing password, access denied, authentication failed."""


def _of_store(error: SluiceError) -> str:
    """What to do about an error of ClickHouse; empty for any other. It is loaded by the commands that ask it only."""
    client = sys.modules.get("sluice.adapters.clickhouse.client")
    if client is None:
        return ""
    if isinstance(error, client.ClickHouseAway):
        return (
            f"ClickHouse does not answer ({error}): start it (sluice up), or set SLUICE_CLICKHOUSE_URL to where it is"
        )
    if isinstance(error, client.ClickHouseRefused):
        if error.code in _NO_SUCH:
            return "ClickHouse has no tables of Sluice's: create them with sluice schema apply"
        if error.code in _NOT_YOU:
            return f"ClickHouse lets this user do nothing ({error}): set SLUICE_CLICKHOUSE_USER and _PASSWORD"
        return f"ClickHouse refused: {error}"
    return ""
