"""What ends by itself unless somebody renews it: certificates, and DKIM keys by their age."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, get_args

import structlog

from sluice.adapters.dkim.ages import key_ages
from sluice.adapters.system.certificates import valid_until
from sluice.domain.errors import SluiceError
from sluice.domain.reference import SigningKey
from sluice.domain.rotation import DAY, KeyAge, State, first_due
from sluice.ports.figures import Figure
from sluice.ports.machine_metrics import CERTIFICATE_EXPIRES, DKIM_KEY_DUE, DKIM_KEYS
from sluice.runtime.config import Settings

log = structlog.get_logger(__name__)
HOUR = 3600.0
OWN = frozenset({"kafka_client"})
"""Chains that we present; the others are of authorities that we trust."""
Now = Callable[[], float]


class Looker(Protocol):
    """Whoever reads files now and then."""

    def look(self) -> None:
        """Read them; may block."""
        ...


async def look_again(looker: Looker, every: float) -> None:
    """Have it look in a thread, now and every so many seconds. What fails is logged, and tried again the next time."""
    while True:
        try:
            await asyncio.to_thread(looker.look)
        except Exception as error:
            log.warning("renewals.not_read", error=repr(error))
        await asyncio.sleep(every)


def certificate_files(settings: Settings) -> Mapping[str, Path]:
    """By use, the files of certificates that are set."""
    files = {
        "kafka_ca": settings.kafka_ssl_cafile,
        "kafka_client": settings.kafka_ssl_certfile,
        "kafka_oauth_ca": settings.kafka_oauth_cafile,
        "clickhouse_ca": settings.clickhouse_ssl_cafile,
    }
    return {use: path for use, path in files.items() if path is not None}


class Certificates:
    """Tells until when certificates are valid."""

    def __init__(self, files: Mapping[str, Path], now: Now = time.time) -> None:
        self._files = files
        self._now = now
        self._ends: dict[str, float] = {}

    def look(self) -> None:
        """Read the files. One that cannot be read keeps what was known of it."""
        for use, path in self._files.items():
            try:
                self._ends[use] = valid_until(path, self._now(), all_needed=use in OWN)
            except SluiceError as error:
                log.warning("certificate.not_read", use=use, error=str(error))

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`."""
        for use, end in list(self._ends.items()):
            yield Figure(CERTIFICATE_EXPIRES, end - self._now(), (use,))


class DkimKeys:
    """Tells of the keys that are signed with; ``keys`` gives them, in any thread."""

    def __init__(
        self, folder: Path, keys: Callable[[], Iterable[SigningKey]], rotate_days: float, now: Now = time.time
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._rotate = rotate_days * DAY
        self._now = now
        self._ages: list[KeyAge] | None = None

    def look(self) -> None:
        """See how old they are."""
        self._ages = key_ages(self._folder, self._keys())

    def figures(self) -> Iterator[Figure]:
        """See :class:`sluice.ports.metrics.Figures`; nothing before the first look."""
        if self._ages is None:
            return
        now = self._now()
        counts = Counter(age.state(now, self._rotate) for age in self._ages)
        for state in get_args(State):
            yield Figure(DKIM_KEYS, counts[state], (state,))
        due = first_due(self._ages, self._rotate)
        if due is not None:
            yield Figure(DKIM_KEY_DUE, due - now)
