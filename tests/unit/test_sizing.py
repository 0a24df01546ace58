"""How much a load needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.errors import RuleError
from sluice.domain.sizing import STEPS, Load, Need, size


def needs(**load: object) -> dict[str, Need]:
    """By what is needed; partitions by their topics."""
    given: dict[str, object] = {"rate": 10.0, "peak": 100.0, **load}
    return {need.what: need for need in size(Load(**given))}  # type: ignore[arg-type]


def test_a_small_load_needs_two_of_what_may_not_be_missing_and_few_partitions() -> None:
    found = needs()
    workers = {name: found[name].value for name in ("compose", "deliver", "wheel", "record")}
    assert workers == {"compose": 2, "deliver": 2, "wheel": 1, "record": 1}
    assert found["mail.send.*"].value == found["mail.ready.*"].value == 6


def test_a_heavy_site_has_as_many_lanes_as_workers_that_it_takes_and_each_a_partition() -> None:
    found = needs(rate=5_000.0, peak=40_000.0, heavy={"google": 0.5})
    assert found["lanes of google"].value == 18  # 20,000 a second, 1,111 by each worker
    assert found["mail.ready.*"].value >= 18


def test_disk_grows_with_the_rate_the_size_and_the_copies() -> None:
    one = needs(mail_bytes=30_000)["disk of Kafka"].value
    assert needs(mail_bytes=30_000, rate=20.0)["disk of Kafka"].value == pytest.approx(2 * one, abs=1)
    assert needs(mail_bytes=30_000, replication=1)["disk of Kafka"].value == pytest.approx(one / 3, abs=1)
    assert needs(mail_bytes=300_000)["disk of Kafka"].value > 6 * one


def test_memory_is_bounded_however_large_mails_are() -> None:
    small, large = needs(mail_bytes=1_000), needs(mail_bytes=10_000_000)
    assert small["memory of a deliver"].value < large["memory of a deliver"].value == 150 + 3 * 3 * 48


@given(st.floats(0.01, 50_000), st.floats(1, 20), st.floats(0.01, 1), st.integers(1, 40_000_000))
def test_there_are_always_partitions_to_spare_for_the_workers(
    rate: float, factor: float, part: float, mail_bytes: int
) -> None:
    found = {n.what: n for n in size(Load(rate=rate, peak=rate * factor, heavy={"big": part}, mail_bytes=mail_bytes))}
    for service, topic in (("compose", "mail.send.*"), ("deliver", "mail.ready.*"), ("record", "mail.ready.*")):
        assert found[topic].value >= found[service].value
    assert found["mail.ready.*"].value >= found["lanes of big"].value
    assert found["mail.ready.*"].value in STEPS or found["mail.ready.*"].value > STEPS[-1]
    assert all(need.value >= 1 and need.why for need in found.values())


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"rate": 0.0}, "above 0"),
        ({"rate": 200.0}, "not above the peak"),
        ({"heavy": {"a": 0.7, "b": 0.5}}, "100 % together"),
        ({"heavy": {"a": 0.0}}, "above 0 %"),
        ({"mail_bytes": 0}, "one byte"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused_in_words(load: dict[str, object], words: str) -> None:
    with pytest.raises(RuleError, match=words):
        needs(**load)
