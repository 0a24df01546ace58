"""From the banner to the first MAIL: EHLO, STARTTLS, AUTH."""

from __future__ import annotations

import ipaddress
import ssl

import msgspec
from aiosmtplib.auth import auth_login_encode, auth_plain_encode

from sluice.adapters.smtp.capabilities import Capabilities, read_capabilities
from sluice.adapters.smtp.channel import Channel, Fault
from sluice.adapters.smtp.dane import dane_failure, peer_chain
from sluice.adapters.smtp.reply import Reply
from sluice.domain.conversation import Transcript
from sluice.domain.smtp import Broken, Phase, Replied, Tls
from sluice.ports.mailer import Hop, Timeouts


class Greeted(msgspec.Struct, frozen=True):
    """The server is ready for mail."""

    capabilities: Capabilities
    tls: Tls


class HandshakeFailed(msgspec.Struct, frozen=True):
    """The server offered STARTTLS and could not do it."""

    detail: str


class _Refused(Exception):
    def __init__(self, result: Replied | Broken) -> None:
        super().__init__(result.phase)
        self.result = result


class Greeter:
    """Leads one new connection through its greeting, and notes it in ``talk``."""

    def __init__(
        self,
        channel: Channel,
        hop: Hop,
        timeouts: Timeouts,
        context: ssl.SSLContext,
        address: str,
        talk: Transcript | None = None,
    ) -> None:
        self._channel = channel
        self._hop = hop
        self._timeouts = timeouts
        self._context = context
        self._address = address
        self._talk = talk or Transcript(channel.now)
        self._phase: Phase = "banner"
        self._tls = Tls(hop.tls, failure=hop.tls_failure)

    async def greet(self, *, starttls: bool) -> Greeted | HandshakeFailed | Replied | Broken:
        """Do what the hop asks for; with ``starttls`` False, STARTTLS is not even tried."""
        try:
            if self._hop.implicit_tls:
                await self._implicit_tls()
            await self._banner()
            offered = await self._ehlo()
            if starttls and not self._hop.implicit_tls and await self._starttls(offered):
                offered = await self._ehlo()
            await self._auth(offered)
        except _Refused as refused:
            return refused.result
        except Fault as fault:
            self._talk.note(str(fault))
            if fault.reason == "tls" and self._phase == "starttls" and self._hop.tls == "opportunistic":
                return HandshakeFailed(fault.detail)
            return Broken(self._phase, fault.reason, self._blamed(fault.detail))
        return Greeted(offered, self._tls)

    async def _banner(self) -> None:
        self._phase = "banner"
        self._talk.say("banner")
        reply = await self._channel.reply(self._timeouts.connect)
        self._talk.hear(reply.code, reply.lines)
        if reply.code != 220:
            raise self._refusal(reply)

    async def _ehlo(self) -> Capabilities:
        self._phase = "ehlo"
        reply = await self._ask(f"EHLO {self._hop.ehlo}")
        if reply.positive:
            return read_capabilities(reply)
        if reply.code in (500, 501, 502, 503, 504):
            # RFC 5321 section 3.2: a server that knows no EHLO is to be tried with HELO.
            helo = await self._ask(f"HELO {self._hop.ehlo}")
            if helo.positive:
                return Capabilities()
        raise self._refusal(reply)

    async def _starttls(self, offered: Capabilities) -> bool:
        self._phase = "starttls"
        must = self._hop.tls in ("required", "verified", "mta_sts", "dane")
        if not offered.starttls:
            if must:
                raise _Refused(Broken("starttls", "tls", self._blamed("the server offers no STARTTLS")))
            return False
        reply = await self._ask("STARTTLS")
        if reply.code != 220:
            if must or reply.code == 421 or not reply.negative:
                raise self._refusal(reply)
            return False
        await self._handshake()
        return True

    async def _implicit_tls(self) -> None:
        self._phase = "connect"
        try:
            await self._handshake()
        except Fault as fault:
            # Whether a plaintext banner comes before or in the handshake is chance; the fault is one and the same.
            if fault.reason == "garbage":
                raise Fault("tls", "the server speaks without TLS") from fault
            raise

    async def _handshake(self) -> None:
        dane = self._hop.dane
        # RFC 7672 section 8.1: the TLSA base domain is the name that the server picks its certificate by.
        name = (dane.base if dane else self._hop.host).rstrip(".")
        self._talk.say("tls")
        await self._channel.start_tls(self._context, name, self._timeouts.connect)
        session = self._channel.transport.get_extra_info("ssl_object")
        if self._hop.tls == "dane":
            failure = dane_failure(dane, peer_chain(session)) if dane else "no TLSA record to verify by"
            if failure is not None:
                raise Fault("tls", failure)
        cipher = session.cipher()
        self._talk.note(f"{session.version()} {cipher[0] if cipher else ''}", well=True)
        self._tls = Tls(self._hop.tls, session.version(), cipher[0] if cipher else None, self._hop.tls_failure)

    def _blamed(self, detail: str) -> str:
        """With the name of the policy that asks for TLS, when it is the recipient's domain that does."""
        if self._phase == "starttls" and self._hop.tls in ("mta_sts", "dane"):
            return f"{self._hop.tls}: {detail}"
        return detail

    async def _auth(self, offered: Capabilities) -> None:
        if self._hop.username is None:
            return
        self._phase = "auth"
        if self._tls.version is None and not ipaddress.ip_address(self._address).is_loopback:
            raise _Refused(Broken("auth", "tls", "credentials are given over TLS only"))
        username, password = self._hop.username, self._hop.password or ""
        if "plain" in offered.auth:
            reply = await self._ask(f"AUTH PLAIN {auth_plain_encode(username, password).decode()}", "AUTH PLAIN …")
        elif "login" in offered.auth:
            reply = await self._ask("AUTH LOGIN")
            for secret in auth_login_encode(username, password):
                if reply.code != 334:
                    break
                reply = await self._ask(secret.decode(), "…")
        else:
            raise _Refused(Broken("auth", "unsupported", "the server offers neither AUTH PLAIN nor AUTH LOGIN"))
        if reply.code != 235:
            raise self._refusal(reply)

    async def _ask(self, line: str, shown: str | None = None) -> Reply:
        self._talk.say(self._phase, shown or line)
        self._channel.write(line.encode() + b"\r\n", 1)
        reply = await self._channel.reply(self._timeouts.command)
        self._talk.hear(reply.code, reply.lines)
        return reply

    def _refusal(self, reply: Reply) -> _Refused:
        if reply.negative:
            return _Refused(reply.at(self._phase))
        return _Refused(Broken(self._phase, "garbage", f"unexpected code {reply.code}"))
