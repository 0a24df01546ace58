"""Message ids (RFC 9562, UUIDv7) and trace contexts."""

import itertools
import re
import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from sluice.client.identity import MessageIds, new_message_id, traceparent

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01")


@given(st.lists(st.tuples(st.integers(0, 2**47), st.binary(min_size=10, max_size=10)), min_size=1, max_size=20))
def test_ids_are_valid_and_rise_whatever_the_clock_does(readings):
    clock, noise = iter([ms for ms, _ in readings]), iter([random for _, random in readings])
    ids = MessageIds(lambda: next(clock), lambda _: next(noise))
    made = [ids() for _ in readings]
    for text in made:
        assert str(uuid.UUID(text)) == text
        assert uuid.UUID(text).version == 7
        assert uuid.UUID(text).variant == uuid.RFC_4122
    assert all(earlier < later for earlier, later in itertools.pairwise(made))


def test_an_id_begins_with_its_millisecond():
    ids = MessageIds(lambda: 0x0123456789AB, lambda count: b"\xff" * count)
    assert ids().startswith("01234567-89ab-7")


def test_a_full_counter_moves_to_the_next_millisecond():
    ids = MessageIds(lambda: 5, lambda count: b"\xff" * count)
    first = ids()
    ids._counter = 2**32 - 1
    assert ids() > first
    assert ids().startswith("00000000-0006-7")


def test_threads_never_get_the_same_id():
    made: list[str] = []

    def work():
        made.extend([new_message_id() for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000


def test_without_a_span_each_event_begins_a_trace():
    first, second = traceparent(), traceparent()
    assert TRACEPARENT.fullmatch(first)
    assert first != second


def test_an_active_span_is_continued():
    with TracerProvider().get_tracer("test").start_as_current_span("checkout") as span:
        context = span.get_span_context()
        assert traceparent() == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
