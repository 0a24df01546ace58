"""Which way a mail leaves: by MX, to a fixed host, or through a relay; and in which order hosts are tried."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import cast, get_args
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sluice.domain.errors import RuleError
from sluice.domain.smtp import Broken, SettableTls


class MxRoute(msgspec.Struct, frozen=True):
    """Whatever the domain's MX records say."""


class StaticRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Always this server. ``tls`` None leaves the policy to the site."""

    host: str
    port: int = 25
    tls: SettableTls | None = None
    implicit_tls: bool = False


class RelayRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A server that takes mail for others after authentication. ``password_ref`` names the secret, never holds it."""

    host: str
    port: int = 587
    username: str
    password_ref: str
    tls: SettableTls = "required"
    implicit_tls: bool = False


Route = MxRoute | StaticRoute | RelayRoute

NULL_MX = Broken("resolve", "null_mx", "the domain takes no mail (RFC 7505)")
NO_SUCH_DOMAIN = Broken("resolve", "no_such_domain", "the domain does not exist, or has no mail or address record")
LOOP = Broken("resolve", "loop", "the domain's mail hosts are this server itself")
NO_ADDRESS = Broken("resolve", "no_address", "the domain's mail hosts have no address to connect to")


def lookup_failed(reason: str) -> Broken:
    """The result of an attempt for which DNS gave no answer."""
    return Broken("resolve", "dns", reason)


class RouteTable:
    """Routes by recipient domain. Immutable."""

    def __init__(self, routes: Mapping[str, Route] | None = None) -> None:
        """Keys are a domain, ``*.domain`` for everything below it, or ``*`` for the rest (MX when not given)."""
        self.routes = dict(routes or {})
        self._default: Route = self.routes.get("*", MxRoute())
        self._exact = {key: route for key, route in self.routes.items() if not key.startswith("*")}
        self._below = {key[2:]: route for key, route in self.routes.items() if key.startswith("*.")}
        self._plain = not self._exact and not self._below

    def route_for(self, domain: str) -> Route:
        """The route for ``domain`` (A-label, lower case): its own, else the longest ``*.`` above it, else ``*``."""
        if self._plain:
            return self._default
        found = self._exact.get(domain)
        if found is not None:
            return found
        rest = domain
        while self._below:
            _, dot, rest = rest.partition(".")
            if not dot:
                break
            found = self._below.get(rest)
            if found is not None:
                return found
        return self._default

    @classmethod
    def parse(cls, text: str) -> RouteTable:
        """Read ``PATTERN=TARGET`` pairs separated by blanks, commas or semicolons; targets as in :func:`parse_route`.

        ``*=smtp://127.0.0.1:2525?tls=none; example.com=mx``. Raises :class:`RuleError` naming every wrong pair.
        """
        pairs: dict[str, str] = {}
        for word in re.split(r"[\s,;]+", text.strip()):
            if not word:
                continue
            pattern, equals, target = word.partition("=")
            if not equals:
                raise RuleError(f"routes: {pattern!r} has no target; write PATTERN=TARGET")
            if pattern.lower() in pairs:
                raise RuleError(f"routes: {pattern!r} is given twice")
            pairs[pattern.lower()] = target
        return cls.from_mapping(pairs)

    @classmethod
    def from_mapping(cls, pairs: Mapping[str, str]) -> RouteTable:
        """Read a table of patterns and targets. Raises :class:`RuleError` naming every wrong one."""
        routes: dict[str, Route] = {}
        wrong: list[str] = []
        for pattern, target in pairs.items():
            try:
                if not _pattern.fullmatch(pattern.lower()):
                    raise RuleError("not a domain in A-label form, *.domain or *")
                routes[pattern.lower()] = parse_route(target)
            except RuleError as error:
                wrong.append(f"routes: {pattern}: {error}")
        if wrong:
            raise RuleError("\n".join(wrong))
        return cls(routes)


