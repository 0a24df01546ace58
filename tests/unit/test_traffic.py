"""The demo's mail is what it says it is."""

from datetime import UTC, datetime
from pathlib import Path

from sluice.client.prepare import prepare
from sluice.local.demo import traffic
from sluice.local.seed import EXAMPLES
from sluice.local.traffic import Mail, Raw, example_mails, waiting_at_end

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_every_generated_event_passes_the_producers_sdk() -> None:
    for item in traffic(500, 20, 1):
        if isinstance(item, Mail):
            prepare(item.event, item.priority, source="x", new_id=lambda: "id", now="", traceparent="")


def test_the_count_of_mails_is_that_of_recipients() -> None:
    items = list(traffic(500, 20, 1))
    examples = sum(item.mails for item in example_mails(EXAMPLES, NOW))
    for item in items:
        if isinstance(item, Mail):
            assert item.mails == sum(len(item.event.get(field, ())) for field in ("to", "cc", "bcc"))
    assert 500 <= sum(item.mails for item in items) - examples <= 503


def test_every_kind_of_trouble_is_in_it() -> None:
    items = list(traffic(3000, 50, 1))
    words = {
        item.event["to"][0]["email"].partition("@")[0].partition("+")[2] for item in items if isinstance(item, Mail)
    }
    assert {"", "defer1", "bounce", "slow2", "drop1", "lost1", "hang1"} <= words
    assert sum(isinstance(item, Raw) for item in items) == 10


def test_the_same_number_makes_the_same_mails_to_the_domains_asked_for() -> None:
    def addresses(seed: int) -> list[str]:
        return [item.event["to"][0]["email"] for item in traffic(300, 50, seed) if isinstance(item, Mail)]

    assert addresses(7) == addresses(7) != addresses(8)
    generated = [address for address in addresses(7) if address.startswith("user")]
    assert len({address.rpartition("@")[2] for address in generated}) <= 50


def test_one_example_is_for_tomorrow() -> None:
    later = [m for m in example_mails(EXAMPLES, NOW) if m.event.get("send_at", "").startswith("2026-06-02")]
    assert sum(mail.mails for mail in later) == waiting_at_end(EXAMPLES) == 1


def test_without_examples_there_is_still_mail(tmp_path: Path) -> None:
    assert list(example_mails(tmp_path, NOW)) == []
