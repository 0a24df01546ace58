"""How a connection to a mail host is to be protected: by the site's rule, MTA-STS (RFC 8461) and DANE (RFC 7672)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from sluice.domain.dane import TRUST_ANCHOR, DaneFailed, DaneHost
from sluice.domain.mta_sts import StsFailure, StsPolicy
from sluice.domain.smtp import Broken, TlsPolicy


class Protection(msgspec.Struct, frozen=True):
    """What a recipient domain publishes about the protection of its mail.

    ``sts`` is its MTA-STS policy. ``dane`` has every host of an MX set that DNSSEC vouches for, with what it vouches
    for: None is a host without TLSA records. It is empty when the MX set is not signed, or DANE is off.
    """

    domain: str
    sts: StsPolicy | None = None
    dane: Mapping[str, DaneHost | DaneFailed | None] = {}
    sts_failure: StsFailure | None = None
    """Why there is no ``sts`` though one is announced; only told, it changes nothing."""

    @property
    def dane_applies(self) -> bool:
        """Whether any host has, or may have, TLSA records."""
        return any(entry is not None for entry in self.dane.values())


class Guard(msgspec.Struct, frozen=True):
    """How to connect to one host. ``testing``: verify as MTA-STS would, and only report it. ``failure`` is what a
    policy in testing already finds wrong."""

    tls: TlsPolicy
    dane: DaneHost | None = None
    testing: bool = False
    failure: str | None = None


def guard(rule: TlsPolicy, host: str, protection: Protection) -> Guard | Broken:
    """How to connect to ``host`` (lower case) for the domain's mail, or why it must not be connected to.

    ``rule`` is the operator's policy for the site. ``none`` overrides what the domain publishes; any other is the
    least. DANE goes before MTA-STS, which never makes up for DANE that fails (RFC 8461 section 2).
    """
    if rule == "none":
        return Guard("none")
    if protection.dane_applies:
        if host not in protection.dane:
            return Broken("resolve", "dane", f"{host} is not among the hosts that DNSSEC vouches for")
        entry = protection.dane[host]
        if isinstance(entry, DaneFailed):
            return Broken("resolve", "dns", f"TLSA of {host}: {entry.reason}")
        if entry is not None and entry.records:
            return Guard("dane", entry)
        if entry is not None and rule == "opportunistic":
            rule = "required"
    return _by_mta_sts(rule, host, protection.sts)


def _by_mta_sts(rule: TlsPolicy, host: str, policy: StsPolicy | None) -> Guard | Broken:
    if policy is None or policy.mode == "none":
        return Guard(rule)
    named = policy.names(host)
    if policy.mode == "enforce":
        return Guard("mta_sts") if named else Broken("resolve", "mta_sts", f"{host} is not named by the policy")
    if named:
        return Guard(rule, testing=rule != "verified")
    return Guard(rule, failure=f"mta_sts: {host} is not named by the policy")


def path_key(hosts: Iterable[str], protection: Protection) -> str:
    """Equal for domains that may share connections: the same hosts, under the same demands."""
    return ",".join(sorted(host + _mark(host, protection) for host in hosts))


def _mark(host: str, protection: Protection) -> str:
    found = guard("opportunistic", host, protection)
    if isinstance(found, Broken):
        return "=refused"
    if found.dane is not None:
        # Under a trust anchor the domain's own name is one that the certificate may have (RFC 7672 section 3.2.2).
        named = any(record.usage == TRUST_ANCHOR for record in found.dane.records)
        return f"=dane:{protection.domain}" if named else "=dane"
    if found.testing or found.failure:
        return "=testing"
    return "" if found.tls == "opportunistic" else f"={found.tls}"
