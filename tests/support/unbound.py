"""A real validating resolver, Unbound, over zones signed here: an installed one, or that of ``make unbound``."""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.rdtypes.ANY.DNSKEY import DNSKEY

_UNPACKED = Path(__file__).resolve().parents[2] / ".tools/debian/unbound/usr"
UNBOUND = (
    shutil.which("unbound") or shutil.which("/usr/sbin/unbound") or shutil.which("unbound", path=_UNPACKED / "sbin")
)
_LIBRARIES = os.pathsep.join(map(str, _UNPACKED.glob("lib/*-linux-gnu*")))
STARTS_WITHIN = 30.0
_APEX = """
@ 300 IN SOA ns.{zone}. host.{zone}. 1 3600 600 86400 60
@ 300 IN NS ns.{zone}.
ns 300 IN A 127.0.0.1
"""


class Unbound:
    """Answers for the zones that are added before :meth:`start`; nothing else is asked of anybody."""

    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._folder = folder
        self._port = port
        self._anchors: list[str] = []
        self._zones: list[str] = []
        self._process: asyncio.subprocess.Process | None = None

    def add(self, name: str, records: str, *, signed: bool = True, expired: bool = False, forged: str = "") -> None:
        """A zone of ``records``, as in a zone file. ``forged`` are records put in after it was signed, without
        signatures of their own, in the place of those of the same name and type."""
        zone = dns.zone.from_text(_APEX.format(zone=name) + records, origin=name, relativize=False)
        if signed:
            self._sign(zone, name, expired)
        for rrset in _rrsets(forged, name):
            zone.replace_rdataset(rrset.name, rrset.to_rdataset())
        zone.to_file(str(self._folder / f"{name}.zone"), relativize=False)
        self._zones.append(name)

    def _sign(self, zone: dns.zone.Zone, name: str, expired: bool) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        public = dns.dnssec.make_dnskey(key.public_key(), dns.dnssec.ECDSAP256SHA256, flags=257)
        assert isinstance(public, DNSKEY)
        until = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
        dns.dnssec.sign_zone(
            zone, keys=[(key, public)], dnskey_ttl=300, inception=until - timedelta(days=7), expiration=until
        )
        digest = dns.dnssec.make_ds(dns.name.from_text(name), public, "SHA256")
        self._anchors.append(f"{name}. IN DS {digest.to_text()}")

    async def start(self) -> None:
        """Run it until :meth:`stop`."""
        zones = "".join(
            f'auth-zone:\n  name: "{name}."\n  zonefile: "{self._folder / name}.zone"\n'
            "  for-downstream: no\n  for-upstream: yes\n  fallback-enabled: no\n"
            for name in self._zones
        )
        anchors = "".join(f'  trust-anchor: "{anchor}"\n' for anchor in self._anchors)
        (self._folder / "unbound.conf").write_text(
            f'server:\n  interface: 127.0.0.1@{self._port}\n  directory: "{self._folder}"\n'
            '  username: ""\n  chroot: ""\n  pidfile: ""\n  use-syslog: no\n  do-daemonize: no\n'
            "  num-threads: 1\n  do-ip6: no\n"
            '  module-config: "validator iterator"\n  access-control: 127.0.0.0/8 allow\n'
            f"  do-not-query-localhost: no\n{anchors}remote-control:\n  control-enable: no\n{zones}"
        )
        assert UNBOUND is not None
        self._process = await asyncio.create_subprocess_exec(
            UNBOUND, "-d", "-c", str(self._folder / "unbound.conf"),
            stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "LD_LIBRARY_PATH": _LIBRARIES},
        )  # fmt: skip
        async with asyncio.timeout(STARTS_WITHIN):
            while not await asyncio.to_thread(self._answers):
                assert self._process.returncode is None, "unbound ended at once"
                await asyncio.sleep(0.05)

    def _answers(self) -> bool:
        query = dns.message.make_query(self._zones[0], dns.rdatatype.SOA)
        try:
            dns.query.udp(query, "127.0.0.1", timeout=1.0, port=self._port)
        except (OSError, dns.exception.Timeout):
            return False
        return True

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


def _rrsets(records: str, origin: str) -> list[dns.rrset.RRset]:
    if not records:
        return []
    zone = dns.zone.from_text(_APEX.format(zone=origin) + records, origin=origin, relativize=False)
    found = []
    for name, rdataset in zone.iterate_rdatasets():
        if rdataset.rdtype not in (dns.rdatatype.SOA, dns.rdatatype.NS) and not str(name).startswith("ns."):
            rrset = dns.rrset.RRset(name, dns.rdataclass.IN, rdataset.rdtype)
            rrset.update(rdataset)
            found.append(rrset)
    return found
