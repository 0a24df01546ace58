"""Settings: where they come from, and how wrong ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.domain.errors import RuleError
from sluice.runtime.config import load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets."""
    import os

    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)


def test_defaults_are_valid() -> None:
    """A service starts on one machine without any setting."""
    assert load_settings().kafka_bootstrap == "127.0.0.1:9092"


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the file before the defaults."""
    file = tmp_path / "sluice.toml"
    file.write_text('kafka_bootstrap = "file:1"\nconnections = 7\n')
    monkeypatch.setenv("SLUICE_CONFIG", str(file))
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP", "environment:1")
    settings = load_settings()
    assert (settings.kafka_bootstrap, settings.connections) == ("environment:1", 7)


def test_everything_wrong_is_told_at_once_by_the_names_operators_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one at a time over five restarts."""
    monkeypatch.setenv("SLUICE_CONNECTIONS", "many")
    monkeypatch.setenv("SLUICE_CLICKHOUSE_URL", "localhost")
    monkeypatch.setenv("SLUICE_DKIM_KEYS_DIR", "/does/not/exist")
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAPS", "x:1")
    with pytest.raises(RuleError) as caught:
        load_settings()
    text = str(caught.value)
    for name in ("CONNECTIONS", "CLICKHOUSE_URL", "DKIM_KEYS_DIR", "KAFKA_BOOTSTRAPS: unknown setting"):
        assert f"SLUICE_{name}" in text


def test_sasl_is_asked_for_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it fails at start, not at the first connection."""
    monkeypatch.setenv("SLUICE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(RuleError, match="kafka_sasl_mechanism"):
        load_settings()


def test_a_secret_may_come_from_a_file_and_never_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Kubernetes and Docker mount them."""
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    monkeypatch.setenv("SLUICE_CLICKHOUSE_PASSWORD_FILE", str(file))
    settings = load_settings()
    assert settings.clickhouse_password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_wrong_secret_is_not_repeated_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors go to logs."""
    monkeypatch.setenv("SLUICE_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("SLUICE_KAFKA_SASL_MECHANISM", "hunter2")
    with pytest.raises(RuleError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_a_config_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults in its place would be a surprise in production."""
    monkeypatch.setenv("SLUICE_CONFIG", "/no/such/file.toml")
    with pytest.raises(RuleError, match="SLUICE_CONFIG"):
        load_settings()
