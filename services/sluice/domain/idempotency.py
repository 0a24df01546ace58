"""Idempotency keys: where a key is guarded."""

from __future__ import annotations

import hashlib


def guard_partition(tenant_id: str, idempotency_key: str, partitions: int) -> int:
    """The partition of ``mail.send.*`` that guards a tenant's idempotency key.

    Every event with the key must come to this partition, so that one worker sees them all. Raises
    :class:`ValueError` when ``partitions`` is not positive.
    """
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    text = f"{tenant_id}\x1f{idempotency_key}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % partitions
