"""Kafka with Sluice's topics and ClickHouse, as commands and services find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.domain.topics import Layout, topics
from sluice.runtime import console
from sluice.runtime.config import Settings, load_settings


@contextmanager
def kafka_and_clickhouse(folders: pytest.TempPathFactory, **variables: str) -> Iterator[Settings]:
    """Settings that lead to both, in the environment too; ``variables`` are set there as well. Nothing is recorded."""
    with (
        EmbeddedKafka.on_free_ports(folders.mktemp("kafka")) as broker,
        EmbeddedClickHouse.on_free_port(folders.mktemp("clickhouse")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLUICE_KAFKA_BOOTSTRAP", broker.bootstrap)
        patch.setenv("SLUICE_CLICKHOUSE_URL", server.url)
        for name, value in variables.items():
            patch.setenv(name, value)
        made = load_settings()
        console.topic_admin(made).apply(topics(Layout()))
        yield made
