"""MTA-STS policies kept for as long as they bind, and refreshed before they expire (RFC 8461 sections 3.3 and 5.1)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
import structlog

from sluice.adapters.mtasts.fetch import FetchFailed
from sluice.domain.mta_sts import StsFailure, StsPolicy, record_id
from sluice.ports.resolver import LookupFailed, Texts

V = TypeVar("V")
log = structlog.get_logger(__name__)

REFRESH = 86_400.0
"""Seconds after which a policy is fetched anew though it still binds; half its lifetime when that is shorter."""
RETRY = 300.0
"""Seconds for which a domain is not asked again after a fetch that failed."""
SWEEP = 600.0
"""Seconds between looks for policies that are due."""
_REFRESHED_AT_ONCE = 10


class Fetch(Protocol):
    """Where policies come from: :class:`sluice.adapters.mtasts.fetch.PolicyFetcher`."""

    async def fetch(self, domain: str) -> StsPolicy:
        """The policy, or :class:`FetchFailed`."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class _Kept(msgspec.Struct, frozen=True):
    policy: StsPolicy
    record: str | None
    fetched: float

    def binds(self, now: float) -> bool:
        return now < self.fetched + self.policy.max_age

    def due(self, now: float) -> bool:
        return now >= self.fetched + min(REFRESH, self.policy.max_age / 2)


class CachedStsPolicies:
    """A :class:`sluice.ports.tls_policies.StsPolicies` that keeps up to ``entries`` policies, in memory only.

    A policy that binds stays in force whatever becomes of its TXT record or its server, until another one is fetched or
    its time is over. ``now`` is a monotonic clock in seconds.
    """

    def __init__(
        self,
        resolver: Texts,
        fetcher: Fetch,
        *,
        entries: int = 50_000,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._entries = entries
        self._now = now
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._failures: OrderedDict[str, StsFailure] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def policy(self, domain: str) -> StsPolicy | None:
        """As the port says."""
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep_forever(), name="mta-sts")
        texts = await self._resolver.txt(f"_mta-sts.{domain}")
        record = None if isinstance(texts, LookupFailed) else record_id(texts)
        kept = self._binding(domain)
        if record is None:
            self._failures.pop(domain, None)
        if record is not None and (kept is None or kept.record != record):
            await asyncio.shield(self._fetch(domain, record))
            kept = self._binding(domain)
        return None if kept is None or kept.policy.mode == "none" else kept.policy

    def failure(self, domain: str) -> StsFailure | None:
        """As the port says."""
        return self._failures.get(domain)

    async def refresh_due(self) -> None:
        """Fetch anew what is due, and forget what no longer binds."""
        now = self._now()
        due = [domain for domain, kept in self._kept.items() if kept.due(now)]
        gate = asyncio.Semaphore(_REFRESHED_AT_ONCE)

        async def refresh(domain: str) -> None:
            async with gate:
                texts = await self._resolver.txt(f"_mta-sts.{domain}")
                record = None if isinstance(texts, LookupFailed) else record_id(texts)
                # Without a record the server is asked all the same: whoever can hide the one cannot forge the other.
                if kept := self._binding(domain):
                    await self._fetch(domain, record or kept.record)

        await asyncio.gather(*(refresh(domain) for domain in due))

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [*self._fetching.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sweeper = None
        await self._fetcher.close()

    def _binding(self, domain: str) -> _Kept | None:
        kept = self._kept.get(domain)
        if kept is not None and not kept.binds(self._now()):
            del self._kept[domain]
            return None
        return kept

    def _fetch(self, domain: str, record: str | None) -> asyncio.Task[None]:
        task = self._fetching.get(domain)
        if task is None:
            task = self._fetching[domain] = asyncio.create_task(self._fetch_once(domain, record))
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _fetch_once(self, domain: str, record: str | None) -> None:
        if self._failed.get(domain, 0.0) > self._now():
            return
        try:
            policy = await self._fetcher.fetch(domain)
        except FetchFailed as failure:
            kept = self._binding(domain)
            if kept is None or kept.policy.mode != "none":
                log.warning("mta_sts_fetch_failed", domain=domain, reason=str(failure), kept=kept is not None)
            _put(self._failed, domain, self._now() + RETRY, self._entries)
            _put(self._failures, domain, StsFailure(failure.result, str(failure)), self._entries)
            return
        log.debug("mta_sts_fetched", domain=domain, mode=policy.mode, max_age=policy.max_age)
        self._failed.pop(domain, None)
        self._failures.pop(domain, None)
        _put(self._kept, domain, _Kept(policy, record, self._now()), self._entries)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await self.refresh_due()


def _put(table: OrderedDict[str, V], key: str, value: V, most: int) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > most:
        table.popitem(last=False)
