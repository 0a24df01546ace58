"""A whole Sluice on one machine: planned from options, then run by a supervisor."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from confluent_kafka import KafkaException

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse
from sluice.adapters.embedded.ports import LOOPBACK
from sluice.domain.errors import SluiceError
from sluice.domain.topics import topics
from sluice.local import parts, seed
from sluice.local.folder import DataFolder
from sluice.local.gate import Gate
from sluice.local.options import SERVICES, Options
from sluice.local.ports import choose_ports
from sluice.runtime import wiring
from sluice.runtime.child import Alive, Child, Url
from sluice.runtime.config import PREFIX, Settings, load_settings

SEEDED = "seeded"
DRAIN_S = 10
SESSION_S = 12
"""Seconds after which Kafka takes a dead process's partitions away: on one machine no network asks for patience."""
Say = Callable[[str], None]


class KafkaAway(SluiceError):
    """The Kafka that was named cannot be used."""


class LocalStack:
    """What runs, where, and with which settings. Made by :func:`plan`."""

    def __init__(
        self, options: Options, folder: DataFolder, ports: dict[str, int], reference: Sequence[seed.Reference]
    ) -> None:
        self.options = options
        self.folder = folder
        self.ports = ports
        self.reference = list(reference)
        self.environment = _environment(options, folder, ports)
        self.settings = _settings(self.environment)
        self.gates: list[Gate] = []
        self.children: list[Child] = []

    @property
    def clickhouse(self) -> ClickHouse:
        """A new client of the stack's ClickHouse."""
        return clickhouse_of(self.settings)

    @property
    def failure(self) -> Exception | None:
        """Why a part that runs could not be prepared."""
        return next((gate.failure for gate in self.gates if gate.failure is not None), None)

    def health_urls(self) -> dict[str, str]:
        """By service process, where it tells how it is."""
        return {
            name: f"http://{LOOPBACK}:{port}/readyz"
            for name, port in self.ports.items()
            if name.rpartition("-")[2].isdigit()
        }

    def write_environment(self) -> None:
        """Write ``sluice.env``, to be sourced by other shells; for the owner only, as URLs may hold a password."""
        shared = {name: value for name, value in self.environment.items() if name != "SLUICE_LOG_FORMAT"}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(shared.items())]
        self.folder.environment.touch(mode=0o600)
        self.folder.environment.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def prepare_kafka(self) -> None:
        """Create topics, and publish the reference data that is wanted. Blocks; safe to repeat."""
        try:
            changes = wiring.topic_admin(self.settings).apply(topics(wiring.layout(self.settings)))
        except KafkaException as error:
            raise KafkaAway(f"Kafka at {self.settings.kafka_bootstrap}: {error.args[0].str()}") from error
        refused = [f"{change.topic} {change.detail}" for change in changes if change.action == "refused"]
        if refused:
            raise KafkaAway(f"topics do not fit: {'; '.join(refused)}")
        mark = self.folder.path / SEEDED
        wanted = self.options.examples
        if wanted or (wanted is None and self.options.kafka is None and not mark.exists()):
            seed.push(self.settings, self.reference)
            mark.touch()

    def prepare_clickhouse(self) -> None:
        """Bring ClickHouse to the schema. Blocks; safe to repeat."""
        clickhouse = self.clickhouse
        try:
            migrations.apply(clickhouse)
        finally:
            clickhouse.close()


def clickhouse_of(settings: Settings) -> ClickHouse:
    """A client of the ClickHouse that settings name, as its services have one."""
    return wiring.clickhouse(settings)


def plan(options: Options, reference: Sequence[seed.Reference] | None = None, say: Say = lambda _: None) -> LocalStack:
    """Choose ports, make keys, fetch what is missing, prepare outside parts; blocks. Starts nothing.

    ``say`` is told what takes long. Raises what stands in the way as a :class:`SluiceError`.
    """
    folder = DataFolder(options.data)
    folder.make()
    if options.new_ports:
        folder.ports.unlink(missing_ok=True)
    known = seed.example_reference() if reference is None else list(reference)
    ports = choose_ports(folder.ports, _names(options), first=options.first_port)
    seed.make_keys(folder.keys, known)
    stack = LocalStack(options, folder, ports, known)
    needed: list[str] = []
    if options.kafka is None:
        kafka = parts.embedded_kafka(folder, ports, lasting=options.lasting)
        kafka.prepare(lambda done, total: say(f"fetching Kafka: {done} of {total} files"))
        gate = Gate(kafka.is_ready, stack.prepare_kafka)
        stack.gates.append(gate)
        stack.children.append(parts.kafka_child(kafka, gate))
        needed.append(parts.KAFKA)
    else:
        stack.prepare_kafka()
    if options.clickhouse is None:
        clickhouse = parts.embedded_clickhouse(folder, ports)
        clickhouse.prepare()
        gate = Gate(clickhouse.is_ready, stack.prepare_clickhouse)
        stack.gates.append(gate)
        stack.children.append(parts.clickhouse_child(clickhouse, gate))
        needed.append(parts.CLICKHOUSE)
    else:
        stack.prepare_clickhouse()
    if options.smtp is None:
        stack.children.append(parts.mailbox_child(options, folder, ports))
        needed.append(parts.MAILBOX)
    stack.children += [service_child(stack, name, tuple(needed)) for name in _instances(options)]
    return stack


