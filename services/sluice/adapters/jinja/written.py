"""How a value becomes a piece of a mail: the innermost step of every rendering."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from markupsafe import escape

from sluice.adapters.jinja.budget import Budget

SHORT = 1024
"""Characters up to which a value is written without a look at what was made so far."""
_special = re.compile("[&<>'\"]")


def escaped(budget: Budget) -> Callable[[Any], str]:
    """For HTML. A container that would write too much raises :class:`~.budget.Exhausted`."""
    is_special = _special.search

    def write(value: Any) -> str:
        if type(value) is str and len(value) <= SHORT:
            return value if is_special(value) is None else escape(value)
        written: str = budget.value(escape(budget.shown(value)))
        return written

    return write


def plain(budget: Budget) -> Callable[[Any], str]:
    """For text, as it is; bounded in the same way."""

    def write(value: Any) -> str:
        if type(value) is str and len(value) <= SHORT:
            return value
        written: str = budget.value(str(budget.shown(value)))
        return written

    return write
