"""Opening connections."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable

import msgspec
import structlog

from sluice.adapters.smtp.channel import Channel
from sluice.adapters.smtp.connection import SmtpConnection
from sluice.adapters.smtp.dialling import blame, dial
from sluice.adapters.smtp.greeting import Greeted, Greeter, HandshakeFailed
from sluice.adapters.smtp.security import Contexts, FailureMemory
from sluice.domain.conversation import Transcript
from sluice.domain.smtp import Broken, Replied, TlsPolicy
from sluice.ports.mailer import Hop, Timeouts

log = structlog.get_logger(__name__)

_FAILURE_SECONDS = 3_600.0


class SmtpMailer:
    """A :class:`sluice.ports.mailer.Mailer` on asyncio's or uvloop's transports.

    ``ca_file`` is a PEM file with the authorities to trust for policy ``verified``; None takes the system's. ``now`` is
    a clock in seconds for remembering, for an hour, which servers' STARTTLS or BDAT is broken. Without ``chunking``
    BDAT is not used.
    """

    def __init__(
        self,
        timeouts: Timeouts | None = None,
        *,
        chunking: bool = True,
        ca_file: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._contexts = Contexts(ca_file)
        self._broken_tls = FailureMemory(_FAILURE_SECONDS, now)
        self._chunking = FailureMemory(_FAILURE_SECONDS, now) if chunking else None
        self._unverified = FailureMemory(_FAILURE_SECONDS, now)

    async def connect(self, hop: Hop, talk: Transcript | None = None) -> SmtpConnection | Replied | Broken:
        """A greeted connection, or why there is none."""
        server = (hop.host, hop.port)
        talk = talk or Transcript(time.monotonic)
        if hop.tls_testing:
            return await self._rehearse(hop, server, talk)
        broken = self._broken_tls.detail(server) if hop.tls == "opportunistic" else None
        if broken is not None:
            hop = _without_tls(hop, broken)
        outcome = await self._open(hop, talk, starttls=hop.tls != "none" and broken is None)
        if isinstance(outcome, HandshakeFailed):
            log.warning("starttls_broken", host=hop.host, port=hop.port, detail=outcome.detail)
            self._broken_tls.add(server, outcome.detail)
            outcome = await self._open(_without_tls(hop, outcome.detail), talk, starttls=False)
        if isinstance(outcome, HandshakeFailed):
            return Broken("starttls", "tls", outcome.detail)
        return outcome

    async def _rehearse(self, hop: Hop, server: tuple[str, int], talk: Transcript) -> SmtpConnection | Replied | Broken:
        """Connect as under MTA-STS; where that fails, tell so, and connect by the hop's own policy."""
        failure = self._unverified.detail(server)
        if failure is None:
            outcome = await self._open(hop, talk, starttls=True, held_to="mta_sts")
            if isinstance(outcome, SmtpConnection):
                return outcome
            if isinstance(outcome, Replied | Broken) and outcome.phase != "starttls":
                return outcome
            failure = f"mta_sts: {outcome.code} {outcome.text}" if isinstance(outcome, Replied) else outcome.detail
            self._unverified.add(server, failure)
            log.warning("mta_sts_testing_failed", host=hop.host, port=hop.port, detail=failure)
        return await self.connect(msgspec.structs.replace(hop, tls_testing=False, tls_failure=failure), talk)

    async def _open(
        self, hop: Hop, talk: Transcript, *, starttls: bool, held_to: TlsPolicy | None = None
    ) -> SmtpConnection | HandshakeFailed | Replied | Broken:
        """Connect and greet, under policy ``held_to`` if given; the connection still bears the hop's own."""
        asked = hop.tls
        if held_to is not None:
            hop = msgspec.structs.replace(hop, tls=held_to)
        dialled = await self._dial(hop, talk)
        if isinstance(dialled, Broken):
            return dialled
        channel, address = dialled
        greeter = Greeter(channel, hop, self._timeouts, self._contexts.context(hop.tls), address, talk)
        try:
            greeted = await greeter.greet(starttls=starttls)
        except BaseException:
            channel.abort()
            raise
        if not isinstance(greeted, Greeted):
            channel.abort()
            return greeted
        return SmtpConnection(
            channel,
            host=hop.host,
            port=hop.port,
            address=address,
            tls=msgspec.structs.replace(greeted.tls, policy=asked),
            offered=greeted.capabilities,
            timeouts=self._timeouts,
            chunking=self._chunking,
        )

    async def _dial(self, hop: Hop, talk: Transcript) -> tuple[Channel, str] | Broken:
        talk.say("connect", f"{hop.host}:{hop.port}")
        try:
            async with asyncio.timeout(min(self._timeouts.connect, hop.connect_within or math.inf)):
                channel, address = await dial(hop)
        except TimeoutError:
            broken = Broken("connect", "timeout")
        except (socket.gaierror, UnicodeError) as error:
            broken = Broken("connect", "dns", str(error))
        except OSError as error:
            broken = Broken("connect", blame(error), str(error))
        else:
            talk.note(address, well=True)
            return channel, address
        talk.note(f"{broken.reason}: {broken.detail}" if broken.detail else broken.reason)
        return broken


def _without_tls(hop: Hop, detail: str) -> Hop:
    """The same, with what is wrong with the server's STARTTLS, unless something was known before."""
    return msgspec.structs.replace(hop, tls_failure=hop.tls_failure or f"starttls: {detail}")
