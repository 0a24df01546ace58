"""Which spans are exported: nothing that a producer does not want, all that failed, and a share of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

ERROR = "error.type"
FOLLOWS = "sluice.follows"
"""Attribute of a span that is exported because of another one that was: which."""
USUAL_SHARE = 0.01
"""Of the traces that their producers want recorded; attempts that fail are told whatever the share."""
FAILURES_IN_FULL = 20
"""Failed attempts in a second that are told with what followed and with their parts, outside the share."""
_LENGTH = 55
"""Of a ``traceparent`` of version 00: version, trace id, span id, flags."""


class FailuresAndAShare(Sampler):
    """Parent-based: nothing that the producer does not want, all that failed, and of the rest a share by trace id.

    What belongs to an exported span of the same process goes with it.
    """

    def __init__(self, share: float = USUAL_SHARE) -> None:
        self._share = TraceIdRatioBased(share)

    def should_sample(
        self, parent_context: Context | None, trace_id: int, name: str, kind: SpanKind | None = None,
        attributes: Attributes = None, links: Sequence[Link] | None = None, trace_state: TraceState | None = None,
    ) -> SamplingResult:  # fmt: skip
        """See :class:`Sampler`."""
        above = get_current_span(parent_context)
        parent = above.get_span_context()
        if parent.is_valid and not parent.trace_flags.sampled:
            return SamplingResult(Decision.DROP, None, parent.trace_state)
        if above.is_recording() or (attributes and (ERROR in attributes or FOLLOWS in attributes)):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, parent.trace_state)
        return self._share.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def leaves(self, traceparent: str) -> bool:
        """Whether a span that did not fail would be dropped: as :meth:`should_sample`, and forty times as fast."""
        if len(traceparent) != _LENGTH:
            return False
        try:
            wanted, number = int(traceparent[53:], 16) & 1, int(traceparent[19:35], 16)
        except ValueError:
            return False
        return not wanted or number >= self._share.bound

    def get_description(self) -> str:
        """What it is called."""
        return f"FailuresAndAShare{{{self._share.rate}}}"


class Ration:
    """So many in a second: when everything fails, telling all of it at length would cost more than the work."""

    def __init__(self, a_second: int = FAILURES_IN_FULL) -> None:
        self._most = a_second
        self._second = 0
        self._taken = 0

    def take(self, now: float) -> bool:
        """Whether there is one more in the second of ``now``, seconds since the epoch."""
        if int(now) != self._second:
            self._second, self._taken = int(now), 0
        self._taken += 1
        return self._taken <= self._most
