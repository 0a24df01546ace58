"""``python -m sluice.record``: the same as ``sluice run record``."""

import sys

from sluice.record.agent import open_record
from sluice.runtime.lifecycle import run_service

if __name__ == "__main__":
    sys.exit(run_service("record", open_record))
