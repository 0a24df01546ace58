"""Rules that change while a service runs: looked for, checked, taken over, or refused with the old ones kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import structlog

from sluice.adapters.rules import Refused
from sluice.domain.errors import RuleError
from sluice.domain.rules import Rules
from sluice.ports.metrics import RULES, RULES_LOADED, RULES_REFUSED, RULES_REFUSED_AT, Figure

log = structlog.get_logger(__name__)


class Folder(Protocol):
    """Where rules come from; see :class:`sluice.adapters.rules.RulesFolder`."""

    def look(self) -> Rules | Refused | None:
        """What is new there."""
        ...


class RulesWatch:
    """Looks every ``every`` seconds, 0 for never. ``check`` raises :class:`RuleError` for rules that this process
    cannot follow; ``follow`` takes others over, whole, between two steps of the event loop."""

    def __init__(
        self,
        folder: Folder,
        rules: Rules,
        every: float,
        *,
        follow: Callable[[Rules], None],
        check: Callable[[Rules], None] = lambda _: None,
    ) -> None:
        self.rules = rules
        self._folder = folder
        self._every = every
        self._check = check
        self._follow = follow
        self._loaded_at = time.time()
        self._refused_at = 0.0
        self._refused = False

    async def run(self) -> None:
        """Until cancelled."""
        while self._every:
            await asyncio.sleep(self._every)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        found = await asyncio.to_thread(self._folder.look)
        if isinstance(found, Rules):
            found = self._checked(found)
        if isinstance(found, Refused):
            self._refused, self._refused_at = True, time.time()
            log.error("rules.refused", problems=found.problems, in_force=self.rules.version)
        elif found is not None:
            self._take(found)

    def _checked(self, rules: Rules) -> Rules | Refused:
        try:
            self._check(rules)
        except RuleError as error:
            return Refused(tuple(str(error).splitlines()))
        return rules

    def _take(self, rules: Rules) -> None:
        was, self._refused = self.rules.version, False
        if rules.version != was:
            self.rules, self._loaded_at = rules, time.time()
            self._follow(rules)
        log.info("rules.loaded", version=rules.version, was=was)

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        yield Figure(RULES, 1, (self.rules.version,))
        yield Figure(RULES_LOADED, self._loaded_at)
        yield Figure(RULES_REFUSED, int(self._refused))
        yield Figure(RULES_REFUSED_AT, self._refused_at)
