"""How a recipient leaves a list: what is acceptable, and its header fields (RFC 2369, RFC 2919, RFC 8058)."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from sluice.domain.addresses import ATEXT, parse_address
from sluice.domain.errors import Refused
from sluice.domain.events import Stream, Unsubscribe
from sluice.domain.mime import Field

_url = re.compile(r"[\x21\x23-\x3b\x3d\x3f-\x7e]+")
"""Printable ASCII without quote and angle brackets."""
_list_id = re.compile(rf"[{ATEXT}]+(?:\.[{ATEXT}]+)*")


def effective_unsubscribe(asked: Unsubscribe | None, usual: Unsubscribe | None, stream: Stream) -> Unsubscribe | None:
    """What a mail offers: the event's own, or for broadcast the tenant's; None for transactional mail without one.

    Raises :class:`Refused` (category ``unsubscribe``) when it is malformed, when a broadcast offers neither a URL nor
    an address, and when one-click is asked for without an https URL to POST to.
    """
    chosen = asked or (usual if stream == "broadcast" else None)
    if chosen is None or (chosen.url is None and chosen.mailto is None):
        if stream == "broadcast":
            raise Refused(
                "unsubscribe", "broadcast mail needs an https url or a mailto to unsubscribe by", "unsubscribe"
            )
    elif chosen.url is not None:
        _check_url(chosen.url)
    elif chosen.one_click:
        reason = "one_click needs an https url; set it to false to unsubscribe by mail alone"
        raise Refused("unsubscribe.one_click", reason, "unsubscribe")
    if chosen is not None and chosen.mailto is not None:
        parse_address(chosen.mailto, "unsubscribe.mailto", "unsubscribe")
    if chosen is not None and chosen.list_id is not None and not _list_id.fullmatch(chosen.list_id):
        reason = "may hold letters, digits and +/_-, in parts joined by single dots"
        raise Refused("unsubscribe.list_id", reason, "unsubscribe")
    return chosen


def _check_url(url: str) -> None:
    if not _url.fullmatch(url):
        raise Refused("unsubscribe.url", "contains a character that no URL has; percent-encode it", "unsubscribe")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise Refused("unsubscribe.url", "is not a URL", "unsubscribe") from error
    if parts.scheme.lower() != "https" or not parts.hostname:
        raise Refused("unsubscribe.url", "is not an https URL", "unsubscribe")


def unsubscribe_fields(unsubscribe: Unsubscribe, domain: str) -> list[Field]:
    """List-Id (completed with the sender's ``domain``), List-Unsubscribe and, for one-click, List-Unsubscribe-Post."""
    fields = []
    if unsubscribe.list_id:
        fields.append(("List-Id", f"List-Id: <{unsubscribe.list_id}.{domain}>"))
    ways = []
    if unsubscribe.url:
        ways.append(f"<{unsubscribe.url}>")
    if unsubscribe.mailto:
        address = parse_address(unsubscribe.mailto, "unsubscribe.mailto", "unsubscribe")
        ways.append(f"<mailto:{quote(address.local, safe='')}@{address.domain_ascii}>")
    if ways:
        fields.append(("List-Unsubscribe", "List-Unsubscribe: " + ",\r\n ".join(ways)))
    if unsubscribe.url and unsubscribe.one_click:
        fields.append(("List-Unsubscribe-Post", "List-Unsubscribe-Post: List-Unsubscribe=One-Click"))
    return fields
