"""How much of the processors is in use."""

from typing import Protocol


class Load(Protocol):
    """Asked now and then by one who can leave work for later."""

    def busy(self) -> float:
        """The share, 0.0 to 1.0, of the processor time there was since the last call that somebody used.

        Of the machine, or of what this process's container may have, whichever is nearer to its end.
        """
        ...
