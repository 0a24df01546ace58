"""What is told of a TLS session, and in which of RFC 8460's words."""

from __future__ import annotations

import pytest

from sluice.domain.dane import DaneFailed, DaneHost, Tlsa
from sluice.domain.mta_sts import StsFailure, StsPolicy
from sluice.domain.smtp import Broken, Replied, Tls
from sluice.domain.tls_policy import Protection, guard
from sluice.domain.tls_sessions import (
    MOST_PATTERNS,
    Place,
    TlsSession,
    result_of,
    session_opened,
    session_refused,
    unresolved,
)

HERE = Place("mx.a.example", "198.51.100.2", "192.0.2.1")
NONE = Protection("a.example")
STS = Protection("a.example", StsPolicy("testing", 86_400, ("*.a.example",)))
KEY = Tlsa(3, 1, 1, b"\x01" * 32)
DANE = Protection("a.example", STS.sts, {"mx.a.example": DaneHost("mx.a.example", (KEY,), ()), "two.a.example": None})
GOOD = Tls("opportunistic", "TLSv1.3", "TLS_AES_256_GCM_SHA384")


@pytest.mark.parametrize(
    ("detail", "result"),
    [
        ("the server offers no STARTTLS", "starttls-not-supported"),
        ("mta_sts: the server offers no STARTTLS", "starttls-not-supported"),
        ("mta_sts: 454 TLS not available", "starttls-not-supported"),
        (
            "mta_sts: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch (_ssl.c:1006)",
            "certificate-host-mismatch",
        ),
        ("certificate verify failed: certificate has expired (_ssl.c:1006)", "certificate-expired"),
        ("certificate verify failed: self-signed certificate (_ssl.c:1006)", "certificate-not-trusted"),
        ("certificate verify failed: unable to get local issuer certificate", "certificate-not-trusted"),
        ("dane: no TLSA record matches the server's certificates", "validation-failure"),
        ("dane: leaf certificate has no matching subjectAltName", "certificate-host-mismatch"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", "validation-failure"),
        ("mta_sts: mx.evil.example is not named by the policy", "validation-failure"),
    ],
)
def test_what_went_wrong_has_a_word_of_the_standard(detail: str, result: str) -> None:
    assert result_of(detail) == result


def test_a_session_under_a_policy_tells_the_policy_and_no_machines() -> None:
    lines = ["version: STSv1", "mode: testing", "mx: *.a.example", "max_age: 86400"]
    assert session_opened(STS, HERE, GOOD) == TlsSession("sts", lines, ["*.a.example"])
    assert session_opened(DANE, HERE, GOOD) == TlsSession("tlsa", ["3 1 1 " + "01" * 32])
    assert session_opened(NONE, HERE, GOOD) == TlsSession("no-policy-found")


def test_a_host_without_records_of_a_domain_with_some_is_under_the_other_policy() -> None:
    found = session_opened(DANE, Place("two.a.example"), GOOD)
    assert found is not None
    assert found.policy_type == "sts"


def test_a_policy_in_testing_that_fails_is_told_with_the_machines() -> None:
    failed = Tls("opportunistic", "TLSv1.3", "x", "mta_sts: certificate verify failed: certificate has expired")
    found = session_opened(STS, HERE, failed)
    assert found is not None
    assert (found.policy_type, found.result) == ("sts", "certificate-expired")
    assert (found.mx_host, found.receiving_ip, found.sending_ip) == ("mx.a.example", "198.51.100.2", "192.0.2.1")
    assert "has expired" in found.reason


def test_no_tls_is_a_failure_unless_the_operator_wanted_none() -> None:
    found = session_opened(NONE, HERE, Tls("opportunistic"))
    assert found is not None
    assert found.result == "starttls-not-supported"
    assert session_opened(NONE, HERE, Tls("none")) is None


def test_a_policy_that_could_not_be_had_is_told() -> None:
    protection = Protection("a.example", sts_failure=StsFailure("sts-webpki-invalid", "unknown authority"))
    found = session_opened(protection, HERE, GOOD)
    assert found is not None
    assert (found.policy_type, found.policy, found.result) == ("sts", [], "sts-webpki-invalid")


def test_records_that_cannot_be_used_are_told_though_the_mail_goes() -> None:
    protection = Protection("a.example", dane={"mx.a.example": DaneHost("mx.a.example", (), ())})
    found = session_opened(protection, HERE, Tls("required", "TLSv1.3"))
    assert found is not None
    assert (found.policy_type, found.result) == ("tlsa", "tlsa-invalid")


@pytest.mark.parametrize(
    ("protection", "answer", "policy_type", "result"),
    [
        (STS, Broken("starttls", "tls", "mta_sts: the server offers no STARTTLS"), "sts", "starttls-not-supported"),
        (NONE, Replied("starttls", 454, "not now"), "no-policy-found", "starttls-not-supported"),
        (DANE, Broken("starttls", "tls", "dane: no TLSA record matches"), "tlsa", "validation-failure"),
        (DANE, Broken("starttls", "timeout"), "tlsa", "validation-failure"),
    ],
)
def test_a_connection_that_fails_at_tls_is_told(
    protection: Protection, answer: Broken | Replied, policy_type: str, result: str
) -> None:
    found = session_refused(protection, HERE, answer)
    assert found is not None
    assert (found.policy_type, found.result) == (policy_type, result)


@pytest.mark.parametrize(
    "answer", [Broken("connect", "refused"), Replied("banner", 554, "no"), Broken("resolve", "dns", "servfail")]
)
def test_a_connection_that_fails_for_another_reason_is_not(answer: Broken | Replied) -> None:
    assert session_refused(STS, HERE, answer) is None


def test_hosts_that_policies_keep_us_from_are_told() -> None:
    enforced = Protection("a.example", StsPolicy("enforce", 86_400, ("mx.a.example",)))
    for protection, host, policy_type, result in (
        (enforced, "mx.evil.example", "sts", "validation-failure"),
        (DANE, "mx.evil.example", "tlsa", "dnssec-invalid"),
        (
            Protection("a.example", dane={"mx.a.example": DaneFailed("servfail")}),
            "mx.a.example",
            "tlsa",
            "dnssec-invalid",
        ),
    ):
        answer = guard("opportunistic", host, protection)
        assert isinstance(answer, Broken)
        found = session_refused(protection, Place(), answer)
        assert found is not None
        assert (found.policy_type, found.result, found.mx_host) == (policy_type, result, host)


def test_a_domain_whose_dnssec_does_not_hold_is_told() -> None:
    (found,) = unresolved(Broken("resolve", "dns", "DNSSEC: servfail"))
    assert (found.policy_type, found.result) == ("tlsa", "dnssec-invalid")
    assert unresolved(Broken("resolve", "dns", "servfail")) == ()


def test_a_policy_of_a_thousand_hosts_and_a_servers_novel_are_cut_short() -> None:
    protection = Protection("a.example", StsPolicy("testing", 86_400, tuple(f"m{n}.a.example" for n in range(1000))))
    found = session_opened(protection, HERE, Tls("opportunistic", "TLSv1.3", "x", "mta_sts: \x1b[2J\r\n" + "x" * 9000))
    assert found is not None
    assert len(found.mx) == MOST_PATTERNS
    assert found.policy[-1] == "max_age: 86400"
    assert len(found.reason) < 300
    assert found.reason.isprintable()
