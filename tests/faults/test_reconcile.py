"""The reckoning finds each kind of broken promise, in records that were doctored to hold exactly one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sluice.local.torture.plan import Fault
from sluice.local.torture.reconcile import in_flight, reconcile
from sluice.local.torture.records import Copy, Evidence, Injected, Row

PLACES = iter(range(1_000_000))


def row(message_id: str, event_type: str, at: float, node: str = "deliver-1", **more: Any) -> Row:
    return Row(message_id, event_type, at, node, (0, next(PLACES)), **more)


def evidence(rows: list[Row], copies: list[Copy], **more: Any) -> Evidence:
    """What a run leaves whose log and rollup agree with the rows, unless ``more`` says otherwise."""
    rollup: dict[str, int] = {}
    for each in rows:
        rollup[each.event_type] = rollup.get(each.event_type, 0) + 1
    values: dict[str, Any] = {
        "accepted": {f"m{number}": 100.0 + number for number in range(3)},
        "rows": tuple(rows),
        "copies": tuple(copies),
        "logged": frozenset(each.place for each in rows),
        "rollup": rollup,
    }
    return Evidence(**{**values, **more})


def sound() -> tuple[list[Row], list[Copy]]:
    """Three mails: one delivered, one that was in doubt and came twice, one that bounced."""
    rows = [
        row("m0", "attempted", 101.0),
        row("m0", "delivered", 101.5),
        row("m1", "attempted", 102.0),
        row("m1", "in_doubt", 104.0, "deliver-2", abandoned=True),
        row("m1", "attempted", 104.0, "deliver-2"),
        row("m1", "delivered", 105.0, "deliver-2"),
        row("m2", "attempted", 106.0),
        row("m2", "bounced", 106.1),
    ]
    copies = [Copy("m0", 101.4, True, "250"), Copy("m1", 102.5, True), Copy("m1", 104.5, True, "250")]
    return rows, copies


def test_records_that_agree_break_nothing() -> None:
    rows, copies = sound()
    injected = Injected(Fault(1.0, "kill", "deliver-1"), 103.0, 103.0)
    found = reconcile(evidence(rows, copies, injected=(injected,)))
    assert found.good
    assert (found.accepted, found.arrived, found.copies, found.most_copies) == (3, 2, 1, 2)
    assert (found.in_doubt, found.abandoned, found.unanswered) == (1, 1, 0)
    assert found.in_flight == 1
    assert found.unheard == 1
    assert found.endings == {"delivered": 2, "bounced": 1}


def test_a_copy_that_the_server_refused_is_none() -> None:
    rows, copies = sound()
    assert reconcile(evidence(rows, [*copies, Copy("m0", 101.0, False, "421")])).copies == 1


def _lost(rows: list[Row], copies: list[Copy]) -> Evidence:
    kept = [each for each in rows if each.message_id != "m0"]
    return evidence(kept, [copy for copy in copies if copy.message_id != "m0"])


def _unsettled(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence([each for each in rows if (each.message_id, each.event_type) != ("m0", "delivered")], copies)


def _phantom(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence(rows, [copy for copy in copies if copy.message_id != "m0"])


def _refused_copy_only(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence(rows, [Copy("m0", 101.4, False, "421"), *copies[1:]])


def _unexplained(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence(rows, [*copies, Copy("m0", 108.0, True, "250")])


def _third_copy_of_one_doubt(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence(rows, [*copies, Copy("m1", 108.0, True, "250")])


def _held_twice(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence(rows, copies, holding=frozenset(("m1",)))


def _stranger(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence(rows, [*copies, Copy("who", 108.0, True, "250")])


def _told_to_be_refused(rows: list[Row], copies: list[Copy]) -> Evidence:
    """The publisher was told that the mail is certainly not in the log."""
    accepted = {"m1": 101.0, "m2": 102.0}
    return evidence(rows, copies, accepted=accepted, refused=frozenset(("m0",)))


def _counted_twice(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence([*rows, rows[0]], copies)


def _gap(rows: list[Row], copies: list[Copy]) -> Evidence:
    return evidence(rows, copies, logged=frozenset((*(each.place for each in rows), (3, 77))))


def _rollup(rows: list[Row], copies: list[Copy]) -> Evidence:
    made = evidence(rows, copies)
    return msgspec.structs.replace(made, rollup={**made.rollup, "delivered": 3})


DOCTORED: list[tuple[str, Callable[[list[Row], list[Copy]], Evidence], list[str]]] = [
    ("lost", _lost, ["m0"]),
    ("unsettled", _unsettled, ["m0"]),
    ("phantom", _phantom, ["m0"]),
    ("phantom", _refused_copy_only, ["m0"]),
    ("unexplained", _unexplained, ["m0"]),
    ("unexplained", _third_copy_of_one_doubt, ["m1"]),
    ("held twice", _held_twice, ["m1"]),
    ("stranger", _stranger, ["who"]),
    ("stranger", _told_to_be_refused, ["m0"]),
    ("counted twice", _counted_twice, []),
    ("gap", _gap, ["mail.outcome 3:77"]),
    ("rollup", _rollup, ["delivered: 2 rows, 3 in the rollup"]),
]


@pytest.mark.parametrize(("name", "doctor", "examples"), DOCTORED, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_promise_is_found(
    name: str, doctor: Callable[[list[Row], list[Copy]], Evidence], examples: list[str]
) -> None:
    found = reconcile(doctor(*sound()))
    breach = next((breach for breach in found.breaches if breach.name == name), None)
    assert breach is not None, f"only {[breach.name for breach in found.breaches]} found"
    assert breach.count == 1
    assert not examples or breach.examples == examples


def test_of_what_is_wrong_the_story_is_told() -> None:
    rows, copies = sound()
    rows.append(row("m0", "in_doubt", 101.2, detail="of its record"))
    (breach,) = reconcile(evidence(rows, [*copies, Copy("m0", 108.0, True), Copy("m0", 109.0, True)])).breaches
    assert breach.stories == [
        "m0",
        "    0.000 s  accepted",
        "    1.000 s  attempted deliver-1",
        "    1.200 s  in_doubt deliver-1 of its record",
        "    1.400 s  at the server: kept, answered 250",
        "    1.500 s  delivered deliver-1",
        "    8.000 s  at the server: kept, answered None",
        "    9.000 s  at the server: kept, answered None",
    ]


def test_a_mail_without_an_acknowledgement_may_be_there_or_not() -> None:
    """The broker stored it, and its answer was lost: that is what the publisher was told."""
    rows, copies = sound()
    accepted = {"m1": 101.0, "m2": 102.0}
    assert reconcile(evidence(rows, copies, accepted=accepted, uncertain=frozenset(("m0", "m7")))).good


def test_a_held_mail_is_neither_lost_nor_without_an_ending() -> None:
    rows, copies = sound()
    held = [*(each for each in rows if each.message_id != "m0"), row("m0", "in_doubt", 103.0), row("m0", "held", 103.0)]
    found = reconcile(evidence(held, [copy for copy in copies if copy.message_id != "m0"], holding=frozenset(("m0",))))
    assert found.good
    assert found.endings["held"] == 1


def test_in_flight_is_what_the_worker_had_begun_and_not_concluded() -> None:
    rows = [
        row("m0", "attempted", 1.0),
        row("m0", "delivered", 2.0),
        row("m1", "attempted", 1.5),
        row("m2", "attempted", 1.6, "deliver-2"),
        row("m3", "in_doubt", 1.7, abandoned=True),
        row("m3", "attempted", 1.7),
        row("m4", "attempted", 9.0),
    ]
    assert in_flight(rows, "deliver-1", 0.0, 3.0) == {"m1", "m3"}
    assert in_flight(rows, "deliver-1", 0.0, 1.2) == {"m0"}
    assert in_flight(rows, "deliver-1", 1.6, 3.0) == {"m3"}


def test_what_was_in_flight_at_one_death_is_not_at_the_next() -> None:
    rows, copies = sound()
    kills = [Injected(Fault(1.0, "kill", "deliver-1"), at, at) for at in (103.0, 105.5)]
    assert [each.in_flight for each in reconcile(evidence(rows, copies, injected=tuple(kills))).recoveries] == [1, 0]


def test_recovery_is_measured_by_what_arrived() -> None:
    rows, _ = sound()
    copies = [Copy("m0", 100.5, True, "250"), Copy("m1", 101.2, True, "250"), Copy("m2", 112.2, True, "250")]
    injected = Injected(Fault(1.0, "broker", "kafka", 2.0), 101.5, 103.5)
    (recovery,) = reconcile(evidence(rows, copies, injected=(injected,))).recoveries
    assert recovery.silent == pytest.approx(11.0)
    assert recovery.caught_up == 0.0, "m0 and m1 were accepted before the fault, and were there"
    later = msgspec.structs.replace(injected, at=102.5)
    (recovery,) = reconcile(evidence(rows, copies, injected=(later,))).recoveries
    assert recovery.caught_up == pytest.approx(9.7)
