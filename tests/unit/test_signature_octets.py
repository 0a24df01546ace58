"""A signature has, octet for octet, the value that dkimpy gives the same field of the same message."""

import re
from pathlib import Path
from unittest.mock import patch

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from dkim.canonicalization import CanonicalizationPolicy
from dkim.crypto import HASH_ALGORITHMS, parse_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey as NaclKey

from sluice.adapters.dkim.generate import GeneratedKey, generate_keys
from sluice.adapters.dkim.signer import DkimSigner

Kit = tuple[DkimSigner, list[GeneratedKey]]
POLICY = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = Path(tmp_path_factory.mktemp("keys"))
    return DkimSigner(folder), generate_keys(folder, "shop.example", rsa_selector="r1", ed25519_selector="e1")


def by_dkimpy(content: bytes, tags: list[tuple[bytes, bytes]], key: GeneratedKey) -> tuple[bytes, bytes]:
    """The values of ``bh`` and ``b`` that dkimpy comes to for a field with these tags, in this order."""
    private = load_pem_private_key(key.path.read_bytes(), None)
    signing = dkim.DKIM(content)
    given_tags = dict(tags)
    signing.signature_algorithm = given_tags[b"a"]
    signing.hasher = HASH_ALGORITHMS[given_tags[b"a"]]
    hashed = signing.hasher()
    hashed.update(POLICY.canonicalize_body(signing.body))
    body_hash = dkim.base64.b64encode(hashed.digest())
    if isinstance(private, RSAPrivateKey):
        der = private.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        secret = parse_private_key(der)
    else:
        assert isinstance(private, Ed25519PrivateKey)
        secret = NaclKey(private.private_bytes_raw())
    names = tuple(re.sub(rb"\s", b"", given_tags[b"h"]).split(b":"))
    fields = [(name, body_hash if name == b"bh" else b"" if name == b"b" else value) for name, value in tags]
    # Where dkimpy would fold the field is its own affair, as it is ours.
    with patch.object(dkim, "fold", lambda header, **_: header):
        written = signing.gen_header(fields, names, POLICY, b"DKIM-Signature", secret)
    return body_hash, re.search(rb"; b=([^;]*)\r\n\Z", written)[1]


def tags_of(field: bytes) -> list[tuple[bytes, bytes]]:
    """The tags of a signature field as relaxed canonicalisation leaves them."""
    value = re.sub(rb"[ \t]+", b" ", field.partition(b":")[2].replace(b"\r\n", b"")).strip()
    return [tuple(tag.strip().split(b"=", 1)) for tag in value.split(b";")]  # type: ignore[misc]


lines = st.lists(
    st.sampled_from([b" ", b"\t", b"  ", b"a", b"word", b".", b"=", "é".encode(), b"\xff", b"x" * 90, b"\r\n"]),
    max_size=30,
).map(b"".join)
values = st.text("ab1: \t;<>@.=?é", max_size=60).map(lambda text: b"x" + text.encode().rstrip())
fields = st.lists(
    st.tuples(st.sampled_from([b"Subject", b"CC", b"To", b"X-Other", b"Reply-To", b"list-id", b"References"]), values),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(fields, lines)
def test_signatures_are_octet_for_octet_dkimpys(kit: Kit, extra: list[tuple[bytes, bytes]], body: bytes) -> None:
    signer, keys = kit
    head = [b"From: a@shop.example", *(name + b": " + value.replace(b"; ", b";\r\n ") for name, value in extra)]
    content = b"\r\n".join([*head, b"", body if body.endswith(b"\r\n") or not body else body + b"\r\n"])
    for key in keys:
        whole = signer.sign(content, [key.key], now=1_700_000_000.0)
        assert whole.endswith(content)
        tags = tags_of(whole[: -len(content)])
        ours = {name: value.replace(b" ", b"") for name, value in tags}
        assert (ours[b"bh"], ours[b"b"]) == by_dkimpy(content, tags, key)
