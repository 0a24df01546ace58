"""What deliver leaves to the garbage collector, which stops everything while it works."""

from __future__ import annotations

import gc

from tests.support.deliver import Worker, rules_with

from sluice.deliver.item import Item
from sluice.domain.smtp import Replied

MAILS = 50


def items() -> int:
    return sum(isinstance(each, Item) for each in gc.get_objects())


async def test_a_mail_that_is_finished_is_freed_without_the_collector() -> None:
    """Delivered, refused or put off: whole mails would pile up until it runs."""
    worker = Worker(rules=rules_with(rate=None))
    worker.mailer.answer("m1@site.example", Replied("rcpt", 550, "5.1.1 no such user", "5.1.1"))
    worker.mailer.answer("m2@site.example", Replied("rcpt", 451, "4.3.0 later", "4.3.0"))
    gc.collect()
    gc.disable()
    try:
        await worker.take(*(worker.record(worker.envelope(f"m{number}")) for number in range(MAILS)))
        await worker.clock.advance(1.0)
        await worker.settle()
        assert len(worker.done) == MAILS
        # An agent that rests may remember its last mail.
        assert items() <= worker.senders.connections
    finally:
        gc.enable()
        await worker.close()
