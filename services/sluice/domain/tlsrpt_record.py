"""Where a domain wants its TLS reports: the TXT record at ``_smtp._tls.DOMAIN`` (RFC 8460 section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

import msgspec

from sluice.domain.addresses import parse_address
from sluice.domain.errors import Refused

MOST_ENDPOINTS = 8
"""Places that one report is sent to, the first ones."""
_LONGEST = 1_000

_record = re.compile(r"v=TLSRPTv1[ \t]*;(.*)", re.DOTALL)
_url = re.compile(r"https://[!-~]+", re.IGNORECASE)
_name = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62}")
"""A host's name. Addresses are none: they would be connected to without being looked up, and so unchecked."""


class MailEndpoint(msgspec.Struct, frozen=True):
    """Reports go to this address by mail (section 5.3)."""

    address: str

    def __str__(self) -> str:
        return f"mailto:{self.address}"


class HttpsEndpoint(msgspec.Struct, frozen=True):
    """Reports go to this URL by POST (section 5.4)."""

    url: str

    def __str__(self) -> str:
        return self.url


Endpoint = MailEndpoint | HttpsEndpoint


def endpoints(texts: Iterable[str]) -> tuple[Endpoint, ...]:
    """Where reports are to go, each place once; none when there is no record, more than one, or nothing usable in it.

    URIs that cannot be followed are passed over: other schemes, addresses that are none, URLs with a user's name.
    """
    announced = [found[1] for text in texts if (found := _record.match(text))]
    if len(announced) != 1:
        return ()
    fields = [field.strip(" \t") for field in announced[0].split(";")]
    lists = [field[4:] for field in fields if field.startswith("rua=")]
    if len(lists) != 1:
        return ()
    places = (_endpoint(uri.strip(" \t")) for uri in lists[0].split(","))
    return tuple(dict.fromkeys(each for each in places if each is not None))[:MOST_ENDPOINTS]


def _endpoint(uri: str) -> Endpoint | None:
    if len(uri) > _LONGEST:
        return None
    if uri[:7].lower() == "mailto:":
        try:
            return MailEndpoint(parse_address(unquote(uri[7:].partition("?")[0], errors="strict"), "rua").addr_spec)
        except (Refused, UnicodeDecodeError):
            return None
    if not _url.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        named = bool(_name.fullmatch(parts.hostname or "")) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    # RFC 3986 section 3.2.1: what stands before "@" leads readers, and our own logs, to take another host for the one.
    return HttpsEndpoint(uri) if named and "@" not in parts.netloc and "\\" not in uri else None
