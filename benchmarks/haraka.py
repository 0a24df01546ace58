"""Haraka with its DKIM plugin and its queue on disk, configured in a folder of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from processes import Program, tree_cpu
from signatures import SigningKey

from sluice.adapters.embedded.ports import free_port


class Haraka:
    """Use as a context manager, in the main thread. ``processes`` workers under one that looks after them."""

    name = "Haraka"
    promise = "fsync of the queue file before its 250"

    def __init__(self, home: Path, folder: Path, sink_port: int, key: SigningKey, processes: int = 2) -> None:
        """``home`` holds ``node_modules``."""
        self.port = free_port()
        self._home, self._folder, self._sink, self._key = home, folder.resolve(), sink_port, key
        self._processes = processes

    def __enter__(self) -> Haraka:
        self._lay_out()
        command = ["node", str(self._home / "node_modules/Haraka/bin/haraka"), "-c", str(self._folder)]
        self._program = Program(command, log=self._folder / "haraka.log", cwd=self._folder)
        try:
            self._program.wait_until_listening(self.port)
        except Exception:
            self._program.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop(5.0)

    def cpu(self) -> dict[str, float]:
        """Seconds used so far, all processes."""
        return {"haraka": tree_cpu(self._program.pid)}

    def _lay_out(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        config = self._folder / "config"
        # Haraka counts on the files that its own `haraka -i` puts there.
        shutil.copytree(self._home / "node_modules/Haraka/config", config)
        (self._folder / "queue").mkdir()
        route = json.dumps({"action": "continue", "nexthop": f"127.0.0.1:{self._sink}"})
        files = {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes={self._processes}\n",
            "me": "haraka.localhost\n",
            "plugins": "relay\ndkim\n",
            "log.ini": "[main]\nlevel=notice\n",  # what is taken and delivered, as in Postfix's log
            "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
            "relay_acl_allow": "127.0.0.0/8\n",
            "relay_dest_domains.ini": f"[domains]\nany = {route}\n",
            "outbound.ini": "enable_tls=false\nlocal_mx_ok=true\n",
            "dkim.ini": (
                "[sign]\nenabled=true\n"
                f"selector={self._key.selector}\ndomain={self._key.domain}\n"
                "headers = From, Sender, Reply-To, Subject, Date, Message-ID, To, Cc, MIME-Version, Content-Type\n"
                "[canon]\nbody = relaxed\n[verify]\nenabled=false\n"
            ),
        }
        for name, content in files.items():
            (config / name).write_text(content)
        self._key.write(config / "dkim.private.key")
