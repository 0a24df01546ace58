"""Logs carry neither addresses nor secrets, whoever writes them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.telemetry.logs import redact, set_up_logs


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Give the test runner its handlers back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@given(st.from_regex(r"\A[a-z0-9.+_]{1,20}@[a-z0-9.-]{1,20}\Z"))
def test_an_address_is_taken_out_wherever_it_stands(address: str) -> None:
    """In brackets, in quotes, in the middle of a reply."""
    for text in (f"550 <{address}>: no such user", f"to={address}", f"'{address}' refused"):
        assert address not in redact(text)


def test_lines_are_json_with_service_node_and_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    """From structlog and from the standard library's logging, exceptions included."""
    set_up_logs("deliver", "node-1")
    structlog.get_logger("a").info("sent", reply="250 for <ann@site.example>")
    logging.getLogger("b").warning("password=%s for %s", "hunter2", "ann@site.example")
    try:
        raise ValueError("bad recipient ann@site.example")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    written = capsys.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    assert len(lines) == 3
    assert all(line["service"] == "deliver" and line["node"] == "node-1" for line in lines)
    assert "ann@" not in written
    assert "hunter2" not in written
