"""What is not even begun with a server, because it cannot end well."""

from __future__ import annotations

from sluice.adapters.smtp.capabilities import Capabilities
from sluice.domain.smtp import Broken, Replied
from sluice.domain.wire import misfit
from sluice.ports.mailer import Transaction


def unsendable(transaction: Transaction, offered: Capabilities) -> Broken | Replied | None:
    """Why a transaction cannot be sent to a server with these extensions; None when it can."""
    size = len(transaction.content)
    wrong = misfit(transaction.mail_from, transaction.rcpt_to, transaction.content)
    if wrong is not None:
        return wrong
    if needs_utf8(transaction) and not offered.smtputf8:
        return Broken("mail", "unsupported", "SMTPUTF8")
    if not offered.eight_bit and not transaction.content.isascii():
        return Broken("mail", "unsupported", "8BITMIME")
    if offered.size_limit is not None and size > offered.size_limit:
        text = f"sluice: message of {size} octets exceeds the server's SIZE limit of {offered.size_limit}"
        return Replied("mail", 552, text, "5.3.4")
    return None


def needs_utf8(transaction: Transaction) -> bool:
    """Whether only a server with SMTPUTF8 (RFC 6531) can take it."""
    return transaction.smtputf8 or not (transaction.mail_from.isascii() and transaction.rcpt_to.isascii())
