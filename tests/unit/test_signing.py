"""Canonical forms and signatures, with dkimpy as the second opinion."""

import base64
import hashlib
import re
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dkim.canonicalization import Relaxed
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.adapters.dkim.generate import GeneratedKey, generate_keys
from sluice.adapters.dkim.signer import DkimSigner
from sluice.domain.errors import Refused
from sluice.domain.reference import SigningKey
from sluice.domain.signing import digest, relaxed_body, relaxed_field
from sluice.ports.signer import SigningKeyMissing

NOW = 1_700_000_000.0

Kit = tuple[DkimSigner, list[GeneratedKey], Path]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("keys")
    made = generate_keys(folder, "shop.example", rsa_selector="r1", ed25519_selector="e1")
    return DkimSigner(folder), made, folder


def signed(kit: Kit, content: bytes) -> bytes:
    signer, made, _ = kit
    return signer.sign(content, [each.key for each in made], now=NOW)


def verify(kit: Kit, content: bytes) -> list[bool]:
    records = {f"{each.record_name}.".encode(): each.record_value.encode() for each in kit[1]}
    found = []
    for number in range(content.count(b"DKIM-Signature:")):
        try:
            found.append(dkim.DKIM(content).verify(idx=number, dnsfunc=lambda name, timeout=5: records[name]))
        except dkim.ValidationError:
            found.append(False)
    return found


def message(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"From: a@shop.example", b"To: b@x.example", b"Subject: Hi", *fields, b"", body])


octets = st.lists(
    st.sampled_from(
        [b" ", b"\t", b"\r\n", b"  ", b"a", b"word", b".", b"=", "é".encode(), b"\x00", b"\xff", b"x" * 90]
    ),
    max_size=40,
).map(b"".join)


@given(octets)
@example(b"")
@example(b"\r\n\r\n")
@example(b" \r\n\t\r\n")
@example(b"a \t b  \r\n")
@example(b"no final line end")
def test_bodies_are_canonicalised_as_dkimpy_does(body: bytes) -> None:
    # Left to itself dkimpy keeps white space before an end without CRLF, which no mail on the wire has.
    ended = body if body.endswith(b"\r\n") or not body else body + b"\r\n"
    assert relaxed_body(body) == Relaxed.canonicalize_body(ended)


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b"word:", b"=?"])).map(b"".join))
def test_fields_are_canonicalised_as_dkimpy_does(value: bytes) -> None:
    ((name, expected),) = Relaxed.canonicalize_headers([(b"SubJect ", value + b"\r\n")])
    assert relaxed_field(b"SubJect ", value) + b"\r\n" == name + b":" + expected


@pytest.mark.parametrize(
    "content",
    [
        message(b""),
        message(b"\r\n\r\n\r\n"),
        message(b"Hello\r\n"),
        message(b"no final line end"),
        message(b"trailing  \t\r\nspaces \t \r\n\r\n"),
        message(b".\r\n..\r\n" + b"x" * 900 + b"\r\n"),
        message(b"\xe4\xbd\xa0\xff\r\n"),
        message(b"x\r\n", b"Subject: second", b"X-Other: 1"),
        message(b"x\r\n", b"References: <a@b>\r\n <c@d>\r\n\t<e@f>", b"cc:\tC  <c@x.example>  "),
        message(b"x\r\n", b"List-Unsubscribe: <https://x.example/" + b"u" * 300 + b">"),
    ],
)
def test_both_signatures_verify(kit: Kit, content: bytes) -> None:
    whole = signed(kit, content)
    assert whole.endswith(content)
    assert verify(kit, whole) == [True, True]


@given(octets, octets.filter(lambda value: b"\x00" not in value))
def test_signatures_of_any_content_verify(kit: Kit, body: bytes, subject: bytes) -> None:
    folded = re.sub(rb"\r\n", b"\r\n ", subject)
    # A continuation line of white space alone is obsolete syntax (RFC 5322 section 3.2.2), which is never written here.
    folded = re.sub(rb"(?:\r\n[ \t]*)+(?=\r\n|\Z)", b"", folded)
    whole = signed(kit, message(body if body.endswith(b"\r\n") else body + b"\r\n", b"Reply-To: r@x.example" + folded))
    assert verify(kit, whole) == [True, True]


@pytest.mark.parametrize("change", [(b"Hello", b"Hallo"), (b"Subject: Hi", b"Subject: Ho"), (b"From: a@", b"From: b@")])
def test_a_changed_mail_does_not_verify(kit: Kit, change: tuple[bytes, bytes]) -> None:
    whole = signed(kit, message(b"Hello\r\n"))
    assert verify(kit, whole.replace(*change)) == [False, False]


