"""Until when the certificates of a file are valid."""

from __future__ import annotations

from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates

from sluice.domain.errors import RuleError


def valid_until(path: Path, now: float, *, all_needed: bool = False) -> float:
    """When the first certificate of a PEM file, or of a folder of them, ends: seconds since the epoch.

    Those that have ended at ``now`` count only when all have, as in a bundle of authorities there often is one that was
    left behind; unless ``all_needed``, as of a chain. Raises :class:`RuleError` without one that can be read.
    """
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    ends: list[float] = []
    for file in files:
        try:
            found = load_pem_x509_certificates(file.read_bytes())
        except OSError as error:
            raise RuleError(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            if path.is_dir():
                continue
            raise RuleError(f"{file} has no certificate in PEM: {error}") from error
        ends += [one.not_valid_after_utc.timestamp() for one in found]
    if not ends:
        raise RuleError(f"{path} has no certificate in PEM")
    return min(ends) if all_needed else min((end for end in ends if end > now), default=max(ends))
