"""The ``sluice`` command's entry point."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage or settings."""
    try:
        from sluice.commands.root import app
    except ModuleNotFoundError as error:
        # The SDK installs without what the command is built on.
        if (error.name or "").startswith("sluice"):
            raise
        sys.exit(f"sluice: the package {error.name} is not installed: pip install 'sluice-mail[worker]'")
    app()


if __name__ == "__main__":
    main()
