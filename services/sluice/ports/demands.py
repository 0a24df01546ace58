"""Where deliver workers say what they want of limits they share: one log that all read in the same order."""

from typing import Protocol

from sluice.domain.sharing import Report


class Demands(Protocol):
    """The log, seen by one worker."""

    def say(self, report: Report) -> None:
        """Append a report. Does not wait, and does not tell: whoever is not heard loses its shares."""
        ...

    def heard(self) -> list[tuple[Report, float]]:
        """What has been read since the last call, one's own included: report, and when the log took it, in seconds.

        The time is the log's own, the same for every reader.
        """
        ...
