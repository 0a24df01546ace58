"""Kafka, ClickHouse and the receiving mail server as children of a supervisor."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.embedded.ports import LOOPBACK
from sluice.local.folder import DataFolder
from sluice.local.gate import Gate
from sluice.local.options import Options
from sluice.runtime.child import Child, Url

KAFKA, CLICKHOUSE, MAILBOX = "kafka", "clickhouse", "mailbox"
HEAP_MB = 512
FIRST_OPEN = 240.0
"""Seconds: the first time after an installation the engine takes tens of them to load."""


def kafka_child(kafka: EmbeddedKafka, gate: Gate) -> Child:
    """The broker; ``kafka`` was prepared."""
    return Child(name=KAFKA, command=kafka.command(), ready=gate.check, ready_timeout=90.0, stop_timeout=20.0)


def embedded_kafka(folder: DataFolder, ports: Mapping[str, int], *, lasting: bool) -> EmbeddedKafka:
    """The broker that lives in ``folder``."""
    return EmbeddedKafka(folder.kafka, ports["kafka"], ports["kafka-controller"], heap_mb=HEAP_MB, lasting=lasting)


def embedded_clickhouse(folder: DataFolder, ports: Mapping[str, int]) -> EmbeddedClickHouse:
    """The ClickHouse that lives in ``folder``."""
    return EmbeddedClickHouse(folder.clickhouse, ports["clickhouse"])


def clickhouse_child(clickhouse: EmbeddedClickHouse, gate: Gate) -> Child:
    """The engine behind its HTTP interface."""
    return Child(
        name=CLICKHOUSE,
        command=clickhouse.command(),
        ready=gate.check,
        ready_timeout=FIRST_OPEN,
        stop_timeout=30.0,
    )


def mailbox_child(options: Options, folder: DataFolder, ports: Mapping[str, int]) -> Child:
    """The receiving server: the mailbox, or the sink that only counts."""
    control = f"http://{LOOPBACK}:{ports['mailbox-control']}/healthz"
    arguments = ["--data", str(folder.mailbox), "--port", str(ports["mailbox"])]
    arguments += ["--control-port", str(ports["mailbox-control"])]
    if options.sink == "fast":
        return Child(
            name=MAILBOX,
            command=[sys.executable, "-m", "sluice.adapters.embedded.sink", *arguments],
            ready=Url(control),
        )
    arguments += ["--timeout", f"{options.mailbox_timeout:g}"]
    if options.behaviour is not None:
        arguments += ["--behaviour", str(options.behaviour)]
    if options.tls:
        arguments += ["--tls"]
    command = [sys.executable, "-m", "sluice.adapters.embedded.mailbox", *arguments]
    return Child(name=MAILBOX, command=command, ready=Url(control))
