"""An operator lowers a site's rate in its file while mail flows: no restart, and the wrong file changes nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.stack import Stack, wait_for
from tests.support.workers import publish

from sluice.adapters.rules import load_rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MAILS, FAST, SLOW, CONNECTIONS = 450, 20, 10, 4


@pytest.fixture
def sites(stack: Stack) -> Iterator[Path]:
    """The stack's ``sites.toml``, as it was again afterwards."""
    assert stack.local.settings.rules_dir is not None
    file = stack.local.settings.rules_dir / "sites.toml"
    before = file.read_text() if file.exists() else None
    yield file
    if before is None:
        file.unlink()
    else:
        file.write_text(before)


def site(domain: str, rate: int) -> str:
    """A table for the site."""
    return (
        f'\n[[site]]\nname = "{domain}"\ndomains = ["{domain}"]\n'
        f'rate = "{rate}/s,burst=1"\nconnections = {CONNECTIONS}\n'
    )


def in_force(stack: Stack, sites: Path) -> None:
    """Wait until deliver and compose follow the file as it is."""
    version = load_rules(sites.parent).version
    for name in ("deliver-1", "compose-1"):
        log = stack.local.folder.logs / f"{name}.log"
        wait_for(log.read_text, lambda text: version in text, 60, f"{version} in {name}")


def test_a_lowered_rate_holds_while_mail_flows_and_a_wrong_file_changes_nothing(stack: Stack, sites: Path) -> None:
    """Counted at the mailbox. What had booked its time at the old rate waits its turn at the new one; none is lost."""
    domain = f"r{uuid.uuid4().hex[:8]}.example"
    original = sites.read_text() if sites.exists() else ""
    sites.write_text(original + site(domain, FAST))
    in_force(stack, sites)
    addresses = [f"u{number}@{domain}" for number in range(MAILS)]
    ids = publish(stack, addresses)

    def arrived() -> list[float]:
        return sorted(mail.dot_at for mail in stack.mailbox.received() if mail.rcpt_to[0].endswith(f"@{domain}"))

    wait_for(arrived, lambda times: len(times) > 50, 60, "the first mails")
    sites.write_text(original + site(domain, SLOW))
    in_force(stack, sites)
    lowered = time.time()
    assert len(arrived()) < MAILS - 7 * SLOW, "too few are left to show anything"
    sites.write_text(original + site(domain, SLOW).replace("/s", "/fortnight"))
    log = stack.local.folder.logs / "deliver-1.log"
    refused = f"sites.toml: site[{domain}].rate: not a rate"
    wait_for(log.read_text, lambda text: refused in text, 60, "the refusal")
    wait_for(arrived, lambda times: times[-1] > lowered + 8, 60, "mails after the refusal")
    since = [at for at in arrived() if lowered + 1 < at <= lowered + 6]
    assert len(since) <= 5 * SLOW + CONNECTIONS + 1
    sites.write_text(original + site(domain, SLOW))
    wait_for(lambda: stack.equation(ids).delivered, lambda count: count == MAILS, 150, "all mails")
    times = arrived()
    assert len(times) == MAILS
    slow = [at for at in times if at > lowered + 1]
    assert (len(slow) - CONNECTIONS - 1) / SLOW <= slow[-1] - slow[0] + 1
