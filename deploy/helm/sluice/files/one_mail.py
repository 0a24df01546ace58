"""Send one mail through the installation to a sink in this process, and see that it was delivered, once.

    python one_mail.py HOST PORT SECONDS

HOST is the name under which deliver reaches this process; it has a route for ``helm-test.invalid`` to it. Exit code 0:
delivered, with its outcome in ClickHouse and its content here.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from sluice.adapters.embedded.sink import serve

TENANT = "sluice-helm-test"
DOMAIN = "helm-test.invalid"


def sluice(*arguments: str, stdin: str = "") -> None:
    """Run a command of Sluice's; raises CalledProcessError."""
    subprocess.run(["sluice", *arguments], input=stdin, text=True, check=True)  # noqa: S603, S607


async def reachable(host: str, port: int, deadline: float) -> None:
    """Wait until deliver could reach the sink by its name."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"the sink cannot be reached at {host}:{port}: {error}") from error
            await asyncio.sleep(1)
        else:
            writer.close()
            return


async def main(host: str, port: int, seconds: int) -> int:
    """Returns the exit code."""
    index = Path(tempfile.mkdtemp()) / "sink"
    stop = asyncio.Event()
    sink = asyncio.ensure_future(serve(index, port, 0, stop, host="0.0.0.0"))  # noqa: S104  deliver is another pod
    tenant = {"tenant_id": TENANT, "domains": [DOMAIN], "from": {"email": f"test@{DOMAIN}"}}
    recipient = f"{uuid.uuid4().hex}@{DOMAIN}"
    failed = True
    try:
        await reachable(host, port, time.monotonic() + 60)
        await asyncio.to_thread(sluice, "tenant", "push", "-", stdin=json.dumps(tenant))
        try:
            # Services follow reference data within a second.
            await asyncio.sleep(3)
            what = ("--tenant", TENANT, "--to", recipient, "--subject", "helm test", "--text", "helm test")
            await asyncio.to_thread(sluice, "send", *what, "--wait", "--timeout", str(seconds))
            failed = False
        finally:
            await asyncio.to_thread(sluice, "tenant", "remove", TENANT)
    except subprocess.CalledProcessError:
        sys.stdout.write("failed: see what sluice said above\n")
    finally:
        stop.set()
        await sink
    taken = (index / "index.jsonl").read_text(encoding="utf-8").count(recipient)
    sys.stdout.write(f"the sink took {taken} mails for {recipient}\n")
    return 0 if taken == 1 and not failed else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
