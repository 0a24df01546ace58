"""Rule files that people get wrong, or that somebody made up to hurt: every mistake is told, nothing else is raised."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sluice.adapters.rules import load_rules
from sluice.domain.errors import RuleError

FILES = ("sites.toml", "bounces.toml", "retry.toml", "triggers.toml")
hard = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
BUILT_IN = {name: (files("sluice.rules") / name).read_text(encoding="utf-8") for name in FILES}
values = st.sampled_from(
    ["1", "-1", "0", "1e400", "nan", "inf", "99999999999999999999", '""', '"x"', '"(" ', '"(a+)+$"', "[]", "[[]]", "{}",
     "{a=1}",
     "true", "1979-05-27T07:32:00Z", '"5/s"', '"1/0"', '"9999999999/s"', '["a", 1]', '"\\u0000"', "[" * 400 + "]" * 400]
)  # fmt: skip


def _keys(name: str) -> list[str]:
    found = {
        line.partition("=")[0].strip() for line in BUILT_IN[name].splitlines() if "=" in line and line[:1].isalpha()
    }
    return sorted(key for key in found if key.replace("_", "").isalnum())


def _heads(name: str) -> list[str]:
    return sorted({line.strip() for line in BUILT_IN[name].splitlines() if line.startswith("[")})


def load(folder: Path, name: str, content: str | bytes) -> None:
    for each in FILES:
        (folder / each).unlink(missing_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    told = ""
    try:
        load_rules(folder)
    except RuleError as error:
        told = str(error) or "nothing"
    assert told != "nothing"


@st.composite
def wrong_file(draw: st.DrawFn) -> tuple[str, str]:
    name = draw(st.sampled_from(FILES))
    heads = st.sampled_from([*_heads(name), "[[site]]", "[[rule]]", "[[trigger]]", "[default]", "[x]"])
    lines = st.one_of(heads, st.builds("{} = {}".format, st.sampled_from([*_keys(name), "id", "name"]), values))
    return name, "\n".join(draw(st.lists(lines, max_size=12)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


@hard
@given(wrong_file())
@example(("sites.toml", "a = " + "[" * 100_000))
@example(("sites.toml", "a = " + "{a=" * 5_000))
@example(("retry.toml", "a." * 20_000 + "b = 1"))
@example(("bounces.toml", '[[rule]]\nid = "x"\ntext = "("\n'))
def test_a_wrong_rule_file_is_told_and_nothing_else_is_raised(folder: Path, wrong: tuple[str, str]) -> None:
    load(folder, *wrong)


@hard
@given(st.sampled_from(FILES), st.data())
def test_a_built_in_file_with_a_value_replaced_is_right_or_told(folder: Path, name: str, data: st.DataObject) -> None:
    rows = BUILT_IN[name].splitlines()
    numbers = [number for number, row in enumerate(rows) if " = " in row and not row.startswith("#")]
    for number in data.draw(st.sets(st.sampled_from(numbers), min_size=1, max_size=3)):
        rows[number] = rows[number].partition(" = ")[0] + " = " + data.draw(values)
    load(folder, name, "\n".join(rows))


@hard
@given(st.sampled_from(FILES), st.binary(max_size=80))
def test_bytes_that_are_no_rule_file_are_told(folder: Path, name: str, content: bytes) -> None:
    load(folder, name, content)
