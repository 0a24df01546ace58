"""When a service that looks alive is not."""

import time


def stalled(unfinished: int, moved_at: float, limit: float) -> str:
    """Why the service is taken for stalled, or an empty string.

    Faust workers can stop moving without failing (faust-streaming/faust#175, #523): work is unfinished and nothing was
    finished since ``moved_at`` (monotonic seconds) for longer than ``limit``.
    """
    still = time.monotonic() - moved_at
    if unfinished and still > limit:
        return f"{unfinished} records unfinished and none finished for {still:.0f} s"
    return ""
