"""Postfix with OpenDKIM as a milter, configured in a folder of its own. Needs root, as Postfix does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from packages import Tools
from processes import Program, tree_cpu
from signatures import SigningKey

from sluice.adapters.embedded.ports import free_port
from sluice.domain.errors import SluiceError

PRIVATE = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = {tools.sbin}
daemon_directory = {tools.daemons}
meta_directory = {tools.meta}
shlib_directory = {tools.libraries}
mail_owner = {tools.unprivileged}
setgid_group = {tools.group}
import_environment = MAIL_CONFIG LANG=C TZ LD_LIBRARY_PATH POSTLOG_SERVICE POSTLOG_HOSTNAME
maillog_file = {folder}/log/maillog
maillog_file_prefixes = {folder}
myhostname = postfix.localhost
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_milters = inet:127.0.0.1:{milter}
milter_default_action = tempfail
default_destination_concurrency_limit = {connections}
default_process_limit = 200
"""
"""No `default_destination_concurrency_limit` of 20: all domains go to one relay host, which would be one destination.

No `in_flow_delay` of 0, no queue in memory, no turning off of fsync: what it promises with its 250 stays promised.
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
error     unix  - - n -     - error
retry     unix  - - n -     - error
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

OPENDKIM = """\
Mode s
Domain {key.domain}
Selector {key.selector}
KeyFile {folder}/private.pem
RequireSafeKeys no
Canonicalization relaxed/relaxed
InternalHosts 127.0.0.0/8
Socket inet:{milter}@127.0.0.1
Syslog no
Background no
"""


class NeedsRoot(SluiceError):
    """Postfix's master refuses to run as anybody else."""


class Postfix:
    """Use as a context manager, in the main thread: both run from entering to leaving."""

    name = "Postfix + OpenDKIM"
    promise = "fsync of the queue file before its 250"

    def __init__(self, tools: Tools, folder: Path, sink_port: int, key: SigningKey, connections: int = 100) -> None:
        self.port = free_port()
        self._milter_port = free_port()
        self._tools, self._folder, self._sink, self._key = tools, folder.resolve(), sink_port, key
        self._connections = connections

    def __enter__(self) -> Postfix:
        if os.geteuid() != 0:
            raise NeedsRoot("Postfix can only be run by root; leave it out with --only sluice,haraka")
        self._lay_out()
        conf = self._folder / "conf"
        self._opendkim = Program(
            [str(self._tools.opendkim), "-f", "-x", str(conf / "opendkim.conf")],
            log=self._folder / "opendkim.log",
            env=self._tools.environment,
        )
        self._opendkim.wait_until_listening(self._milter_port)
        self._master = Program(
            [str(self._tools.daemons / "master"), "-c", str(conf), "-s"],
            log=self._folder / "master.log",
            env={**self._tools.environment, "MAIL_CONFIG": str(conf)},
        )
        try:
            self._master.wait_until_listening(self.port)
        except SluiceError:
            self._opendkim.stop(5.0)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._master.stop()
        self._opendkim.stop(5.0)

    def cpu(self) -> dict[str, float]:
        """Seconds used so far, by part."""
        return {"postfix": tree_cpu(self._master.pid), "opendkim": tree_cpu(self._opendkim.pid)}

    def _lay_out(self) -> None:
        """Postfix checks who owns what before it starts."""
        folder, tools = self._folder, self._tools
        shutil.rmtree(folder, ignore_errors=True)
        conf, queue = folder / "conf", folder / "queue"
        for path in (conf, queue, queue / "pid"):
            path.mkdir(parents=True)
        for name, mode in (("data", 0o700), ("log", 0o755)):
            _make(folder / name, mode, tools.unprivileged)
        for name in PRIVATE:
            _make(queue / name, 0o700, tools.unprivileged)
        _make(queue / "public", 0o2710, tools.unprivileged, tools.group)
        _make(queue / "maildrop", 0o1730, tools.unprivileged, tools.group)
        self._key.write(conf / "private.pem")
        values = {
            "folder": folder, "tools": tools, "sink": self._sink, "milter": self._milter_port, "port": self.port,
            "connections": self._connections, "key": self._key,
        }  # fmt: skip
        (conf / "main.cf").write_text(MAIN.format(**values))
        (conf / "master.cf").write_text(MASTER.format(**values))
        (conf / "opendkim.conf").write_text(OPENDKIM.format(**{**values, "folder": conf}))


def _make(path: Path, mode: int, user: str, group: str | None = None) -> None:
    path.mkdir()
    shutil.chown(path, user, group)
    path.chmod(mode)  # afterwards: a change of owner takes the set-group-id bit away
