"""Telling by TLSA records whether a TLS session's other end is who it should be (RFC 7672 section 3)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from sluice.domain.dane import END_ENTITY, TRUST_ANCHOR, DaneHost, Tlsa, matches

_CERTIFICATE_IN_FULL = (0, 0)
_MOST_CERTIFICATES = 16

# The records' author chose the authority: it need not keep the rules of the web's authorities, only be one.
_OF_AUTHORITIES = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
_OF_SERVERS = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)


def peer_chain(session: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    """The certificates (DER) that the other end has shown, its own first, unverified."""
    # Public only from Python 3.13 on, where it gives bytes.
    source: Any = session if hasattr(session, "get_unverified_chain") else session._sslobj  # type: ignore[union-attr] # noqa: SLF001
    shown = source.get_unverified_chain() or []
    return [each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in shown]


def dane_failure(host: DaneHost, chain: list[bytes]) -> str | None:
    """Why ``chain`` is not what ``host``'s records ask for; None when it is.

    A record of the server's own certificate or key is enough by itself: neither names nor dates count (section 3.1.1).
    One of an authority asks for a valid chain to it and for one of the host's names (sections 3.1.2 and 3.2).
    """
    if not chain:
        return "the server has shown no certificate"
    if any(record.usage == END_ENTITY and matches(record, chain[0]) for record in host.records):
        return None
    reason = "no TLSA record matches the server's certificates"
    for anchor in _anchors(host.records, chain[:_MOST_CERTIFICATES]):
        failure = _chain_failure(anchor, chain[:_MOST_CERTIFICATES], host.names)
        if failure is None:
            return None
        reason = failure
    return reason


def _anchors(records: tuple[Tlsa, ...], chain: list[bytes]) -> Iterator[bytes]:
    for record in records:
        if record.usage != TRUST_ANCHOR:
            continue
        yield from (certificate for certificate in chain[1:] if matches(record, certificate))
        if (record.selector, record.matching) == _CERTIFICATE_IN_FULL:
            yield record.data


def _chain_failure(anchor: bytes, chain: list[bytes], names: tuple[str, ...]) -> str | None:
    try:
        store = Store([x509.load_der_x509_certificate(anchor)])
        own, *others = [x509.load_der_x509_certificate(each) for each in chain]
    except ValueError:
        return "a certificate cannot be read"
    policy = PolicyBuilder().store(store).extension_policies(ca_policy=_OF_AUTHORITIES, ee_policy=_OF_SERVERS)
    reason = "no name to check"
    for name in names:
        try:
            policy.build_server_verifier(x509.DNSName(name)).verify(own, others)
        except (VerificationError, ValueError) as error:
            reason = str(error).partition(" (encountered")[0]
        else:
            return None
    return reason
