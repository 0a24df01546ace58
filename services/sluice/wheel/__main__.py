"""``python -m sluice.wheel``: the same as ``sluice run wheel``."""

import sys

from sluice.runtime.lifecycle import run_service
from sluice.wheel.agent import open_wheel

if __name__ == "__main__":
    sys.exit(run_service("wheel", open_wheel))
