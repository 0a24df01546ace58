"""A process that steps back does so for other sessions as well, and only with a session of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sluice.adapters.embedded.niceness import AUTOGROUP

STEPS_BACK = """
import os
from sluice.adapters.embedded.niceness import AUTOGROUP, step_back
before = AUTOGROUP.read_text() if AUTOGROUP.exists() else ""
nice = os.nice(0)
step_back(7)
after = AUTOGROUP.read_text() if AUTOGROUP.exists() else ""
print(os.nice(0) - nice, before.split()[-1:], after.split()[-1:])
"""


def _stepped_back(*, own_session: bool) -> str:
    command = [sys.executable, "-c", STEPS_BACK]
    return subprocess.run(command, start_new_session=own_session, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not share processors out among sessions")
def test_a_session_of_its_own_steps_back_among_sessions() -> None:
    assert _stepped_back(own_session=True) == "7 ['0'] ['7']\n"


def test_a_session_of_others_stays_as_it_is() -> None:
    niceness, before, after = _stepped_back(own_session=False).split()
    assert (niceness, before) == ("7", after)
