"""Threads that load and follow topics."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaException

from sluice.adapters.kafka.reference import KafkaReference
from sluice.domain.catalogue import Catalogue

NOBODY = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0, "socket.connection.setup.timeout.ms": 1000}


def test_stopping_what_never_started_is_harmless() -> None:
    """A service that could not start is stopped all the same."""
    KafkaReference(NOBODY, Catalogue()).stop()


@pytest.mark.slow
def test_a_reader_that_cannot_go_on_says_so() -> None:
    """A service must not go on with suppressions that nobody keeps up to date."""
    reference = KafkaReference(NOBODY, Catalogue())
    reference.patience_s = 1.0
    reference.start()
    with pytest.raises(KafkaException):
        reference.wait_loaded(60)
    assert isinstance(reference.failure, KafkaException)
    assert not reference.loaded
    reference.stop()
