"""What the text of an SMTP reply tells beside its code: the enhanced status, when to try again, and whose address."""

from __future__ import annotations

import re

_READ = 1_000
"""Characters of a reply's text that are looked at; bounds the work that a hostile reply can cause."""

_STATUS = r"([245])\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?![\d.])"
_LEADING = re.compile(rf"\s*#?{_STATUS}")
_HASHED = re.compile(rf"\(#{_STATUS}\)")

_UNITS = {"s": 1, "m": 60, "h": 3600}
_ONE = r"\d{1,6}\s*(?:seconds?|secs?|minutes?|mins?|hours?|hrs?|[smh])\b"
_AMOUNT = rf"(?:\d{{1,3}}:[0-5]\d(?::[0-5]\d)?\b|{_ONE}(?:(?:\s*,)?\s*(?:and\s*)?{_ONE}){{0,2}})"
_ASKED = (
    r"(?:\bre-?(?:try|send)\w*|\btry(?:ing)?\b|\bagain\b|\bcome\s+back\b|\bwait\b|\bgr[ae]y-?list\w*|\bpostponed\b)"
)
_BEFORE_AMOUNT = re.compile(rf"{_ASKED}[^\d.!?]{{0,40}}(?<![\d.])({_AMOUNT})", re.IGNORECASE)
_AFTER_AMOUNT = re.compile(
    rf"(?<![\d.:])({_AMOUNT})\s+(?:before|and(?:\s+then)?)\s+(?:\w+\s+){{0,2}}(?:re-?)?(?:try|send)", re.IGNORECASE
)
_PART = re.compile(r"(\d{1,6})\s*([smh])", re.IGNORECASE)

_LONGEST_HINT = 7 * 86_400.0

_ADDRESS = re.compile(r"""(?:"[^"]*"|[^\s<>"'(),:;\[\]=]+)@[^\s<>"'(),:;\]=]*""")


def without_addresses(text: str) -> str:
    """The text with ``<address>`` in place of each mail address that it quotes, whole or cut off behind its ``@``."""
    return _ADDRESS.sub("<address>", text)


def enhanced_status(code: int, text: str) -> str | None:
    """The RFC 3463 status that begins a reply's text (``5.1.1``), or None.

    RFC 2034 section 4 demands that its class be the code's first digit; a status of another class is ignored. The older
    notations ``#5.1.1`` and ``(#5.1.1)`` are understood too.
    """
    found = _LEADING.match(text) or _HASHED.search(text, 0, _READ)
    if found is None or int(found[1]) != code // 100:
        return None
    return f"{found[1]}.{found[2]}.{found[3]}"


def retry_hint(text: str) -> float | None:
    """Seconds after which the server asks to be tried again, or None when the text does not say.

    Understands ``try again in 5 minutes``, ``retry after 300s``, ``come back in 00:05:00``, ``greylisted for 1 hour 30
    min``, ``wait 60 seconds before trying again``. A number that describes a limit (``100 mails in 60 seconds``) is no
    hint. Hints of zero or of more than a week are taken for nonsense: None.
    """
    text = text[:_READ]
    found = _BEFORE_AMOUNT.search(text) or _AFTER_AMOUNT.search(text)
    if found is None:
        return None
    seconds = _seconds(found[1])
    return seconds if 0 < seconds <= _LONGEST_HINT else None


def _seconds(amount: str) -> float:
    if ":" in amount:
        total = 0
        for part in amount.split(":"):
            total = total * 60 + int(part)
        return float(total)
    return float(sum(int(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(amount)))
