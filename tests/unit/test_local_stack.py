"""What a local stack makes of the parts that run elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.local.folder import DataFolder
from sluice.local.options import Options
from sluice.local.stack import LocalStack


def stack(folder: Path, clickhouse: str) -> LocalStack:
    """One that would use an outside ClickHouse; nothing is started."""
    options = Options(data=folder, clickhouse=clickhouse)
    ports = {"kafka": 1, "mailbox": 2}
    kept = DataFolder(folder)
    kept.make()
    kept.keys.mkdir(exist_ok=True)
    return LocalStack(options, kept, ports, [])


def test_user_and_password_of_clickhouses_url_are_used(tmp_path: Path) -> None:
    """By the stack itself, which creates the schema, and by its services."""
    made = stack(tmp_path, "https://ann:s%40crt@ch.example:8443")
    target = made.clickhouse.target
    assert (target.url, target.user, target.password) == ("https://ch.example:8443", "ann", "s@crt")
    assert made.environment["SLUICE_CLICKHOUSE_USER"] == "ann"
    assert made.environment["SLUICE_CLICKHOUSE_PASSWORD"] == "s@crt"
    assert made.environment["SLUICE_CLICKHOUSE_URL"] == "https://ch.example:8443"


def test_without_a_user_in_the_url_the_environments_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CLICKHOUSE_USER", "bob")
    monkeypatch.setenv("SLUICE_CLICKHOUSE_PASSWORD", "hunter")
    target = stack(tmp_path, "http://[::1]:8123").clickhouse.target
    assert (target.url, target.user, target.password) == ("http://[::1]:8123", "bob", "hunter")
