"""The receiving mail server as a process: ``python -m sluice.adapters.embedded.mailbox --data FOLDER``."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import signal
import sys
from pathlib import Path
from random import Random

import uvloop

from sluice.adapters.embedded.mailbox_behaviour import WORDS_HELP, read_behaviours
from sluice.adapters.embedded.mailbox_control import serve_control
from sluice.adapters.embedded.mailbox_server import MailboxServer
from sluice.adapters.embedded.mailbox_tls import self_signed
from sluice.adapters.embedded.ports import LOOPBACK
from sluice.domain.errors import SluiceError

FILE_HELP = """
behaviour file (TOML), applied after the words, the first that applies winning:
  [[behaviour]]
  domain = "*.slow.example"        # globs; domain and local default to *
  local = "a*"
  phase = "dot"                    # mail, rcpt (default), data, dot
  delay = 2.5                      # seconds before the reply
  reply = "451 4.7.1 Slow down"    # or: action = "disconnect" or "hang", and keep = true to store the mail
  probability = 0.1                # share of the times
  first = 2                        # only the first 2 times per recipient
"""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sluice.adapters.embedded.mailbox",
        description="An SMTP server that keeps every mail it takes as a file, and misbehaves on request.",
        epilog=WORDS_HELP + FILE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where mails and index.jsonl go")
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=2525, help="SMTP port (default %(default)s; 0 takes a free one)")
    parser.add_argument("--control-port", type=int, help="HTTP port for /healthz, /stats and /behaviours")
    parser.add_argument("--behaviour", type=Path, metavar="FILE", help="how to misbehave, see below")
    parser.add_argument("--hostname", default="mailbox.localhost", help="name in the greeting (default %(default)s)")
    parser.add_argument("--tls", action="store_true", help="offer STARTTLS with a certificate made at start")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds to wait for a command (%(default)g)")
    parser.add_argument("--seed", type=int, help="makes probabilities repeatable")
    return parser.parse_args(argv)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = MailboxServer(
        arguments.data,
        host=arguments.host,
        port=arguments.port,
        behaviours=read_behaviours(arguments.behaviour) if arguments.behaviour else (),
        hostname=arguments.hostname,
        tls=self_signed(arguments.hostname, dt.datetime.now(dt.UTC)) if arguments.tls else None,
        timeout=arguments.timeout,
        random=Random(arguments.seed),  # noqa: S311 -- nothing secret
    )
    async with server:
        if arguments.control_port is None:
            await stop.wait()
            return
        control = await serve_control(server, arguments.host, arguments.control_port)
        try:
            await stop.wait()
        finally:
            await control.cleanup()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. 0, or 2 when it could not start for a reason it prints."""
    arguments = _arguments(argv)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(arguments))
    except SluiceError as error:
        sys.stderr.write(f"mailbox: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
