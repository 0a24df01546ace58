"""Whether this machine has the addresses that mail is to leave from."""

from __future__ import annotations

import socket
from collections.abc import Iterable


def not_ours(addresses: Iterable[str]) -> list[str]:
    """Those of ``addresses`` (IPv4 or IPv6, as text) that no connection could be made from here."""
    return [address for address in addresses if not _is_ours(address)]


def _is_ours(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
