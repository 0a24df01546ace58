"""The signer that holds keys from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sluice.adapters.dkim.keys import KeyFolder
from sluice.domain.reference import SigningKey
from sluice.domain.signing import digest, signature_field


class DkimSigner:
    """Signs with keys at ``folder/domain/selector.pem``. Implements :class:`sluice.ports.signer.Signer`.

    ``valid_for`` is how many seconds a signature counts (``x=``); None, the default, is for ever, as most senders do:
    a mail may wait for days and is checked again when it is forwarded.
    """

    def __init__(self, folder: Path, *, valid_for: float | None = None) -> None:
        self._keys = KeyFolder(folder)
        self._valid_for = valid_for

    def sign(self, content: bytes, keys: Sequence[SigningKey], *, now: float) -> bytes:
        """See :meth:`sluice.ports.signer.Signer.sign`. The content is hashed once for all keys."""
        if not keys:
            return content
        loaded = [self._keys.get(key) for key in keys]
        hashed = digest(content)
        expires_at = None if self._valid_for is None else now + self._valid_for
        signatures = [
            signature_field(
                hashed,
                algorithm=key.algorithm,
                domain=key.domain,
                selector=key.selector,
                sign=key.sign,
                now=now,
                expires_at=expires_at,
            )
            for key in loaded
        ]
        return b"".join([*signatures, content])
