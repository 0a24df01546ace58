"""Content encodings of ClickHouse's HTTP interface: gzip, deflate, zstd and lz4 frames, in pieces."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame  # type: ignore[import-untyped]

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
except ImportError:
    from backports import zstd


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": lambda: zlib.decompressobj(15),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}
ENCODINGS = ("lz4", "zstd", "gzip", "deflate")
"""What a response can be encoded in, cheapest first."""


class UnknownEncoding(Exception):
    """The client's fault: a Content-Encoding that is not served."""


class Decoder:
    """Undoes a Content-Encoding piece by piece; bodies may consist of several frames one after the other."""

    def __init__(self, encoding: str) -> None:
        self._make = _DECODERS.get(encoding)
        if self._make is None and encoding not in ("", "identity"):
            raise UnknownEncoding(f"Content-Encoding {encoding} is not served; use {', '.join(ENCODINGS)} or none")
        self._current: Any = None

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes so far available. Raises :class:`ValueError` for what is not of the encoding."""
        if self._make is None:
            return data
        out: list[bytes] = []
        try:
            while data:
                if self._current is None:
                    self._current = self._make()
                out.append(self._current.decompress(data))
                data = b""
                if self._current.eof:
                    data = self._current.unused_data or b""
                    self._current = None
        except (zlib.error, RuntimeError, zstd.ZstdError, EOFError) as error:
            raise ValueError(f"the body is not of its Content-Encoding: {error}") from error
        return b"".join(out)


class Encoder:
    """Applies a Content-Encoding piece by piece."""

    def __init__(self, encoding: str) -> None:
        self._lz4: Any = None
        self._other: Any = None
        self._begun = False
        if encoding == "lz4":
            self._lz4 = lz4.frame.LZ4FrameCompressor()
        elif encoding == "zstd":
            self._other = zstd.ZstdCompressor(level=1)
        else:
            self._other = zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)

    def feed(self, data: bytes) -> bytes:
        """Encoded bytes, possibly none yet."""
        if self._lz4 is None:
            return bytes(self._other.compress(data))
        head = b"" if self._begun else self._lz4.begin()
        self._begun = True
        return bytes(head + self._lz4.compress(data))

    def finish(self) -> bytes:
        """What is left."""
        if self._lz4 is None:
            return bytes(self._other.flush())
        head = b"" if self._begun else self._lz4.begin()
        return bytes(head + self._lz4.flush())


def choose_encoding(accept: str, *, enabled: bool) -> str | None:
    """The encoding to answer in: the cheapest that the client takes, if it asked for compression at all."""
    if not enabled:
        return None
    wanted = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    return next((name for name in ENCODINGS if name in wanted), None)
