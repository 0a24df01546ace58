"""What ends by itself: certificates, and DKIM keys by their age, told in time."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.support.figures import by_labels
from typer.testing import CliRunner

from sluice.adapters.dkim.ages import key_ages
from sluice.adapters.dkim.generate import generate_keys
from sluice.adapters.system.certificates import valid_until
from sluice.commands.root import app
from sluice.domain.errors import RuleError
from sluice.domain.reference import SigningKey
from sluice.domain.rotation import DAY, KeyAge, first_due, named_time
from sluice.runtime.renewals import Certificates, DkimKeys, look_again

NOW = datetime(2026, 11, 23, tzinfo=UTC).timestamp()


def certificate(ends_in_days: float, now: float = NOW) -> bytes:
    """A self-signed one, in PEM."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca.example")])
    end = datetime.fromtimestamp(now, UTC) + timedelta(days=ends_in_days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=3650))
        .not_valid_after(end)
    )
    return made.sign(key, None).public_bytes(Encoding.PEM)


def bundle(path: Path, *ends_in_days: float, now: float = NOW) -> Path:
    """A file of certificates."""
    path.write_bytes(b"".join(certificate(days, now) for days in ends_in_days))
    return path


@pytest.mark.parametrize(
    ("ends", "first"),
    [((40,), 40), ((400, 40), 40), ((40, -5), 40), ((-5, -50), -5)],
    ids=["one", "the first of two", "one was left behind", "all are over"],
)
def test_of_a_file_the_first_certificate_to_end_counts(tmp_path: Path, ends: tuple[float, ...], first: float) -> None:
    assert valid_until(bundle(tmp_path / "ca.pem", *ends), NOW) == NOW + first * DAY


def test_of_a_chain_that_we_present_each_certificate_is_needed(tmp_path: Path) -> None:
    assert valid_until(bundle(tmp_path / "chain.pem", -5, 400), NOW, all_needed=True) == NOW - 5 * DAY


def test_a_folder_of_certificates_is_read_too(tmp_path: Path) -> None:
    bundle(tmp_path / "a.pem", 40)
    bundle(tmp_path / "b.pem", 30)
    (tmp_path / "README").write_text("no certificate")
    assert valid_until(tmp_path, NOW) == NOW + 30 * DAY


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(RuleError, match=r"ca\.pem"):
        valid_until(path, NOW)


def test_what_is_left_is_told_by_use_and_shrinks_without_another_look(tmp_path: Path) -> None:
    clock = [NOW]
    teller = Certificates({"kafka_ca": bundle(tmp_path / "ca.pem", 40)}, lambda: clock[0])
    assert list(teller.figures()) == []
    teller.look()
    assert by_labels(teller.figures(), "sluice.certificate.expires") == {("kafka_ca",): 40 * DAY}
    clock[0] += 41 * DAY
    assert by_labels(teller.figures(), "sluice.certificate.expires") == {("kafka_ca",): -DAY}
    bundle(tmp_path / "ca.pem", 400)
    teller.look()
    assert by_labels(teller.figures(), "sluice.certificate.expires") == {("kafka_ca",): 359 * DAY}
    (tmp_path / "ca.pem").write_text("half written")
    teller.look()
    assert by_labels(teller.figures(), "sluice.certificate.expires") == {("kafka_ca",): 359 * DAY}


@pytest.mark.parametrize(
    ("selector", "made"),
    [
        ("s202611-rsa", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("mail20260301", datetime(2026, 3, 1, tzinfo=UTC)),
        ("s20260231", None),
        ("s1", None),
        ("s202613", None),
        ("k1202611", None),
        ("1999-05", None),
    ],
)
def test_a_selector_may_say_when_its_key_was_made(selector: str, made: datetime | None) -> None:
    assert named_time(selector) == (made and made.timestamp())


def test_else_its_file_does(tmp_path: Path) -> None:
    generate_keys(tmp_path, "acme.example", rsa_selector="s1", ed25519_selector="s202601-ed")
    for name in ("s1", "s202601-ed"):
        os.utime(tmp_path / f"acme.example/{name}.pem", (NOW, NOW))
    named, plain, none = (SigningKey("acme.example", selector) for selector in ("s202601-ed", "s1", "gone"))
    found = key_ages(tmp_path, [named, plain, named, none, SigningKey("..", "x")])
    assert found[:3] == [
        KeyAge(named, datetime(2026, 1, 1, tzinfo=UTC).timestamp()),
        KeyAge(plain, NOW),
        KeyAge(none, None),
    ]
    assert found[3].made_at is None


def test_keys_are_told_by_state_and_the_oldest_by_when_it_is_due(tmp_path: Path) -> None:
    clock = [NOW]
    keys: list[SigningKey] = []
    teller = DkimKeys(tmp_path, lambda: keys, 180, lambda: clock[0])
    assert list(teller.figures()) == []
    teller.look()
    assert by_labels(teller.figures(), "sluice.dkim.key.due") == {}
    generate_keys(tmp_path, "acme.example", rsa_selector="s202601", ed25519_selector="s202610")
    keys += [SigningKey("acme.example", selector) for selector in ("s202601", "s202610", "gone")]
    teller.look()
    told = by_labels(teller.figures(), "sluice.dkim.keys")
    assert told == {("fresh",): 1, ("due",): 1, ("missing",): 1}
    due = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + 180 * DAY - NOW
    assert by_labels(teller.figures(), "sluice.dkim.key.due") == {(): due}
    clock[0] += 180 * DAY
    assert by_labels(teller.figures(), "sluice.dkim.keys")["due",] == 2


def test_who_never_replaces_keys_is_not_told_of_their_age() -> None:
    old = KeyAge(SigningKey("acme.example", "s1"), 0.0)
    assert old.state(NOW, 0) == "fresh"
    assert first_due([old], 0) is None


async def test_who_looks_goes_on_after_a_look_that_failed() -> None:
    looked = asyncio.Event()

    class Looker:
        times = 0

        def look(self) -> None:
            self.times += 1
            if self.times == 1:
                raise PermissionError("a folder")
            loop.call_soon_threadsafe(looked.set)

    loop = asyncio.get_running_loop()
    looking = asyncio.create_task(look_again(Looker(), 0.0))
    await asyncio.wait_for(looked.wait(), 30)
    looking.cancel()


@pytest.mark.parametrize(("days", "state"), [(300, "ok"), (10, "warn"), (-2, "fail")])
def test_the_doctor_says_until_when_certificates_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, state: str
) -> None:
    path = bundle(tmp_path / "ca.pem", days, now=datetime.now(UTC).timestamp())
    monkeypatch.setenv("SLUICE_CLICKHOUSE_SSL_CAFILE", str(path))
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("SLUICE_ROUTES", "*=smtp://127.0.0.1:1")
    done = CliRunner().invoke(app, ["doctor", "--json", "--domain", "nothing.invalid"])
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert found["clickhouse_ca"]["state"] == state
    assert "ca.pem" in found["clickhouse_ca"]["detail"]
    assert "kafka_ca" not in found
