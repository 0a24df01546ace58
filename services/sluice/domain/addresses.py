"""Mail addresses: syntax (RFC 5321, RFC 6531) and internationalised domains (IDNA 2008 with UTS 46 mapping).

Besides the standard library and msgspec this imports ``idna``, which is as pure as they are: tables and functions.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import idna
import msgspec

from sluice.domain.errors import Refused

MAX_LOCAL = 64
MAX_DOMAIN = 253
"""Characters of the A-label form; RFC 5321's 255 octets count the root's empty label and a length octet."""
MAX_ADDRESS = 254

ATEXT = r"-A-Za-z0-9!#$%&'*+/=?^_`{|}~"
"""For use inside a character class (RFC 5322 section 3.2.3)."""
_dot_atom = re.compile(rf"[{ATEXT}]+(?:\.[{ATEXT}]+)*")
_dot_atom_utf8 = re.compile(rf"[{ATEXT}\u00a0-\U0010ffff]+(?:\.[{ATEXT}\u00a0-\U0010ffff]+)*")
_label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ascii_domain = re.compile(rf"{_label}(?:\.{_label})+")


class Address(msgspec.Struct, frozen=True):
    """An addr-spec. ``domain_ascii`` is lower case in A-label form; ``local`` is as given.

    ``needs_smtputf8`` is True when the local part is not ASCII: only a server that offers SMTPUTF8 can take it.
    """

    local: str
    domain_ascii: str
    needs_smtputf8: bool = False

    @property
    def addr_spec(self) -> str:
        """``local@domain``, as it stands in the envelope and in header fields."""
        return f"{self.local}@{self.domain_ascii}"


class Party(msgspec.Struct, frozen=True):
    """Somebody named in a header field: a checked address with an optional display name."""

    address: Address
    name: str | None = None


def parse_address(text: str, field: str, category: str = "invalid_recipient") -> Address:
    """Read an addr-spec.

    Raises :class:`Refused` for ``field`` with ``category`` and a reason that does not repeat the address. Quoted local
    parts, comments, domain literals and domains of a single label are refused: no address that is meant to be mailed
    by a program has them, and receivers disagree about what they mean.
    """
    local, at, domain = text.rpartition("@")
    if not at:
        raise Refused(field, "the address has no domain", category)
    problem = _local_problem(local)
    if problem is None:
        ascii_form, problem = domain_to_ascii(domain)
    if problem is not None:
        raise Refused(field, problem, category)
    if len(local.encode()) + 1 + len(ascii_form) > MAX_ADDRESS:
        raise Refused(field, f"the address is longer than {MAX_ADDRESS} octets", category)
    return Address(local, ascii_form, not local.isascii())


def _local_problem(local: str) -> str | None:
    if _dot_atom.fullmatch(local):
        return None if len(local) <= MAX_LOCAL else f"the local part is longer than {MAX_LOCAL} octets"
    if not local:
        return "the address has no local part"
    categories = {unicodedata.category(character)[0] for character in local}
    if "C" in categories:
        return "the address contains a control or unassigned character"
    if local[0] == '"' or local[-1] == '"':
        return "quoted local parts are not supported"
    if "@" in local:
        return "the address has more than one @"
    if "Z" in categories:
        return "the address contains a space"
    if local[0] == "." or local[-1] == "." or ".." in local:
        return "the local part begins or ends with a dot, or has two in a row"
    if not _dot_atom_utf8.fullmatch(local):
        return "the local part contains a character that is not allowed"
    return None if len(local.encode()) <= MAX_LOCAL else f"the local part is longer than {MAX_LOCAL} octets"


@lru_cache(maxsize=65_536)
def domain_to_ascii(domain: str) -> tuple[str, str | None]:
    """A domain as (lower-case A-labels, None), or as ("", what is wrong with it)."""
    problem = _domain_text_problem(domain)
    if problem:
        return "", problem
    ascii_form = domain.lower()
    if not domain.isascii() or "xn--" in ascii_form:
        try:
            ascii_form = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            return "", "the domain is not a valid internationalised domain name"
    if len(ascii_form) > MAX_DOMAIN:
        return "", f"the domain is longer than {MAX_DOMAIN} octets"
    if "." not in ascii_form.strip("."):
        return "", "the domain has only one label"
    if not _ascii_domain.fullmatch(ascii_form):
        return "", "the domain is malformed"
    if ascii_form.rpartition(".")[2].isdigit():
        return "", "the domain is an IP address"
    return ascii_form, None


def _domain_text_problem(domain: str) -> str | None:
    if not domain:
        return "the address has no domain"
    # idna's cost grows faster than its input; nothing this long can be a domain.
    if len(domain) > 255:
        return "the domain is longer than 255 characters"
    if domain[0] == "[":
        return "domain literals are not supported"
    if domain[0] == "." or domain[-1] == ".":
        return "the domain begins or ends with a dot"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zs", "Zl", "Zp") for character in domain):
        return "the domain contains a space or control character"
    return None
