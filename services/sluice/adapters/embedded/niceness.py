"""Leaving processors to other processes of the same machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
_TRIES = 10
_PAUSE_S = 0.1
"""The kernel takes one change in this time from all who are not root."""


def step_back(niceness: int) -> None:
    """Be nicer by ``niceness`` (0 to 19) to all other processes of the machine.

    Where the kernel shares processors out among sessions first (autogroup, the default of most distributions outside
    containers), nice(2) counts among a session's own processes only, see sched(7). So the session steps back too, if it
    is this process's own.
    """
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        _session_steps_back(niceness)


def _session_steps_back(niceness: int) -> None:
    for _ in range(_TRIES):
        try:
            AUTOGROUP.write_text(f"{niceness}\n")
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        except OSError:  # there are no autogroups here, and nice(2) counts
            return
        else:
            return
