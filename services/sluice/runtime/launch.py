"""Becomes the command it is given, after asking the kernel to kill it when the supervisor dies.

Run by path as ``python -I -S launch.py SUPERVISOR_PID COMMAND …``: it stands alone, so that a start costs milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2); survives execve of a program without privileges of its own."""

if __name__ == "__main__":
    supervisor, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The supervisor may have died before the request was made.
    if os.getppid() == int(supervisor):
        try:
            os.execvp(command[0], command)  # noqa: S606 -- the supervisor's own command line
        except OSError as error:
            sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
            sys.exit(127)
