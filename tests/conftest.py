"""Fixtures for all tests. Nothing is started, or even imported, unless a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.support.stack import Stack

# A check says the same each time it is run on the same code, however slow the machine: what is drawn follows from the
# test, and no example is timed. `make fuzz` draws anew, and more.
hypothesis.settings.register_profile("check", deadline=None, derandomize=True)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=2_000, print_blob=True)
hypothesis.settings.load_profile("check")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole Sluice over real parts, with the examples' tenants and templates; shared by all stories."""
    import shutil

    from tests.support.stack import PARTS, open_stack

    from sluice.local.demo import RULES
    from sluice.local.seed import example_reference

    folder = tmp_path_factory.mktemp("stack")
    # A copy: a story changes rules while mail flows.
    rules = shutil.copytree(RULES, folder / "rules")
    environment = {"SLUICE_RULES_POLL_S": "1"}
    made = open_stack(folder / "data", example_reference(), rules=rules, environment=environment)
    try:
        made.start(*PARTS)
        made.start(*(name for name in made.names if name not in PARTS))
        yield made
    finally:
        made.close()
