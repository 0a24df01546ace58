"""The compose service: ``mail.send.*`` in, mails for ``mail.ready.*`` and outcomes out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from sluice.compose.handler import ComposeHandler
from sluice.compose.sites import Sites
from sluice.compose.step import Composer
from sluice.domain.errors import RuleError, SluiceError
from sluice.domain.reference import SigningKey
from sluice.domain.rules import Rules
from sluice.domain.topics import OUTCOME, READY, SEND
from sluice.domain.yielding import Yielding
from sluice.ports.health import Health
from sluice.ports.metrics import Figure
from sluice.runtime import telemetry, wiring
from sluice.runtime.config import Settings
from sluice.runtime.renewals import HOUR, DkimKeys, look_again
from sluice.runtime.stall import stalled, uncommitted
from sluice.runtime.tasks import Tasks

GROUP = "sluice-compose"
LOAD_S = 120.0


class ComposeService:
    """See :class:`sluice.runtime.lifecycle.Service`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks = Tasks()
        self._bus = wiring.bus(settings)
        self._catalogue, self._reference = wiring.reference(settings)
        clock = wiring.SystemClock()
        self._resolver = wiring.resolver(settings)
        rules = wiring.rules(settings)
        recorder = wiring.recorder(settings, rules)
        self._tally = recorder.tally
        self._sites = Sites(rules.sites, wiring.routes(settings), self._resolver, clock)
        self._composer = Composer(
            reference=self._catalogue,
            renderer=wiring.renderer(),
            signer=wiring.signer(settings),
            recorder=recorder,
            limits=wiring.limits(settings, rules),
            site_of=self._sites.settled,
        )
        self._spans = telemetry.spans("compose", settings)
        self._handler = ComposeHandler(
            composer=self._composer,
            recorder=recorder,
            sites=self._sites,
            seen_log=wiring.seen_log(settings),
            bus=self._bus,
            clock=clock,
            load=wiring.SystemLoad(),
            yielding=Yielding(most=1.0 - settings.priority_headroom),
            fatal=self._tasks.fail,
            spans=self._spans,
        )
        folder = settings.dkim_keys_dir or Path("/nonexistent")
        self._keys = DkimKeys(folder, self._signed_with, settings.dkim_rotate_days)
        self._intake = wiring.intake(settings, GROUP, tuple(SEND.values()), self._handler)
        self._rules_watch = wiring.rules_watch(settings, rules, self._follow)
        self._watch = wiring.reading_watch(settings, GROUP, lambda: self._intake.reading)

    @property
    def health(self) -> Health:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        facts = {"unfinished": float(self._intake.unfinished), "partitions": float(len(self._intake.partitions))}
        intake, limit = self._intake, self._settings.stall_s
        reason = (
            stalled(intake.unfinished, intake.moved_at, limit)
            or uncommitted(intake.owed_at, intake.moved_at, limit)
            or self._watch.reason
        )
        return Health(not reason, self._intake.joined.is_set() and self._reference.loaded, reason, facts)

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        yield from self._bus.figures()
        yield from self._intake.figures()
        yield from self._reference.figures()
        yield from self._tally.figures()
        yield from self._keys.figures()
        yield from self._rules_watch.figures()

    def _signed_with(self) -> list[SigningKey]:
        tenants = list(self._catalogue.tenants.values())
        return [key for tenant in tenants if tenant.active for key in tenant.signing]

    async def start(self) -> None:
        """Load reference data, then join; raises :class:`SluiceError` when topics are missing."""
        self._reference.start()
        for topic in (*SEND.values(), *READY.values(), OUTCOME):
            self._bus.partitions(topic)
        if not await asyncio.to_thread(self._reference.wait_loaded, LOAD_S):
            raise SluiceError(f"reference data were not read within {LOAD_S:.0f} s")
        self._tasks.run(look_again(self._keys, HOUR), "keys")
        self._tasks.run(self._handler.compose_forever(), "compose")
        await self._intake.start()
        self._tasks.run(self._watch.run(), "reading watch")
        self._tasks.run(self._rules_watch.run(), "rules")
        self._tasks.watch(lambda: self._intake.crashed)
        self._tasks.watch(lambda: self._reference.failure)

    def _follow(self, rules: Rules) -> None:
        self._tally.follow(site.name for site in rules.sites.all)
        self._sites.follow(rules.sites)
        self._composer.follow(wiring.limits(self._settings, rules))

    async def failed(self) -> BaseException:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        return await self._tasks.failed()

    async def stop(self) -> None:
        """See :class:`sluice.runtime.lifecycle.Service`."""
        await self._intake.stop()
        await self._tasks.stop()
        self._reference.stop()
        await self._resolver.close()
        await self._bus.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)


async def open_compose(settings: Settings) -> ComposeService:
    """Build the service; raises :class:`RuleError` for what is set wrong."""
    if settings.dkim_keys_dir is None:
        raise RuleError("SLUICE_DKIM_KEYS_DIR is not set: mail is signed with the keys in it (sluice dkim generate)")
    return ComposeService(settings)