_pattern = re.compile(r"\*|(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


def parse_route(target: str) -> Route:
    """Read ``mx``, ``smtp://host:port`` or ``smtps://host:port`` (TLS from the first byte).

    ``?tls=`` sets the policy; ``smtp://user@host?password_ref=NAME`` makes it a relay, whose port defaults to 587 (465
    for ``smtps``). Raises :class:`RuleError`, which never repeats the target: somebody may have put a password there.
    """
    if target == "mx":
        return MxRoute()
    try:
        url = urlsplit(target)
        port, host = url.port, url.hostname
        options = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
    except ValueError as error:
        raise RuleError("not a target; write mx or smtp://host:port") from error
    if url.scheme not in ("smtp", "smtps") or not host or url.path not in ("", "/"):
        raise RuleError("not a target; write mx or smtp://host:port")
    if url.password is not None:
        raise RuleError("a password does not belong here; name it by ?password_ref=NAME")
    unknown = set(options) - {"tls", "password_ref"}
    if unknown:
        raise RuleError(f"unknown option {', '.join(sorted(unknown))}; there are tls and password_ref")
    tls = options.get("tls")
    if tls is not None and tls not in get_args(SettableTls):
        raise RuleError(f"tls is one of {', '.join(get_args(SettableTls))}")
    policy = cast("SettableTls | None", tls)
    implicit = url.scheme == "smtps"
    if url.username is None:
        if "password_ref" in options:
            raise RuleError("password_ref without a user; write smtp://user@host")
        return StaticRoute(host=host, port=port or (465 if implicit else 25), tls=policy, implicit_tls=implicit)
    if "password_ref" not in options:
        raise RuleError("a user without ?password_ref=NAME")
    return RelayRoute(
        host=host,
        port=port or (465 if implicit else 587),
        username=url.username,
        password_ref=options["password_ref"],
        tls=policy or "required",
        implicit_tls=implicit,
    )


def mx_targets(hosts: Iterable[tuple[int, str]], *, own_names: Collection[str], seed: str) -> tuple[str, ...] | Broken:
    """The hosts to try, in order, of (preference, host) pairs; or :data:`LOOP`.

    Equal preferences are shuffled by ``seed`` (the mail's id and attempt, say), so that load spreads and one mail keeps
    its order. When a host is one of ``own_names`` (lower case) it and all that are not preferred to it
    are left out, so that mail never comes back (RFC 5321 section 5.1).
    """
    ordered = [(preference, host.rstrip(".").lower()) for preference, host in hosts]
    limit = min((preference for preference, host in ordered if host in own_names), default=None)
    if limit is not None:
        ordered = [pair for pair in ordered if pair[0] < limit]
        if not ordered:
            return LOOP
    if not ordered:
        return NO_ADDRESS
    if len(ordered) > 1:
        ordered.sort(key=lambda pair: (pair[0], _shuffled(seed, pair[1])))
    return tuple(dict.fromkeys(host for _, host in ordered))


def _shuffled(seed: str, host: str) -> bytes:
    return hashlib.blake2b(f"{seed}\x1f{host}".encode(), digest_size=8).digest()


def usable_addresses(addresses: Iterable[str], *, private: bool = False) -> tuple[str, ...]:
    """Those to which mail by MX may go: a domain must not aim us at our own network.

    Loopback, private, link-local, multicast and unspecified addresses are left out unless ``private``.
    """
    return tuple(addresses) if private else tuple(address for address in addresses if _public(address))


def interleaved(addresses: Iterable[str]) -> tuple[str, ...]:
    """The same addresses with IPv6 and IPv4 in turn, so that a family without a way out costs one attempt, not all.

    RFC 8305 section 4. The family of the first address begins; within each the order stays.
    """
    ordered = tuple(addresses)
    if len(ordered) < 3:
        return ordered
    families: dict[bool, list[str]] = {}
    for address in ordered:
        families.setdefault(":" in address, []).append(address)
    turns = zip_longest(*families.values())
    return tuple(address for turn in turns for address in turn if address is not None)


@lru_cache(10_000)
def _public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_global and not parsed.is_multicast
