"""A worker that stood still does nothing that another may have done meanwhile, until Kafka has counted it in again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from tests.support.deliver import Worker

from sluice.adapters.kafka.membership import LEASE_S, InstanceTaken, Membership
from sluice.domain.smtp import Replied
from sluice.ports.mailer import Transaction

REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER = 27, 25


class Time:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def heartbeat() -> HeartbeatRequest:
    return HeartbeatRequest("group", 1, "member")


def join(member: str = "") -> JoinGroupRequest:
    return JoinGroupRequest("group", 12_000, 60_000, member, "pod-1", "consumer", [])


async def answered(membership: Membership, request: object, code: int, after: float, time: Time) -> None:
    """Send a request that the broker answers ``after`` seconds later."""

    async def send(_: object) -> object:
        time.now += after
        return SimpleNamespace(error_code=code)

    await membership.witnessing(send)(request)


def test_nobody_is_a_member_before_kafka_has_said_so() -> None:
    assert not Membership(12.0, Time()).certain


@pytest.mark.parametrize("request_", [heartbeat(), SyncGroupRequest("group", 1, "member", None, [])])
async def test_a_member_is_certain_for_a_session_from_when_it_asked(request_: object) -> None:
    """From when it asked, not from when it was answered: it may have stood still in between."""
    time = Time()
    membership = Membership(12.0, time)
    await answered(membership, request_, 0, 5.0, time)
    assert membership.certain
    time.now += 6.9
    assert membership.certain
    time.now += 0.2
    assert not membership.certain


@pytest.mark.parametrize("code", [UNKNOWN_MEMBER, REBALANCE_IN_PROGRESS])
async def test_a_refusal_makes_nobody_certain(code: int) -> None:
    time = Time()
    membership = Membership(12.0, time)
    await answered(membership, heartbeat(), code, 0.0, time)
    assert not membership.certain


async def test_what_is_no_sign_of_life_to_the_broker_is_none_here() -> None:
    time = Time()
    membership = Membership(12.0, time)
    await answered(membership, object(), 0, 0.0, time)
    assert not membership.certain


async def joined(time: Time) -> Membership:
    """A static member that has waited out whoever was there before."""
    membership = Membership(12.0, time, "pod-1")
    await answered(membership, join(), 0, 0.1, time)
    await answered(membership, SyncGroupRequest("group", 1, "member", "pod-1", []), 0, 0.1, time)
    assert not membership.certain, "who was there before may not have been told yet"
    time.now += LEASE_S
    await answered(membership, heartbeat(), 0, 0.0, time)
    assert membership.certain
    return membership


async def test_a_static_member_waits_until_whoever_had_its_name_is_not_certain_any_more() -> None:
    """A second process with its instance id gets the partitions at once, without a session's end."""
    time = Time()
    first = await joined(time)
    second = Membership(12.0, time, "pod-1")
    await answered(second, join(), 0, 0.0, time)
    for _ in range(4 * int(LEASE_S)):
        await answered(second, heartbeat(), 0, 0.0, time)
        assert not (first.certain and second.certain), "both would send"
        time.now += 0.5
    assert second.certain
    assert not first.certain


async def test_a_rebalance_makes_no_static_member_wait() -> None:
    time = Time()
    membership = await joined(time)
    await answered(membership, join("member"), 0, 0.0, time)
    assert membership.certain


async def test_who_has_lost_its_name_to_another_says_so_and_does_not_take_it_back() -> None:
    """They would take it from each other in turns."""
    time = Time()
    membership = await joined(time)
    await answered(membership, heartbeat(), UNKNOWN_MEMBER, 0.0, time)
    assert not membership.certain
    assert isinstance(membership.taken, InstanceTaken)
    with pytest.raises(KafkaError, match="pod-1"):
        await answered(membership, join(), 0, 0.0, time)


async def test_who_was_silent_for_a_session_was_given_up_and_may_join_again() -> None:
    time = Time()
    membership = await joined(time)
    time.now += 12.5
    await answered(membership, heartbeat(), UNKNOWN_MEMBER, 0.0, time)
    assert membership.taken is None
    await answered(membership, join(), 0, 0.0, time)


async def test_what_was_asked_under_an_id_that_was_given_up_tells_nothing() -> None:
    time = Time()
    membership = await joined(time)
    await answered(membership, join(), 0, 0.0, time)
    await answered(membership, heartbeat(), UNKNOWN_MEMBER, 0.0, time)
    assert membership.taken is None


async def test_a_dynamic_member_is_never_taken_for_replaced() -> None:
    time = Time()
    membership = Membership(12.0, time)
    await answered(membership, heartbeat(), 0, 0.0, time)
    await answered(membership, heartbeat(), UNKNOWN_MEMBER, 0.0, time)
    assert membership.taken is None


async def test_nothing_is_sent_while_another_may_have_the_mail() -> None:
    worker = Worker()
    books = worker.handler._books
    books.ours = lambda: False
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    await asyncio.sleep(0.2)
    assert worker.mailer.taken == []
    assert worker.outcomes() == [], "an attempt that is not made must not be told to whoever has the mail"
    books.ours = lambda: True
    await asyncio.sleep(0.2)
    await worker.settle()
    assert len(worker.mailer.taken) == 1
    assert worker.done == [0]
    await worker.close()


async def test_what_was_handed_back_while_it_was_uncertain_is_never_sent() -> None:
    worker = Worker()
    worker.handler._books.ours = lambda: False
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    leaving = asyncio.create_task(worker.handler.revoked({record.partition}))
    for _ in range(30):
        await asyncio.sleep(0.02)
        await worker.clock.advance(0.05)
    await leaving
    assert worker.mailer.taken == []
    assert worker.done == []
    await worker.close()


async def test_a_mail_is_not_put_off_by_one_who_stood_still() -> None:
    """Its new owner may have delivered it: a copy out of the wheel would be a mail of its own."""
    worker = Worker()
    books = worker.handler._books

    async def stand_still(_: Transaction) -> Replied:
        books.ours = lambda: False
        return Replied("rcpt", 451, "later")

    worker.mailer.answer("m0@site.example", stand_still)
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    await asyncio.sleep(0.2)
    assert [outcome.event_type for outcome in worker.outcomes()] == ["attempted"], "it would cover up a later attempt"
    assert worker.waiting() == []
    leaving = asyncio.create_task(worker.handler.revoked({record.partition}))
    for _ in range(30):
        await asyncio.sleep(0.02)
        await worker.clock.advance(0.05)
    await leaving
    assert worker.waiting() == []
    assert worker.done == []
    await worker.close()


async def test_an_attempt_that_is_handed_back_before_its_content_is_sent_is_told_to_the_next_owner() -> None:
    """Written down it would be in doubt otherwise, and held where the sender wants that, at each rebalance."""
    worker = Worker()
    books = worker.handler._books
    asked = 0

    def ours() -> bool:
        nonlocal asked
        asked += 1
        return asked == 1

    books.ours = ours
    record = worker.record(worker.envelope("m0"))
    await worker.take(record)
    assert [outcome.event_type for outcome in worker.outcomes()] == ["attempted"]
    leaving = asyncio.create_task(worker.handler.revoked({record.partition}))
    for _ in range(30):
        await asyncio.sleep(0.02)
        await worker.clock.advance(0.05)
    await leaving
    assert worker.mailer.taken == []
    attempts = worker.handler._attempts
    assert attempts.take_unsent(record.partition) == [(record.topic, record.offset)]
    assert attempts.take_unsent(record.partition) == [], "told twice, it would close a later attempt"
    await worker.close()
