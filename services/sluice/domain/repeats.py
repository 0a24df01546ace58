"""Idempotency keys that were seen: is an event new, itself again, a repeat, or a conflict?"""

from __future__ import annotations

import hashlib
import struct
from typing import Literal

import msgspec

from sluice.domain.errors import NOT_DECODED, Undecodable

Judgement = Literal["new", "same_event", "repeat", "conflict"]


class Seen(msgspec.Struct, frozen=True):
    """What is kept of a key: the event's id, a digest of its body, and when it was seen (seconds since the epoch)."""

    message_id: str
    digest: str
    at: float


class SeenKeys:
    """The keys that one partition guards, for ``window`` seconds, at most ``limit`` of them; oldest go first."""

    def __init__(self, window: float, limit: int) -> None:
        self._window = window
        self._limit = limit
        # One bytes object per key, for memory: time and digest (16 bytes), then the message id.
        self._seen: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def judge(self, key: bytes, message_id: str, digest: str, now: float) -> tuple[Judgement, str | None]:
        """What an event with this key is, and the id of the event that had the key before.

        ``same_event`` is the event itself read again (after a crash, or a producer's own retry): go on with it, what
        follows is recognised further on.
        """
        packed = self._seen.get(key)
        if packed is None:
            return "new", None
        at, known, earlier = _unpack(packed)
        if at + self._window <= now:
            return "new", None
        if known != _short(digest):
            return "conflict", earlier
        return ("same_event" if earlier == message_id else "repeat"), earlier

    def add(self, key: bytes, seen: Seen) -> None:
        """Remember a key."""
        self._seen.pop(key, None)
        self._seen[key] = _HEAD.pack(seen.at, _short(seen.digest)) + seen.message_id.encode()
        while len(self._seen) > self._limit or self._oldest_at() + self._window < seen.at:
            del self._seen[next(iter(self._seen))]

    def _oldest_at(self) -> float:
        return float(_HEAD.unpack_from(next(iter(self._seen.values())))[0])


_HEAD = struct.Struct(">d8s")


def _unpack(packed: bytes) -> tuple[float, bytes, str]:
    at, digest = _HEAD.unpack_from(packed)
    return at, digest, packed[_HEAD.size :].decode()


def seen_key(tenant_id: str, idempotency_key: str) -> bytes:
    """The key's own short name, in memory and in ``mail.idempotency``: 16 bytes."""
    return hashlib.blake2b(f"{tenant_id}\x1f{idempotency_key}".encode(), digest_size=16).digest()


def body_digest(value: bytes) -> str:
    """A digest of what an event asks for: its JSON without ``message_id``, whatever the order of its fields.

    Two requests that differ only in the id a producer made up are the same request.
    """
    body = msgspec.json.decode(value)
    if isinstance(body, dict):
        body.pop("message_id", None)
    return hashlib.blake2b(msgspec.json.encode(body, order="sorted"), digest_size=16).hexdigest()


def _short(digest: str) -> bytes:
    return bytes.fromhex(digest)[:8]


_decoder = msgspec.json.Decoder(Seen)


def encode_seen(seen: Seen) -> bytes:
    """A key's record in ``mail.idempotency``."""
    return msgspec.json.encode(seen)


def decode_seen(value: bytes) -> Seen:
    """From a record of ``mail.idempotency``; raises :class:`Undecodable`."""
    try:
        seen = _decoder.decode(value)
        bytes.fromhex(seen.digest)
    except (*NOT_DECODED, ValueError) as error:
        raise Undecodable("value", str(error)) from error
    return seen