@pytest.mark.parametrize(
    "field", [b"From: evil@x.example", b"Subject: other", b"Cc: x@x.example", b"Content-Type: text/html"]
)
def test_a_field_added_later_breaks_the_signatures(kit: Kit, field: bytes) -> None:
    whole = signed(kit, message(b"Hello\r\n"))
    added = whole.replace(b"From: a@", field + b"\r\nFrom: a@", 1)
    assert verify(kit, added) == [False, False]


def test_the_names_are_folded_between_and_never_within(kit: Kit) -> None:
    whole = signed(kit, message(b"x\r\n", b"List-Unsubscribe-Post: List-Unsubscribe=One-Click", b"List-Id: <a.b>"))
    fields = re.findall(rb"DKIM-Signature: (?:[^\r]|\r\n\t)*", whole)
    assert len(fields) == 2
    for field in fields:
        names = re.search(rb"\bh=([^;]*);", field)
        assert names
        for line in names[1].split(b"\r\n\t"):
            assert re.fullmatch(rb"(?:[a-z-]+:)*[a-z-]+:?", line)
        for name in names[1].replace(b"\r\n\t", b"").split(b":"):
            assert re.fullmatch(rb"[a-z-]+", name)
        assert max(map(len, field.split(b"\r\n"))) <= 78


def test_times_stand_in_the_signature(kit: Kit) -> None:
    _, made, folder = kit
    whole = DkimSigner(folder, valid_for=60).sign(message(b"x\r\n"), [made[1].key], now=NOW + 0.9)
    assert b"t=1700000000; x=1700000060;" in whole
    assert b" x=" not in signed(kit, message(b"x\r\n"))


def test_the_body_is_hashed_as_the_rfc_says() -> None:
    empty = base64.b64encode(hashlib.sha256(b"").digest())
    assert digest(message(b"\r\n")).body_hash == empty


def test_a_message_without_a_sender_is_not_signed() -> None:
    with pytest.raises(Refused):
        digest(b"To: a@x.example\r\n\r\nx")


def test_no_keys_change_nothing(kit: Kit) -> None:
    assert kit[0].sign(b"anything", [], now=NOW) == b"anything"


@pytest.mark.parametrize(
    "key",
    [
        SigningKey("shop.example", "none"),
        SigningKey("../shop.example", "r1"),
        SigningKey("shop.example", "../r1"),
        SigningKey("shop.example", "r1\n"),
    ],
)
def test_a_missing_key_is_named(kit: Kit, key: SigningKey) -> None:
    with pytest.raises(SigningKeyMissing) as missing:
        kit[0].sign(message(b"x"), [key], now=NOW)
    assert missing.value.key == key


def test_a_key_added_later_is_found(kit: Kit, tmp_path: Path) -> None:
    signer, key = DkimSigner(tmp_path), SigningKey("late.example", "s")
    with pytest.raises(SigningKeyMissing):
        signer.sign(message(b"x"), [key], now=NOW)
    generate_keys(tmp_path, "late.example", rsa_selector="s", ed25519_selector="s2")
    assert signer.sign(message(b"x"), [key], now=NOW) != message(b"x")


def test_traditional_rsa_files_are_read_and_short_keys_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.example").mkdir()
    for bits, selector in ((2048, "long"), (1024, "least")):
        pem = generate_private_key(65_537, bits).private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
        (tmp_path / "a.example" / f"{selector}.pem").write_bytes(pem)
        assert DkimSigner(tmp_path).sign(message(b"x"), [SigningKey("a.example", selector)], now=NOW)
    (tmp_path / "a.example" / "junk.pem").write_text("junk")
    with pytest.raises(SigningKeyMissing):
        DkimSigner(tmp_path).sign(message(b"x"), [SigningKey("a.example", "junk")], now=NOW)


def test_keys_are_private_and_never_overwritten(kit: Kit) -> None:
    _, made, folder = kit
    assert [each.path.stat().st_mode & 0o777 for each in made] == [0o600, 0o600]
    with pytest.raises(FileExistsError):
        generate_keys(folder, "shop.example", rsa_selector="r1", ed25519_selector="e2")


def test_records_fit_a_zone_file(kit: Kit) -> None:
    rsa, ed25519 = kit[1]
    assert all(len(text) <= 255 for text in re.findall(r'"([^"]*)"', rsa.zone_line()))
    assert "".join(re.findall(r'"([^"]*)"', rsa.zone_line())) == rsa.record_value
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", ed25519.record_value)
