"""What came of the TLS of one session with a mail host, in the words of SMTP TLS reporting (RFC 8460 section 4)."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from sluice.domain.dane import DaneFailed, DaneHost
from sluice.domain.mta_sts import StsPolicy
from sluice.domain.smtp import Broken, Replied, Tls
from sluice.domain.tls_policy import Protection

PolicyType = Literal["tlsa", "sts", "no-policy-found"]

ResultType = Literal[
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
"""Section 4.3. ``dane-required`` never comes about here: there is no setting that asks a domain for DANE."""

MOST_PATTERNS = 64
"""Host patterns, or TLSA records, of a policy that are told; a policy may have a thousand."""
MOST_REASON = 240

_host = re.compile(r"(?:TLSA of )?([^ :]+)")
"""As :func:`sluice.domain.tls_policy.guard` begins its refusals."""


class TlsSession(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session with a host of the recipient's domain, or the attempt at one. ``result`` None is a success.

    ``policy`` are the applied policy's lines or TLSA records, ``mx`` the host patterns of an MTA-STS policy. What names
    the machines, and ``reason``, are given for failures only. Empty text is what is not known.
    """

    policy_type: PolicyType
    policy: list[str] = []
    mx: list[str] = []
    result: ResultType | None = None
    sending_ip: str = ""
    mx_host: str = ""
    receiving_ip: str = ""
    reason: str = ""


class Place(msgspec.Struct, frozen=True):
    """The two ends of a session: the host's name, its address, and ours; empty what is not known."""

    mx_host: str = ""
    receiving_ip: str = ""
    sending_ip: str = ""


def session_opened(protection: Protection, place: Place, tls: Tls) -> TlsSession | None:
    """What to tell of a connection that was made; None when TLS was not to be used, by the operator's word."""
    if tls.policy == "none":
        return None
    found = _applied(protection, place.mx_host)
    if protection.sts_failure is not None and found.policy_type == "sts":
        return _failed(found, place, protection.sts_failure.result, protection.sts_failure.reason)
    if tls.failure is not None:
        return _failed(found, place, result_of(tls.failure), tls.failure)
    if tls.version is None:
        return _failed(found, place, "starttls-not-supported", "")
    if found.policy_type == "tlsa" and not found.policy:
        return _failed(found, place, "tlsa-invalid", "none of the TLSA records can be used")
    return found


def session_refused(protection: Protection, place: Place, answer: Replied | Broken) -> TlsSession | None:
    """What to tell when there is no connection; None when TLS and policies are not the reason for it.

    Where no host could be connected to by the policies, ``place`` is empty, and ``answer`` names the host.
    """
    if isinstance(answer, Broken) and answer.phase == "resolve":
        named = _host.match(answer.detail)
        return _unresolved(protection, Place(named[1]) if named else place, answer)
    found = _applied(protection, place.mx_host)
    if answer.phase == "starttls":
        if isinstance(answer, Replied):
            return _failed(found, place, "starttls-not-supported", f"{answer.code} {answer.text}")
        return _failed(found, place, result_of(answer.detail), answer.detail or answer.reason)
    return None


def unresolved(answer: Broken) -> tuple[TlsSession, ...]:
    """What to tell when a domain's mail waits because its DNSSEC does not hold; nothing for any other reason."""
    if answer.phase != "resolve" or not answer.detail.startswith("DNSSEC: "):
        return ()
    return (_failed(TlsSession("tlsa"), Place(), "dnssec-invalid", answer.detail),)


def result_of(detail: str) -> ResultType:
    """The result type that stands for what OpenSSL, the verification of DANE, or our own policies say went wrong."""
    text = detail.lower()
    return next((result for pattern, result in _MEANINGS if pattern.search(text)), "validation-failure")


_MEANINGS: tuple[tuple[re.Pattern[str], ResultType], ...] = tuple(
    (re.compile(pattern), result)  # type: ignore[misc]
    for pattern, result in (
        (r"offers no starttls|^mta_sts: [45]\d\d ", "starttls-not-supported"),
        (
            r"hostname mismatch|ip address mismatch|no matching subjectaltname|doesn't match",
            "certificate-host-mismatch",
        ),
        (r"has expired|not valid at validation time", "certificate-expired"),
        (r"certificate verify failed|candidates exhausted", "certificate-not-trusted"),
    )
)


def _applied(protection: Protection, host: str) -> TlsSession:
    """The policy that a host is held to, as the beginning of what is told of a session with it."""
    entry = protection.dane.get(host)
    if isinstance(entry, DaneHost):
        records = [f"{r.usage} {r.selector} {r.matching} {r.data.hex()}" for r in entry.records]
        return TlsSession("tlsa", records[:MOST_PATTERNS])
    if isinstance(entry, DaneFailed) or (protection.dane_applies and host not in protection.dane):
        return TlsSession("tlsa")
    if protection.sts is not None:
        return TlsSession("sts", _lines(protection.sts), list(protection.sts.mx[:MOST_PATTERNS]))
    return TlsSession("sts" if protection.sts_failure is not None else "no-policy-found")


def _lines(policy: StsPolicy) -> list[str]:
    hosts = [f"mx: {pattern}" for pattern in policy.mx[:MOST_PATTERNS]]
    return ["version: STSv1", f"mode: {policy.mode}", *hosts, f"max_age: {policy.max_age}"]


def _unresolved(protection: Protection, place: Place, answer: Broken) -> TlsSession | None:
    found = _applied(protection, place.mx_host)
    if answer.reason == "mta_sts":
        return _failed(found, place, "validation-failure", answer.detail)
    if answer.reason == "dane" or answer.detail.startswith("TLSA of "):
        return _failed(msgspec.structs.replace(found, policy_type="tlsa"), place, "dnssec-invalid", answer.detail)
    return None


def _failed(found: TlsSession, place: Place, result: ResultType, reason: str) -> TlsSession:
    return msgspec.structs.replace(
        found,
        result=result,
        sending_ip=place.sending_ip,
        mx_host=place.mx_host,
        receiving_ip=place.receiving_ip,
        reason="".join(c if c.isprintable() else " " for c in reason)[:MOST_REASON],
    )
