"""TCP ports on the loopback address."""

import socket

from sluice.domain.errors import SluiceError

LOOPBACK = "127.0.0.1"


class PortTaken(SluiceError):
    """Another program listens where an embedded part wants to; ``port`` and ``what`` say which."""

    def __init__(self, port: int, what: str) -> None:
        super().__init__(
            f"port {port} on {LOOPBACK}, wanted for {what}, is taken by another program. "
            f"Stop that program (`ss -ltnp 'sport = :{port}'` names it), or give {what} another port."
        )
        self.port = port
        self.what = what


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on at this moment. It is not kept: take it soon."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def ensure_free(port: int, what: str) -> None:
    """Raise :class:`PortTaken` when something listens on ``port``; ``what`` names who wants it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # Connections of a run that just ended linger in TIME_WAIT; the servers started here reuse such a port too.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
            listener.listen(1)
        except OSError as error:
            raise PortTaken(port, what) from error
