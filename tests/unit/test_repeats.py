"""Idempotency keys: new, the same event again, a repeat, a conflict."""

from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.repeats import Seen, SeenKeys, body_digest, decode_seen, encode_seen, seen_key

KEY = seen_key("acme", "order-1")
DAY = 86_400.0


def keys() -> SeenKeys:
    """One day's memory."""
    return SeenKeys(DAY, 1000)


def test_the_same_key_and_body_twice_is_a_repeat_of_the_first() -> None:
    """A client that retried with a new message id gets one mail."""
    seen, digest = keys(), body_digest(b'{"a":1,"message_id":"x"}')
    assert seen.judge(KEY, "x", digest, 10.0) == ("new", None)
    seen.add(KEY, Seen("x", digest, 10.0))
    assert seen.judge(KEY, "y", body_digest(b'{"message_id":"y","a":1}'), 20.0) == ("repeat", "x")


def test_the_same_key_with_another_body_is_a_conflict() -> None:
    """The client's mistake must be told, not swallowed."""
    seen = keys()
    seen.add(KEY, Seen("x", body_digest(b'{"a":1}'), 10.0))
    assert seen.judge(KEY, "y", body_digest(b'{"a":2}'), 20.0) == ("conflict", "x")


def test_the_event_itself_read_again_goes_on() -> None:
    """After a crash between the key and the commit the mail must not be refused as its own repeat."""
    seen, digest = keys(), body_digest(b'{"a":1}')
    seen.add(KEY, Seen("x", digest, 10.0))
    assert seen.judge(KEY, "x", digest, 20.0) == ("same_event", "x")


def test_a_key_is_forgotten_after_its_window() -> None:
    """24 hours by default."""
    seen, digest = keys(), body_digest(b"{}")
    seen.add(KEY, Seen("x", digest, 10.0))
    assert seen.judge(KEY, "y", digest, 10.0 + DAY) == ("new", None)


def test_the_number_of_keys_is_bounded() -> None:
    """The oldest go first."""
    seen = SeenKeys(DAY, 2)
    for number in range(3):
        seen.add(seen_key("t", str(number)), Seen(str(number), "00" * 16, float(number)))
    assert len(seen) == 2
    assert seen.judge(seen_key("t", "0"), "z", "00" * 16, 5.0)[0] == "new"


def test_keys_of_tenants_do_not_meet() -> None:
    """Tenant in every key."""
    assert seen_key("a", "k") != seen_key("b", "k")


@given(st.text(max_size=50), st.floats(0, 2e9))
def test_a_record_reads_back_as_it_was_written(message_id: str, at: float) -> None:
    """What a partition's next owner loads."""
    seen = Seen(message_id, "ab" * 16, at)
    assert decode_seen(encode_seen(seen)) == seen
