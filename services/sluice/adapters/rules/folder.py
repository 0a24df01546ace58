"""A folder of rule files that is looked at again and again: what changed is taken as a whole, once it stands still."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sluice.adapters.rules.loader import build_rules, read_rules
from sluice.domain.errors import RuleError
from sluice.domain.rules import Rules


class Refused(msgspec.Struct, frozen=True):
    """What lies in the folder cannot be followed: one line for each mistake."""

    problems: tuple[str, ...]


class RulesFolder:
    """Compares what the files say, not when they were written: a ConfigMap's mount changes by a symbolic link, an
    editor's by a new file, and a copy may keep its time.

    A change is taken when two looks in a row have found the same. So files that are copied one after the other, or that
    are half written, are not taken for what was meant.
    """

    def __init__(self, folder: Path | None, version: str) -> None:
        """``version`` is that of the rules in force, which the folder had."""
        self._folder = folder
        self._decided = version
        self._seen = version

    def look(self) -> Rules | Refused | None:
        """What the folder has now; None while there is nothing new. Reads files: not for the event loop."""
        try:
            text = read_rules(self._folder)
        except RuleError as error:
            return _refused(error) if self._is_new(str(error)) else None
        if not self._is_new(text.version):
            return None
        try:
            return build_rules(text)
        except RuleError as error:
            return _refused(error)

    def _is_new(self, found: str) -> bool:
        """Whether ``found`` stands still, and has not been decided upon."""
        before, self._seen = self._seen, found
        if found == self._decided or found != before:
            return False
        self._decided = found
        return True


def _refused(error: RuleError) -> Refused:
    return Refused(tuple(str(error).splitlines()))
