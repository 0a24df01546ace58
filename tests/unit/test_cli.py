"""The command line: what is understood, what is refused, and how failures are told."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from sluice.adapters.embedded.ports import free_port
from sluice.commands.groups import GROUPS, group_name
from sluice.commands.root import ENTRIES, app
from sluice.runtime.config import Settings

ROOT = Path(__file__).parents[2]
NOT_THERE = (
    ["topics", "plan"],
    ["topics", "list"],
    ["tenant", "list"],
    ["template", "list"],
    ["suppress", "list"],
    ["dead", "list"],
    ["tenant", "push", str(ROOT / "examples/tenants")],
    ["send", "--tenant", "acme", "--to", "jo@mail.example", "--subject", "s", "--text", "t"],
)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kafka and ClickHouse where nobody listens."""
    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("SLUICE_CLICKHOUSE_URL", f"http://127.0.0.1:{free_port()}")
    yield
    structlog.reset_defaults()


def run(*arguments: str, given: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=given)


def test_help_names_every_command_and_the_exit_codes() -> None:
    shown = run("--help").output
    for entry in ENTRIES:
        assert re.search(rf"\b{entry.name}\b", shown)
    assert "0 done, 1 failed" in shown


def test_help_loads_no_command_and_none_of_their_libraries() -> None:
    script = (
        "import sys; from sluice.commands.root import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('faust', 'confluent_kafka', 'chdb', 'clickhouse_connect', 'pydantic', 'sluice.commands.send')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.name not in ("up", "demo", "bench")], ids=lambda e: e.name)
def test_every_command_explains_itself_with_an_example(entry: Any) -> None:
    app_or_function = getattr(importlib.import_module(entry.module), entry.attribute)
    commands = getattr(app_or_function, "registered_commands", None)
    for function in [app_or_function] if commands is None else [command.callback for command in commands]:
        assert "Example: [cyan]" in (function.__doc__ or ""), function


@pytest.mark.parametrize("arguments", NOT_THERE, ids=lambda words: " ".join(words[:2]))
def test_kafka_away_is_one_sentence_and_exit_1(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert re.fullmatch(
        r"sluice \w+: Kafka cannot be reached at 127\.0\.0\.1:\d+: start it .* SLUICE_KAFKA_BOOTSTRAP .*\n", done.stderr
    )
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["mail", "some-id"], ["schema", "status"], ["schema", "apply"]])
def test_clickhouse_away_is_one_sentence_and_exit_1(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert re.fullmatch(r"sluice \w+: ClickHouse does not answer .* SLUICE_CLICKHOUSE_URL .*\n", done.stderr)


def test_no_failure_prints_a_traceback_or_a_library_s_own_log() -> None:
    command = [sys.executable, "-m", "sluice.cli", "status"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["sluice status", "sluice status"]


def test_settings_that_are_wrong_are_all_named_and_exit_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HEALTH_PORT", "70000")
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRP", "x")
    done = run("topics", "plan")
    assert done.exit_code == 2
    assert "SLUICE_HEALTH_PORT" in done.stderr
    assert "SLUICE_KAFKA_BOOTSTRP: unknown setting" in done.stderr


def test_an_unknown_command_is_wrong_usage_and_the_nearest_is_named() -> None:
    done = run("topic")
    assert done.exit_code == 2
    assert "topics" in done.output


def test_the_command_without_its_libraries_says_what_to_install() -> None:
    script = "import sys; sys.modules['typer'] = None; from sluice.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "pip install 'sluice-mail[worker]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_groups_are_those_that_the_services_join() -> None:
    for service in GROUPS:
        assert group_name(service) == importlib.import_module(f"sluice.{service}.agent").GROUP


def test_doctor_finds_what_is_away_and_still_looks_at_the_rest() -> None:
    done = run("doctor", "--json", "--domain", "nothing.invalid")
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert found["Kafka"]["state"] == found["ClickHouse"]["state"] == "fail"
    assert found["Kafka"]["remedy"]
    assert found["rules"]["state"] == "ok"


def test_doctor_says_which_rule_file_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bounces.toml").write_text("rule = 3")
    monkeypatch.setenv("SLUICE_RULES_DIR", str(tmp_path))
    found = {one["check"]: one for one in json.loads(run("doctor", "--json").stdout)}
    assert found["rules"]["state"] == "fail"
    assert "bounces.toml" in found["rules"]["detail"]


def test_config_can_only_say_whether_all_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings, rules and routes, as a service would read them; before it is started."""
    done = run("config", "--check")
    assert (done.exit_code, "valid" in done.stdout) == (0, True)
    (tmp_path / "sites.toml").write_text("[[site]]\nnam = 1\n")
    monkeypatch.setenv("SLUICE_RULES_DIR", str(tmp_path))
    wrong = run("config", "--check")
    assert wrong.exit_code == 2
    assert "nam" in wrong.output
    (tmp_path / "sites.toml").write_text('[default]\negress = "two"\n')
    assert "no egress and no pool named two" in run("config", "--check").output
    monkeypatch.setenv("SLUICE_EGRESSES", "one=192.0.2.1 two=192.0.2.2")
    assert run("config", "--check").exit_code == 0
    monkeypatch.delenv("SLUICE_RULES_DIR")
    monkeypatch.setenv("SLUICE_ROUTES", "*=nowhere")
    assert run("config", "--check").exit_code == 2


def test_config_lists_every_setting_and_hides_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CLICKHOUSE_PASSWORD", "hunter2")
    monkeypatch.setenv("SLUICE_CONNECTIONS", "17")
    done = run("config", "--json")
    values = {row["variable"]: row["value"] for row in json.loads(done.stdout)}
    assert set(values) == {f"SLUICE_{name}".upper() for name in Settings.model_fields}
    assert values["SLUICE_CONNECTIONS"] == 17
    assert "hunter2" not in run("config").output + done.output + run("config", "--markdown").output


def test_the_settings_reference_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run("config", "--markdown").stdout
    monkeypatch.setenv("SLUICE_NODE", "elsewhere")
    monkeypatch.setenv("SLUICE_CONNECTIONS", "17")
    assert run("config", "--markdown").stdout == before
    assert all(line.count(" | ") == 3 for line in before.splitlines()[2:])
    assert "| `SLUICE_LOG_LEVEL` | `info` | `debug`, `info`, `warning`, `error` |" in before


def test_dkim_keys_are_generated_once_and_never_overwritten(tmp_path: Path) -> None:
    words = ["dkim", "generate", "--domain", "acme.example", "--keys", str(tmp_path), "--selector", "s1", "--json"]
    made = json.loads(run(*words).stdout)
    assert [record["name"] for record in made["records"]] == [
        "s1-rsa._domainkey.acme.example",
        "s1-ed25519._domainkey.acme.example",
    ]
    assert made["signing"][0] == {"domain": "acme.example", "selector": "s1-rsa"}
    again = run(*words)
    assert again.exit_code == 1
    assert "never overwritten" in again.stderr


def test_the_entry_point_is_the_one_that_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["sluice"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
