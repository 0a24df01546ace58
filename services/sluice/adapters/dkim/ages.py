"""How old keys are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sluice.domain.addresses import domain_to_ascii
from sluice.domain.reference import SigningKey
from sluice.domain.rotation import KeyAge, named_time


def key_ages(folder: Path, keys: Iterable[SigningKey]) -> list[KeyAge]:
    """Of each key once: by its selector where that says when, else by its file. Files are not opened."""
    return [KeyAge(key, _made_at(folder, key)) for key in dict.fromkeys(keys)]


def _made_at(folder: Path, key: SigningKey) -> float | None:
    domain, problem = domain_to_ascii(key.domain)
    path = folder / domain / f"{key.selector}.pem"
    if problem or not os.access(path, os.R_OK):
        return None
    # A file that Kubernetes mounts is as old as its pod.
    named = named_time(key.selector)
    return path.stat().st_mtime if named is None else named
