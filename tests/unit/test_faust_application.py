"""The Faust application: what of Faust is turned off, and what of it must stay."""

import time

from faust.types import TP

from sluice.adapters.kafka.app import FaustOptions, faust_app


def test_faust_knows_when_a_partition_last_brought_something() -> None:
    """Else its own watch over streams calls every busy one stalled, five minutes after the start."""
    monitor = faust_app(FaustOptions("g", "127.0.0.1:1", "c")).monitor
    place = TP("mail.send.high", 0)
    began = time.monotonic()
    assert monitor.on_stream_event_in(place, 1, None, None) is None  # type: ignore[arg-type]
    assert began <= monitor.stream_inbound_time[place] <= time.monotonic()
