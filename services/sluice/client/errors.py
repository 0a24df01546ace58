"""Errors of publishing that are not the producer's fault."""

from sluice.domain.errors import SluiceError


class NotPublished(SluiceError):
    """The log did not acknowledge an event.

    The cluster is at fault, or the way to it. ``certain`` says that it was surely not stored; otherwise it may have
    been, and only an ``idempotency_key`` makes it safe to publish again.
    """

    def __init__(self, reason: str, *, certain: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.certain = certain
