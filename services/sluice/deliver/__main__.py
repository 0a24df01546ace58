"""``python -m sluice.deliver``: the same as ``sluice run deliver``."""

import sys

from sluice.deliver.agent import open_deliver
from sluice.runtime.lifecycle import run_service

if __name__ == "__main__":
    sys.exit(run_service("deliver", open_deliver))
