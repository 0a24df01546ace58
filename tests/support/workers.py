"""A Sluice of which more workers can be started, delivering to a server that counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.counting_sink import CountingSink
from tests.support.stack import PARTS, Stack, open_stack

from sluice.client import new_message_id
from sluice.local.seed import Reference, example_reference


@contextmanager
def counting_sink() -> Iterator[CountingSink]:
    """Where everything goes."""
    made = CountingSink()
    made.start()
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def several_workers(
    folder: Path,
    sink: CountingSink,
    *,
    deliver: int,
    sites: str | None = None,
    reference: Sequence[Reference] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """A stack with ``deliver`` workers of that kind, of which only the first runs; ``sites`` is a ``sites.toml``."""
    rules = None
    if sites is not None:
        rules = folder / "rules"
        rules.mkdir()
        (rules / "sites.toml").write_text(sites)
    made = open_stack(
        folder / "data",
        example_reference() if reference is None else reference,
        counts={"deliver": deliver},
        smtp=f"127.0.0.1:{sink.port}",
        rules=rules,
        environment=dict(environment or {}),
    )
    try:
        made.start(*(name for name in made.names if name in PARTS))
        made.start("compose-1", "wheel-1", "record-1", "deliver-1")
        yield made
    finally:
        made.close()


def publish(workers: Stack, recipients: Iterable[str], tenant: str = "acme") -> list[str]:
    """A mail to each address; returns their ids once Kafka has all of them."""
    mails = {new_message_id(): each for each in recipients}
    events = (
        {
            "message_id": message_id,
            "tenant_id": tenant,
            "to": [{"email": email}],
            "subject": "A story",
            "text": "Once upon a time.\n",
        }
        for message_id, email in mails.items()
    )
    assert workers.client.send_many(events).published == len(mails)
    return list(mails)
