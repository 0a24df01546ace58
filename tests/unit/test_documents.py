"""What the documents and the container files say, held against the code."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from sluice.commands.config import config
from sluice.commands.mail import ShowByDefault
from sluice.commands.root import ENTRIES, LazyGroup, app
from sluice.domain.topics import DEAD, DEMAND, IDEMPOTENCY, OUTCOME, READY, REFERENCE, SEND, WHEEL
from sluice.local import seed
from sluice.runtime.config import CONFIG_FILE, Settings, unknown_settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples/README.md", ROOT / "schemas/README.md"]
)
COMPOSE = ROOT / "docker-compose.kafka.yml"
TOPICS = {*SEND.values(), *READY.values(), *WHEEL.values(), *REFERENCE, OUTCOME, DEAD, IDEMPOTENCY, DEMAND}

_link = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_variable = re.compile(r"\bSLUICE_[A-Z0-9_]*[A-Z0-9]\b")


def every(*paths: Path) -> Any:
    """The test runs once for each document."""
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def names_no_setting(names: set[str]) -> list[str]:
    """Those of ``names`` that are no setting; ``SLUICE_KAFKA_*`` stands for a family of them."""
    known = {f"SLUICE_{name}".upper() for name in Settings.model_fields} | {CONFIG_FILE}
    unknown = unknown_settings(dict.fromkeys(names, ""))
    return [name for name in unknown if not any(other.startswith(f"{name}_") for other in known)]


def anchors(text: str) -> set[str]:
    """The headings' anchors as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(_fence, "", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every(*DOCUMENTS)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in _link.findall(re.sub(_fence, "", path.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


@every(*DOCUMENTS, COMPOSE, ROOT / "Dockerfile")
def test_settings_that_are_named_exist(path: Path) -> None:
    assert not names_no_setting(set(_variable.findall(path.read_text(encoding="utf-8"))))


def test_every_setting_is_documented_as_it_is() -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        config(markdown=True)
    told = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert told == printed.getvalue(), "run: .venv/bin/sluice config --markdown > docs/settings.md"


def commands_in(text: str) -> list[list[str]]:
    """Command lines that begin with ``sluice``, in code blocks and in code within sentences."""
    found = []
    for language, block in _fence.findall(text):
        if language in ("sh", "yaml", ""):
            found += [line.partition("#")[0].strip() for line in block.splitlines()]
    found += re.findall(r"`([^`\n]+)`", re.sub(_fence, "", text))
    lines = [re.sub(r"^(\S+=\S+ )*(\.venv/bin/)?", "", line) for line in found]
    return [shlex.split(line) for line in lines if re.match(r"sluice [a-z]", line)]


def takes(words: list[str]) -> str:
    """Why the ``sluice`` command would not know these words; empty when it does."""
    group: Any = get_command(app)
    known = {entry.name for entry in ENTRIES}
    if words[0] not in known:
        return f"no command {words[0]}"
    assert isinstance(group, LazyGroup)
    _, command, rest = group.resolve_command(group.make_context("sluice", ["--help"], resilient_parsing=True), words)
    for word in rest:
        children = getattr(command, "commands", None)
        # What a group takes for no command of its own it may show: sluice mail ID.
        if children is None or (word not in children and isinstance(command, ShowByDefault)):
            break
        if word not in children:
            return f"no command {' '.join(words)}"
        command, rest = children[word], rest[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in rest if word.startswith("-") and word not in options and word != "-"]
    return f"{' '.join(words)}: no option {unknown[0]}" if unknown else ""


@every(*DOCUMENTS)
def test_commands_that_are_named_exist(path: Path) -> None:
    wrong = [why for words in commands_in(path.read_text(encoding="utf-8")) if (why := takes(words[1:]))]
    assert not wrong


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    assert commands_in("`sluice fly` and\n```sh\nA=b .venv/bin/sluice topics plan  # why\n```") == [
        ["sluice", "topics", "plan"],
        ["sluice", "fly"],
    ]
    assert takes(["topics", "plan"]) == ""
    assert takes(["fly"])
    assert takes(["topics", "fly"])
    assert takes(["topics", "plan", "--fly"])


@every(*DOCUMENTS)
def test_topics_that_are_named_exist(path: Path) -> None:
    words = re.findall(r"`(mail\.[a-z.0-9]+|ref\.[a-z]+)`", path.read_text(encoding="utf-8"))
    assert not [word for word in words if word not in TOPICS]


def test_the_tests_that_reliability_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text(encoding="utf-8")))
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert not named - set(re.findall(r"def (test_\w+)", text))


def test_targets_of_make_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test", "check"} <= named
    assert not named - set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_the_image_is_built_with_the_uv_that_a_checkout_uses() -> None:
    used = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert used == re.findall(
        r"^ARG UV_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )


def compose_file() -> dict[str, Any]:
    """The compose file as it is read: anchors resolved."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def test_every_container_that_stays_tells_how_it_is() -> None:
    services = compose_file()["services"]
    assert {"compose", "deliver", "wheel", "record"} <= set(services)
    for name, service in services.items():
        if service.get("restart") == "no":
            continue
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name


def test_containers_find_each_other() -> None:
    file = compose_file()
    services, volumes = file["services"], set(file["volumes"])
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        assert {mount.partition(":")[0] for mount in service.get("volumes", ())} <= volumes, name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"


@pytest.mark.parametrize("name", ["init", "compose", "deliver", "wheel", "record"])
def test_settings_of_the_containers_are_valid_and_lead_to_them(name: str, tmp_path: Path) -> None:
    services = compose_file()["services"]
    environment = services[name]["environment"]
    given = {key.removeprefix("SLUICE_").lower(): value for key, value in environment.items()}
    settings = Settings(**{**given, "dkim_keys_dir": tmp_path})
    assert environment["SLUICE_DKIM_KEYS_DIR"] in {mount.split(":")[1] for mount in services[name]["volumes"]}
    assert settings.health_host == "0.0.0.0"  # a container's loopback address is no use to its neighbours
    assert settings.kafka_bootstrap.partition(":")[0] in services
    assert settings.clickhouse_url.split("/")[2].partition(":")[0] in services
    assert settings.routes.removeprefix("*=smtp://").partition(":")[0] in services
    if name != "init":
        assert takes(services[name]["command"]) == ""
        assert f":{settings.health_port}/readyz" in " ".join(services[name]["healthcheck"]["test"])
        assert float(services[name]["stop_grace_period"].removesuffix("s")) > settings.drain_s + 5


def test_the_preparing_container_prepares_what_the_examples_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = compose_file()["services"]["init"]["command"][0]
    for line in script.splitlines():
        if line.startswith("sluice "):
            assert takes(shlex.split(line)[1:]) == ""
    pushed: list[seed.Reference] = []
    monkeypatch.setattr(seed, "push", lambda _, reference: pushed.extend(reference))
    python = script.split("<<'PYTHON'\n")[1].split("\nPYTHON")[0].replace("/keys", str(tmp_path))
    exec(compile(python, COMPOSE.name, "exec"), {})
    assert pushed == seed.example_reference()
    assert list(tmp_path.rglob("*.pem"))
