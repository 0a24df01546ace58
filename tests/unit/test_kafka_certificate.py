"""A certificate for Kafka that would not do is told at the start, and by the doctor, with what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from sluice.commands.doctor_kafka import look_at_kafka
from sluice.domain.errors import RuleError
from sluice.runtime.config import Settings, load_settings
from sluice.runtime.kafka_certificate import client_certificate
from sluice.runtime.kafka_options import kafka_options

NOW = datetime.now(UTC)
AUTHORITY = trustme.CA()


def files(folder: Path, name: str, **given: Any) -> dict[str, Any]:
    """Settings of a certificate, newly issued."""
    leaf = AUTHORITY.issue_cert("127.0.0.1", common_name=name, **given)
    leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
    leaf.private_key_pem.write_to_path(folder / f"{name}.key")
    return {
        "kafka_security_protocol": "SSL",
        "kafka_ssl_certfile": folder / f"{name}.crt",
        "kafka_ssl_keyfile": folder / f"{name}.key",
    }


def settings(**given: Any) -> Settings:
    return load_settings(kafka_bootstrap="127.0.0.1:1", **given)


def test_a_certificate_and_its_key_are_given_to_the_client(tmp_path: Path) -> None:
    given = settings(**files(tmp_path, "good"))
    found = client_certificate(given)
    assert found is not None
    assert "CN=good" in found.subject
    options = kafka_options(given)
    assert options["ssl.certificate.location"] == str(tmp_path / "good.crt")
    assert options["ssl.key.location"] == str(tmp_path / "good.key")
    assert "ssl.key.password" not in options


def test_what_is_wrong_with_a_certificate_is_told(tmp_path: Path) -> None:
    good, other = files(tmp_path, "good"), files(tmp_path, "other")
    with pytest.raises(
        RuleError, match=r"KEYFILE: .*other\.key is not the key of the first certificate in .*good\.crt"
    ):
        kafka_options(settings(**{**good, "kafka_ssl_keyfile": other["kafka_ssl_keyfile"]}))
    old = files(tmp_path, "old", not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1))
    with pytest.raises(RuleError, match=r"CERTFILE: .*old\.crt expired on 20"):
        kafka_options(settings(**old))
    early = files(tmp_path, "early", not_before=NOW + timedelta(days=1), not_after=NOW + timedelta(days=9))
    with pytest.raises(RuleError, match="is not valid before 20"):
        kafka_options(settings(**early))
    with pytest.raises(RuleError, match=r"CERTFILE: .*good\.key: "):
        kafka_options(settings(**{**good, "kafka_ssl_certfile": good["kafka_ssl_keyfile"]}))
    with pytest.raises(RuleError, match="is SLUICE_KAFKA_SSL_KEY_PASSWORD right"):
        kafka_options(settings(**good, kafka_ssl_key_password="needless"))


def test_settings_that_are_not_whole_are_told(tmp_path: Path) -> None:
    good = files(tmp_path, "good")
    with pytest.raises(RuleError, match=r"KEYFILE.*does not exist"):
        settings(**{**good, "kafka_ssl_keyfile": tmp_path / "missing.key"})
    with pytest.raises(RuleError, match="need each other"):
        settings(**{**good, "kafka_ssl_keyfile": None})
    with pytest.raises(RuleError, match="needs kafka_security_protocol SSL"):
        settings(**{**good, "kafka_security_protocol": "PLAINTEXT"})
    token = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER"}
    with pytest.raises(RuleError, match="needs kafka_oauth_token_url, _client_id and _client_secret"):
        settings(**token, kafka_oauth_client_id="sluice")
    with pytest.raises(RuleError, match="KAFKA_OAUTH_TOKEN_URL"):
        settings(**token, kafka_oauth_token_url="id.example/token")


@pytest.mark.parametrize(("days", "state"), [(300, "ok"), (5, "warn"), (-1, "fail")])
def test_the_doctor_tells_how_long_a_certificate_is_valid(tmp_path: Path, days: int, state: str) -> None:
    """Before it looks at Kafka, which would not answer."""
    begin, end = NOW - timedelta(days=9), NOW + timedelta(days=days)
    found = next(look_at_kafka(settings(**files(tmp_path, "one", not_before=begin, not_after=end))))
    assert (found.check, found.state) == ("Kafka certificate", state)
    assert end.strftime("%Y-%m-%d") in found.detail
