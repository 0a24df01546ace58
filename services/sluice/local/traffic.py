"""The demo's mail: the examples, and generated mails to well and badly behaved recipients."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from sluice.domain.events import Priority

Event = dict[str, Any]

SLOW, GREY, CLOSED = "tortoise.example", "greylist.example", "closed.example"
_TREES = (
    "alder", "apple", "ash", "aspen", "bamboo", "beech", "birch", "camphor", "cedar", "cherry",
    "chestnut", "cypress", "dogwood", "elder", "elm", "fig", "fir", "ginkgo", "hazel", "hemlock",
    "hickory", "holly", "hornbeam", "juniper", "larch", "laurel", "lime", "linden", "magnolia", "maple",
    "mulberry", "myrtle", "oak", "olive", "osier", "palm", "pear", "pine", "plane", "plum",
    "poplar", "quince", "rowan", "sequoia", "spruce", "sycamore",
)  # fmt: skip
_NAMES = (
    "Jo Müller",
    "李娜",
    "Zoë Brown",
    "Δημήτρης Παπαδόπουλος",
    "Søren Ærø",
    "王芳",
    "Ana María Peña",
    "Иван Петров",
)
_BASES: tuple[tuple[str, Priority, int], ...] = (
    ("order-confirmation", "normal", 5),
    ("password-reset", "high", 2),
    ("activation", "high", 2),
    ("newsletter", "bulk", 3),
)
URGENT = ("activation", "password-reset")
# Weights of what a recipient is like, per thousand mails.
_FATES: tuple[tuple[str, int], ...] = (
    ("", 860), ("+defer1", 45), ("+defer2", 10), ("+full1", 10), ("+bounce", 30), ("+reply551", 5), ("+slow2", 5),
    ("suppressed", 12), ("no-template", 4), ("no-variable", 4), ("wrong-domain", 4), ("late", 4), ("hopeless", 5),
    ("no-address", 2),
)  # fmt: skip
_RARE = ("+drop1", "+lost1", "+hang1")
"""Each a few times only: what hangs takes as long as the mailbox is patient."""


class Mail(msgspec.Struct, frozen=True):
    """An event to publish through the SDK; ``mails`` are the recipients it asks for."""

    event: Event
    priority: Priority | None
    mails: int


class Raw(msgspec.Struct, frozen=True):
    """Bytes to publish as they are: what a broken producer would. It counts as one mail."""

    topic: str
    key: bytes
    value: bytes
    mails: int = 1


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """``mails`` generated mails to ``domains`` domains, made by ``seed``."""

    mails: int
    domains: int
    seed: int
    examples: Path
    suppressed: tuple[str, ...]
    """Addresses that acme must not mail."""

    def __iter__(self) -> Iterator[Mail | Raw]:
        """The examples first, then the generated ones, of which some are wrong in ways that only show later."""
        yield from example_mails(self.examples, datetime.now(UTC))
        yield from self._generated()

    def _generated(self) -> Iterator[Mail | Raw]:
        rng = random.Random(self.seed)  # noqa: S311  the same mails every time
        domains = [SLOW, GREY, CLOSED, *domain_names(self.domains - 3)]
        weights = [1.0, 1.0, 0.3, *(4 / (rank + 4) * 3 for rank in range(len(domains) - 3))]
        bases = [(base, priority) for base, priority in _bases(self.examples)]
        base_weights = [weight for name, _, weight in _BASES if (self.examples / f"{name}.json").exists()] or [1]
        fates, fate_weights = zip(*_FATES, strict=True)
        rare = deque((self.mails * (n + 1) // 16, _RARE[n % 3]) for n in range(15))
        broken = deque(self.mails * (n + 1) // 11 for n in range(10))
        made = 0
        while made < self.mails:
            domain = rng.choices(domains, weights)[0]
            if broken and made >= broken[0]:
                broken.popleft()
                yield _undecodable(rng, domain, made)
                made += 1
                continue
            base, priority = rng.choices(bases, base_weights)[0]
            fate = rng.choices(fates, fate_weights)[0]
            if rare and made >= rare[0][0] and domain not in (GREY, CLOSED):
                fate = rare.popleft()[1]
            event = self._event(rng, base, domain, fate, made)
            yield Mail(event, priority, len(event["to"]))
            made += len(event["to"])

    def _event(self, rng: random.Random, base: Event, domain: str, fate: str, number: int) -> Event:
        now = datetime.now(UTC)
        word = fate if fate.startswith("+") else ""
        recipients = 1
        if base.get("stream") == "broadcast" and fate == "":
            recipients = rng.randint(1, 4)
        to = [
            {"email": f"{_local(number + n)}{word}@{domain}", "name": rng.choice(_NAMES), "variables": {"name": "Jo"}}
            for n in range(recipients)
        ]
        event = {**base, "to": to, "tags": [*base.get("tags", []), "demo"], "metadata": {"number": str(number)}}
        if domain == CLOSED:
            event["expires_at"] = (now + timedelta(seconds=12)).isoformat()
        match fate:
            case "suppressed":
                to[0]["email"] = rng.choice(self.suppressed)
            case "no-template":
                event.pop("subject", None), event.pop("html", None), event.pop("text", None)
                event["template"] = {"id": "no-such-template"}
            case "no-variable" if "template" in event:
                event["template"] = {"id": "order-confirmation", "variables": {}}
            case "wrong-domain":
                event["from"] = {"email": "ceo@another-company.example"}
            case "no-address":
                to[0]["email"] = f"{_local(number)}@-no-such-.{domain}"
            case "late":
                event["expires_at"] = (now - timedelta(minutes=5)).isoformat()
            case "hopeless":
                to[0]["email"] = f"{_local(number)}+defer0@{domain}"
                event["expires_at"] = (now + timedelta(seconds=15)).isoformat()
        return event


def example_mails(folder: Path, now: datetime) -> Iterator[Mail]:
    """The example events with new ids: one of them in six seconds, one twice, and one for tomorrow."""
    for path in sorted(folder.glob("*.json")):
        event = json.loads(path.read_bytes())
        event.pop("message_id", None)
        priority: Priority | None = "high" if path.stem in URGENT else None
        mails = sum(len(event.get(field, ())) for field in ("to", "cc", "bcc"))
        if "send_at" in event:
            event.pop("expires_at", None)
            tomorrow = {**event, "send_at": (now + timedelta(days=1)).isoformat()}
            yield Mail(tomorrow, priority, mails)
            event["send_at"] = (now + timedelta(seconds=6)).isoformat()
        yield Mail(event, priority, mails)
        if "idempotency_key" in event:
            yield Mail(event, priority, mails)


def waiting_at_end(folder: Path) -> int:
    """How many of :func:`example_mails` are for tomorrow."""
    return sum("send_at" in json.loads(path.read_bytes()) for path in folder.glob("*.json"))


def domain_names(count: int) -> list[str]:
    """Names below ``.example``."""
    return [
        f"{_TREES[n % len(_TREES)]}{n // len(_TREES) + 1 if n >= len(_TREES) else ''}.example" for n in range(count)
    ]


def _bases(folder: Path) -> list[tuple[Event, Priority]]:
    """Events to vary; plain content where there are no examples."""
    found: list[tuple[Event, Priority]] = []
    for name, priority, _ in _BASES:
        path = folder / f"{name}.json"
        if path.exists():
            event = json.loads(path.read_bytes())
            for field in ("message_id", "idempotency_key", "cc", "bcc"):
                event.pop(field, None)
            found.append((event, priority))
    return found or [({"tenant_id": "acme", "subject": "Hello", "text": "Hello there.\n" * 40}, "normal")]


def _local(number: int) -> str:
    return f"user{number}"


def _undecodable(rng: random.Random, domain: str, number: int) -> Raw:
    """What cannot be read at all is kept as a dead letter; what can be told apart is rejected by name."""
    values = (
        b"\xff\xfe not JSON at all",
        b'{"message_id": "cut-off", "tenant',
        json.dumps({"message_id": f"wrong-{number}", "tenant_id": "acme", "to": "jo@mail.example"}).encode(),
    )
    return Raw("mail.send.normal", domain.encode(), values[number % 3])
