"""What the settings say about the conversation, as a server that falls silent sees it."""

from __future__ import annotations

import pytest
from tests.support.scripted_smtp import Peer, ScriptedServer, polite

from sluice.domain.smtp import Broken, Replied, Unknown
from sluice.ports.mailer import Hop, Transaction
from sluice.runtime.config import load_settings
from sluice.runtime.wiring import mailer

LONG = {"smtp_connect_s": 30, "smtp_command_s": 30, "smtp_data_s": 30, "smtp_dot_s": 30}
MAIL = Transaction(mail_from="a@sender.example", rcpt_to="b@receiver.example", content=b"Subject: x\r\n\r\nbody\r\n")


async def nothing() -> None:
    """No ledger."""


@pytest.mark.parametrize(
    ("moment", "setting", "outcome"),
    [
        ("banner", "smtp_connect_s", Broken("banner", "timeout")),
        ("EHLO", "smtp_command_s", Broken("ehlo", "timeout")),
        ("RCPT", "smtp_command_s", Broken("rcpt", "timeout")),
        ("DATA", "smtp_data_s", Broken("data", "timeout")),
        ("dot", "smtp_dot_s", Unknown("timeout")),
    ],
)
async def test_each_silence_is_borne_for_as_long_as_its_setting_says(
    moment: str, setting: str, outcome: Broken | Unknown
) -> None:
    settings = load_settings(**{**LONG, setting: 0.2})
    async with ScriptedServer(polite({moment: Peer.gone})) as server:
        hop = Hop(host="mx.invalid", address="127.0.0.1", port=server.port, ehlo="out.sender.example", tls="none")
        result = await mailer(settings).connect(hop)
        if not isinstance(result, Replied | Broken):
            result = await result.send(MAIL, before_data=nothing)
        assert result == outcome
