"""What a processor takes for what mail is made of: ``python benchmarks/processor.py``.

Two machines of one name may be far apart: one signs by vector code, another has neighbours that use up the cache they
share. Takes two seconds; every file of results has these figures.
"""

from __future__ import annotations

import mmap
import time
from array import array
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

ROUNDS = 3
SIGNATURES = 150
READS = 200_000
NEAR, FAR = 2**10, 2**23
"""Numbers of eight octets to read from: 8 KiB, which the first cache holds, and 64 MiB, which no cache does."""
PAGES = 5_000


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Medians. ``far_read_ns`` is what reading from 64 MiB at random takes longer than from 8 KiB."""

    signature_us: float
    far_read_ns: float
    new_page_us: float

    def __str__(self) -> str:
        """For people."""
        return (
            f"an RSA-2048 signature takes {self.signature_us:,.0f} µs, "
            f"a read past all caches {self.far_read_ns:.0f} ns, a new page of memory {self.new_page_us:.1f} µs"
        )


def pace() -> Pace:
    """Measure, on one core."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    near, far = (array("q", [0]) * size for size in (NEAR, FAR))
    return Pace(
        signature_us=round(_each(lambda: _sign(key), SIGNATURES) * 1e6, 1),
        far_read_ns=round((_each(lambda: _read(far), READS) - _each(lambda: _read(near), READS)) * 1e9, 1),
        new_page_us=round(_each(_touch, PAGES) * 1e6, 2),
    )


def _each(work: Callable[[], None], times: int) -> float:
    """CPU seconds of one of ``times`` that ``work`` does."""
    work()
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        took.append((time.process_time() - began) / times)
    return sorted(took)[ROUNDS // 2]


def _sign(key: rsa.RSAPrivateKey) -> None:
    for _ in range(SIGNATURES):
        key.sign(b"mail", PKCS1v15(), SHA256())


def _read(numbers: array[int]) -> None:
    # Each place follows from what stands at the one before, so that no read begins before the last ended.
    last, place = len(numbers) - 1, 0
    for _ in range(READS):
        place = (place * 1_664_525 + 1_013_904_223 + numbers[place]) & last


def _touch() -> None:
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE) as memory:
        for page in range(PAGES):
            memory[page * mmap.PAGESIZE] = 1


if __name__ == "__main__":
    print(pace())
