"""What was published and what the mailbox holds: the truth that answers are held against. ClickHouse is not asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sluice.adapters.embedded.mailbox_store import Mailbox
from sluice.local.traffic import CLOSED, Mail, Raw, Traffic

REFUSED = ("+bounce", "+reply5")
"""Words in an address for which the mailbox refuses for good."""
CAMPAIGN = "counted"


class Sent(msgspec.Struct, frozen=True):
    """A recipient as published: when (seconds since the epoch), and the campaign."""

    at: float
    campaign: str


class Noted:
    """The demo's traffic; remembers what it hands out to be published."""

    def __init__(self, traffic: Traffic) -> None:
        self.examples: Path = traffic.examples
        self.sent: dict[str, list[Sent]] = {}
        self.suppressed = 0
        self.refused = 0
        self._traffic = traffic
        self._unwanted = set(traffic.suppressed)

    def __iter__(self) -> Iterator[Mail | Raw]:
        for item in self._traffic:
            if not isinstance(item, Mail):
                yield item
                continue
            # The examples send to some addresses more than once, so they are no part of the campaign that is counted.
            event = {**item.event}
            if "number" in event.get("metadata", {}) and event.get("campaign_id"):
                event["campaign_id"] = CAMPAIGN
            if any(entry["email"] in self._unwanted for entry in event["to"]):
                # Whether it expires before it is seen to be suppressed would depend on the backlog.
                event.pop("expires_at", None)
            self._note(event)
            yield msgspec.structs.replace(item, event=event)

    def _note(self, event: dict[str, Any]) -> None:
        now = time.time()
        for field in ("to", "cc", "bcc"):
            for entry in event.get(field, ()):
                address = str(entry["email"] if isinstance(entry, dict) else entry)
                self.sent.setdefault(address, []).append(Sent(now, event.get("campaign_id") or ""))
                self.suppressed += address in self._unwanted
                local, _, domain = address.rpartition("@")
                self.refused += domain != CLOSED and any(word in local for word in REFUSED)


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """Mails by Message-ID, so that one that came twice counts once; milliseconds from publishing to the reply.

    ``refused`` leaves out the site that closes: there a mail may expire before it is refused.
    """

    delivered: dict[str, int]
    by_campaign: dict[str, int]
    refused: int
    suppressed: int
    took_ms: list[float]


def read_truth(noted: Noted, mailbox: Mailbox) -> Truth:
    """Count the mailbox, once all is quiet."""
    domains = Counter[str]()
    campaigned = 0
    took = []
    seen: set[str | None] = set()
    for mail in mailbox.received():
        if mail.rfc5322_message_id in seen:
            continue
        seen.add(mail.rfc5322_message_id)
        (address,) = mail.rcpt_to
        domains[address.rpartition("@")[2]] += 1
        sent = noted.sent.get(address, [])
        campaigned += any(one.campaign == CAMPAIGN for one in sent)
        if len(sent) == 1 and mail.replied_at is not None:
            took.append((mail.replied_at - sent[0].at) * 1000)
    return Truth(
        delivered=dict(domains), by_campaign={CAMPAIGN: campaigned}, refused=noted.refused, suppressed=noted.suppressed,
        took_ms=sorted(took),
    )  # fmt: skip
