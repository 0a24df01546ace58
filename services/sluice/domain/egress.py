"""Where mail leaves from: source addresses, the name said in EHLO, and which of several a mail takes."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import parse_qsl

import msgspec

from sluice.domain.errors import RuleError
from sluice.domain.shaping import Rate
from sluice.domain.smtp import Broken

DEFAULT = "default"
NO_FAMILY = Broken("connect", "unsupported", "the egress has no address of a family that the site's servers have")

_name = re.compile(r"[a-z0-9][a-z0-9._:-]{0,127}")
_OPTIONS = ("ehlo", "pool", "rate", "connections")


class Egress(msgspec.Struct, frozen=True):
    """One way out. ``addresses`` are local ones to leave from, none for the system's choice.

    ``rate`` holds for all workers together, ``connections`` for those of one worker; both over all sites, None for no
    limit. When one of a ``pool`` is blocked, another of it can stand in.
    """

    name: str
    ehlo: str
    addresses: tuple[str, ...] = ()
    pool: str = DEFAULT
    rate: Rate | None = None
    connections: int | None = None

    def source_for(self, address: str) -> str | Broken | None:
        """The address to leave from towards ``address``, None for any, :data:`NO_FAMILY` when there is none."""
        if not self.addresses:
            return None
        six = ":" in address
        return next((source for source in self.addresses if (":" in source) == six), NO_FAMILY)


class Egresses:
    """Those of one worker; the first one's pool takes what nothing else is said of. Immutable."""

    def __init__(self, egresses: Iterable[Egress]) -> None:
        """Raises :class:`RuleError` when there is none, or two have one name."""
        self.all = tuple(egresses)
        self._named = {egress.name: egress for egress in self.all}
        if not self.all or len(self._named) < len(self.all):
            raise RuleError("egresses: each needs a name of its own, and one there must be")
        self._pools: dict[str, tuple[Egress, ...]] = {}
        for egress in self.all:
            self._pools[egress.pool] = (*self._pools.get(egress.pool, ()), egress)
        if clash := self._named.keys() & self._pools.keys() - {e.name for e in self.all if e.pool == e.name}:
            raise RuleError(f"egresses: {', '.join(sorted(clash))} is the name of an egress and of a pool it is not in")

    def knows(self, name: str) -> bool:
        """Whether there is an egress or a pool of this name."""
        return name in self._named or name in self._pools

    def pool(self, wanted: str | None) -> tuple[Egress, ...]:
        """The egresses that ``wanted`` names, itself or as a pool; the first one's pool for None and unknown names."""
        found = wanted and (self._pools.get(wanted) or (wanted in self._named and (self._named[wanted],)))
        return found or self._pools[self.all[0].pool]

    def choose(self, wanted: str | None, key: str) -> Egress:
        """One of those that ``wanted`` names: the same one whenever it is asked for ``key`` (the mail's id)."""
        among = self.pool(wanted)
        if len(among) == 1:
            return among[0]
        # Not by the checksum that chooses the lane: then each lane would know a part of the pool only.
        return among[int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % len(among)]

    def instead(self, egress: Egress, switched: Mapping[str, str]) -> Egress:
        """Who stands in for ``egress``; itself when it is not ``switched``, or nobody can.

        ``switched`` maps an egress to another by name, or to the empty string for the next of its pool that is not
        switched itself.
        """
        if egress.name not in switched:
            return egress
        named = self._named.get(switched[egress.name])
        if named is not None and named.name not in switched:
            return named
        among = self._pools[egress.pool]
        place = among.index(egress)
        others = (*among[place + 1 :], *among[:place])
        return next((other for other in others if other.name not in switched), egress)

    def check(self, names: Collection[str], where: str) -> None:
        """Raise :class:`RuleError` for names that no egress and no pool has."""
        unknown = sorted(name for name in names if not self.knows(name))
        if unknown:
            have = ", ".join(dict.fromkeys([*self._named, *self._pools]))
            raise RuleError(f"{where}: there is no egress and no pool named {', '.join(unknown)}; there are {have}")

    @classmethod
    def parse(cls, text: str, ehlo: str) -> Egresses:
        """Read ``NAME=ADDRESS+ADDRESS?ehlo=…&pool=…&rate=…&connections=…``, separated by blanks or semicolons.

        ``+`` and a second address, or more, are for the other family; ``ehlo`` is said by those that give none. Raises
        :class:`RuleError` naming every wrong one.
        """
        read: list[Egress] = []
        wrong: list[str] = []
        for word in re.split(r"[\s;]+", text.strip()):
            name, equals, target = word.partition("=")
            try:
                if not equals or not _name.fullmatch(name):
                    raise RuleError("write NAME=ADDRESS, the name in small letters, digits, dots and dashes")
                read.append(_egress(name, target, ehlo))
            except RuleError as error:
                wrong.append(f"egresses: {name or word}: {error}")
        if wrong:
            raise RuleError("\n".join(wrong))
        return cls(read)


def _egress(name: str, target: str, ehlo: str) -> Egress:
    listed, _, query = target.partition("?")
    addresses = tuple(listed.split("+")) if listed else ()
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise RuleError(f"{address!r} is no IP address") from error
    try:
        options = dict(parse_qsl(query, strict_parsing=bool(query)))
    except ValueError as error:
        raise RuleError("options are written ?ehlo=NAME&rate=100/s") from error
    if unknown := options.keys() - set(_OPTIONS):
        raise RuleError(f"unknown option {', '.join(sorted(unknown))}; there are {', '.join(_OPTIONS)}")
    pool = options.get("pool", DEFAULT)
    if not _name.fullmatch(pool):
        raise RuleError("pool: small letters, digits, dots and dashes")
    connections = options.get("connections")
    if connections is not None and not (connections.isdecimal() and int(connections) > 0):
        raise RuleError("connections: a whole number of at least 1")
    rate = options.get("rate")
    return Egress(
        name,
        options.get("ehlo", ehlo),
        addresses,
        pool,
        Rate.parse(rate) if rate else None,
        int(connections) if connections else None,
    )
