"""``python -m sluice.compose``: the same as ``sluice run compose``."""

import sys

from sluice.compose.agent import open_compose
from sluice.runtime.lifecycle import run_service

if __name__ == "__main__":
    sys.exit(run_service("compose", open_compose))