def service_child(stack: LocalStack, name: str, after: tuple[str, ...] = ()) -> Child:
    """One process of a service; ``name`` is ``compose-1`` and the like, ``after`` the parts that must be ready."""
    service, _, _ = name.rpartition("-")
    port = stack.ports[name]
    static = {"SLUICE_KAFKA_INSTANCE_ID": name} if stack.options.static_members else {}
    return Child(
        name=name,
        command=[sys.executable, "-m", f"sluice.{service}"],
        env={**stack.environment, **static, "SLUICE_NODE": name, "SLUICE_HEALTH_PORT": str(port)},
        ready=Url(f"http://{LOOPBACK}:{port}/readyz"),
        alive=Alive(check=Url(f"http://{LOOPBACK}:{port}/healthz")),
        ready_timeout=120.0,
        after=tuple(part for part in after if part in _NEEDS[service]),
        stop_timeout=DRAIN_S + 10.0,
    )


_NEEDS: dict[str, tuple[str, ...]] = {
    "compose": (parts.KAFKA,),
    "deliver": (parts.KAFKA, parts.MAILBOX),
    "wheel": (parts.KAFKA,),
    "record": (parts.KAFKA, parts.CLICKHOUSE),
}


def _instances(options: Options) -> list[str]:
    return [f"{service}-{number}" for service in SERVICES for number in range(1, options.counts.get(service, 1) + 1)]


def _names(options: Options) -> list[str]:
    names: list[str] = []
    if options.kafka is None:
        names += ["kafka", "kafka-controller"]
    if options.clickhouse is None:
        names += ["clickhouse"]
    if options.smtp is None:
        names += ["mailbox", "mailbox-control"]
    return names + _instances(options)


def _environment(options: Options, folder: DataFolder, ports: dict[str, int]) -> dict[str, str]:
    tls = "opportunistic" if options.tls else "none"
    environment = {
        "SLUICE_DKIM_KEYS_DIR": str(folder.keys),
        "SLUICE_LOG_FORMAT": "console",
        "SLUICE_DRAIN_S": str(DRAIN_S),
        "SLUICE_EHLO_NAME": "sluice.localhost",
        "SLUICE_KAFKA_SESSION_TIMEOUT_S": str(SESSION_S),
    }
    if "," not in str(folder.path):
        environment["SLUICE_DISKS"] = f"data={folder.path}"
    if options.kafka is None:
        environment["SLUICE_KAFKA_BOOTSTRAP"] = f"{LOOPBACK}:{ports['kafka']}"
        environment["SLUICE_KAFKA_SECURITY_PROTOCOL"] = "PLAINTEXT"
    else:
        environment["SLUICE_KAFKA_BOOTSTRAP"] = options.kafka
    if options.clickhouse is None:
        environment["SLUICE_CLICKHOUSE_URL"] = f"http://{LOOPBACK}:{ports['clickhouse']}"
    else:
        environment |= _clickhouse(options.clickhouse)
    if options.smtp is None:
        environment["SLUICE_ROUTES"] = f"*=smtp://{LOOPBACK}:{ports['mailbox']}?tls={tls}"
    else:
        environment["SLUICE_ROUTES"] = f"*=smtp://{options.smtp}" + ("?tls=opportunistic" if options.tls else "")
    if options.rules is not None:
        environment["SLUICE_RULES_DIR"] = str(Path(options.rules).resolve())
    return {**environment, **options.environment}


def _clickhouse(url: str) -> dict[str, str]:
    """Settings for ``http://USER:PASSWORD@HOST:PORT``. What the URL does not say stays as the environment has it."""
    parts = urlsplit(url)
    environment = {"SLUICE_CLICKHOUSE_URL": parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()}
    if parts.username is not None:
        environment["SLUICE_CLICKHOUSE_USER"] = unquote(parts.username)
    if parts.password is not None:
        environment["SLUICE_CLICKHOUSE_PASSWORD"] = unquote(parts.password)
    return environment


def _settings(environment: dict[str, str]) -> Settings:
    """The settings that the services will have: ours over the environment's."""
    return load_settings(**{name.removeprefix(PREFIX).lower(): value for name, value in environment.items()})
