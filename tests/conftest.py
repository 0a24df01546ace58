"""Fixtures for all tests. Nothing is started, or even imported, unless a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole Sluice over real parts, with the examples' tenants and templates; shared by all stories."""
    from tests.support.stack import PARTS, open_stack

    from sluice.local.seed import example_reference

    made = open_stack(tmp_path_factory.mktemp("stack") / "data", example_reference())
    try:
        made.start(*PARTS)
        made.start(*(name for name in made.names if name not in PARTS))
        yield made
    finally:
        made.close()
