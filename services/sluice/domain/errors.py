"""Errors of the domain, named by whose fault they are."""

import msgspec

NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding JSON that nobody has looked at yet may raise; the last for brackets thousands deep."""


class SluiceError(Exception):
    """Anything Sluice raises on purpose."""


class Refused(SluiceError):
    """The producer's fault: the event cannot become mail as it stands.

    ``field`` is the path of the offending field (``to[0].email``), ``reason`` says what is wrong with it in a
    sentence without addresses or content, ``category`` is the stable name analysts group by.
    """

    def __init__(self, field: str, reason: str, category: str = "invalid") -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.category = category


class Undecodable(SluiceError):
    """The bytes of a record are not what its topic carries; ``field`` and ``reason`` as in :class:`Refused`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class RuleError(SluiceError):
    """The operator's fault: a rule file or setting says something that cannot be followed."""
