"""Every keeper of plans to drive mails again, the memory twin and ClickHouse itself; and what ClickHouse selects."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluice.adapters.clickhouse import migrations
from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.clickhouse.redrive_mails import ClickHouseMails
from sluice.adapters.clickhouse.redrive_plans import ClickHousePlans
from sluice.adapters.embedded.clickhouse_process import EmbeddedClickHouse
from sluice.adapters.memory.redrive import MemoryPlans
from sluice.domain.outcome import Outcome, Source
from sluice.domain.redrive import Action, Candidate, Count, Item, Options, Plan, Word, exclusion, standing
from sluice.ports.outcomes import Recorded
from sluice.ports.redrive import Limits, Plans, PredicateRefused, Progress, Reached, TooMany

AT = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    with EmbeddedClickHouse.on_free_port(tmp_path_factory.mktemp("clickhouse")) as running:
        store = ClickHouse(Target(running.url, database="plans"))
        migrations.apply(store)
        yield store
        store.close()


@pytest.fixture(params=["memory", pytest.param("clickhouse", marks=pytest.mark.slow)])
def plans(request: pytest.FixtureRequest) -> Plans:
    if request.param == "memory":
        return MemoryPlans()
    store: ClickHouse = request.getfixturevalue("clickhouse")
    for table in ("redrive_plans", "redrive_mails", "redrive_batches", "redrive_audit"):
        store.command(f"TRUNCATE TABLE plans.{table}")
    return ClickHousePlans(store)


def mail(number: int, site: str = "a.example", category: str = "spam_block") -> Candidate:
    return Candidate(
        tenant_id="acme",
        message_id=f"m{number:03}",
        state="bounced",
        site=site,
        category=category,
        content=Source("mail.send.normal", 1, number),
    )


def plan(plan_id: str, mails: int = 0, at: datetime = AT, **fields: object) -> Plan:
    return Plan(
        **{"plan_id": plan_id, "tenant_id": "acme", "predicate": "site = 'a''b{c}%s'", "created_at": at,
           "created_by": "jo", "mails": mails, **fields}
    )  # fmt: skip


def word(plan_id: str, action: Action, run: str = "", options: Options = Options()) -> Word:  # noqa: B008  frozen
    return Word(plan_id=plan_id, action=action, by="jo", host="h", at=AT, run=run, options=options, note="why 'so'")


def test_a_plan_is_found_with_its_list(plans: Plans) -> None:
    items = [Item(number, mail(number, "b.example" if number % 3 else "a.example")) for number in range(5)]
    left_out = [Item(0, Candidate(tenant_id="acme", message_id="x", state="delivered"), "delivered")]
    kept = plan("p1", 5, excluded={"delivered": 1})
    plans.keep(kept, [*items, *left_out])

    found = plans.plan("p1")
    assert found is not None
    assert found.counts == [Count("b.example", "spam_block", 3), Count("a.example", "spam_block", 2)]
    assert (found.predicate, found.excluded, found.mails, found.created_at) == (kept.predicate, {"delivered": 1}, 5, AT)
    assert plans.items("p1", 0, 100) == items
    assert plans.items("p1", 3, 1) == items[3:4]
    assert plans.items("p1", 5, 10) == []
    assert plans.items("p1", 0, 10, excluded="delivered") == left_out
    assert plans.plan("p2") is None
    assert plans.items("p2", 0, 10) == []


def test_plans_are_listed_the_latest_first(plans: Plans) -> None:
    for number, plan_id in enumerate(("p1", "p2", "p3")):
        plans.keep(plan(plan_id, at=AT + timedelta(minutes=number)), [])
    assert [found.plan_id for found in plans.plans()] == ["p3", "p2", "p1"]


def test_progress_is_how_far_the_list_is_dealt_with(plans: Plans) -> None:
    assert plans.progress("p1") == Progress()
    plans.reached("p1", Reached("r1", 0, 500, 499, {"delivered": 1}))
    plans.reached("p1", Reached("r1", 500, 900, 398, {"delivered": 1, "suppressed": 1}))
    plans.reached("p2", Reached("r9", 0, 7, 7))
    found = plans.progress("p1")
    assert (found.next, found.skipped) == (900, {"delivered": 2, "suppressed": 1})
    assert found.at is not None
    assert plans.progress("p2").next == 7


def test_a_batch_that_two_drivers_reached_counts_once(plans: Plans) -> None:
    plans.reached("p1", Reached("r1", 0, 100, 99, {"delivered": 1}))
    plans.reached("p1", Reached("r2", 0, 100, 99, {"delivered": 1}))
    assert (plans.progress("p1").next, plans.progress("p1").skipped) == (100, {"delivered": 1})


def test_words_are_told_in_the_order_they_were_stored_and_say_how_a_plan_stands(plans: Plans) -> None:
    options = Options(rate="5/s", egress="cold", template_version=3, priority="bulk")
    said = [word("p1", "plan"), word("p1", "start", "r1", options), word("p1", "pause")]
    for each in said:
        plans.say(each)
        plans.say(word("p2", "cancel"))
    found = plans.words("p1")
    assert [(w.action, w.run, w.options, w.by, w.host, w.note) for w in found] == [
        (w.action, w.run, w.options, w.by, w.host, w.note) for w in said
    ]
    assert [w.at for w in found] == sorted(w.at for w in found)
    stands = standing(found)
    assert (stands.state, stands.run, stands.options) == ("paused", "r1", options)


SENT = Source("mail.send.bulk", 3, 77)
NOW = datetime.now(UTC).replace(microsecond=0)
LATER = {"event_time": NOW}


def story() -> Iterator[dict[str, Any]]:
    """A mail for every reason, and two that may be driven; all of acme's but one."""
    for name in (
        "good",
        "again",
        "late",
        "delivered",
        "doubt",
        "suppressed",
        "driven",
        "waiting",
        "expired",
        "claimed",
    ):
        until = {"expires_at": NOW - timedelta(minutes=1)} if name == "expired" else {}
        yield {"message_id": name, "event_type": "composed", "source": SENT, **until}
        if name != "waiting":
            yield {"message_id": name, "event_type": "attempted", "attempt": 1}
    for name in ("good", "again", "delivered", "suppressed", "driven", "expired", "claimed"):
        yield {"message_id": name, "event_type": "bounced", "category": "spam_block", "attempt": 1}
    yield {"message_id": "late", "event_type": "expired", "category": "expired", **LATER}
    yield {"message_id": "delivered", "event_type": "delivered", "attempt": 2, **LATER}
    yield {"message_id": "doubt", "event_type": "in_doubt", "attempt": 1}
    yield {"message_id": "doubt", "event_type": "bounced", "attempt": 2, **LATER}
    yield {"message_id": "driven", "event_type": "redriven", "redrive_plan": "p0", **LATER}
    yield {"message_id": "again", "event_type": "redriven", "reason": "released by jo", **LATER}
    yield {"message_id": "repeat", "event_type": "rejected", "category": "duplicate", "source": SENT}
    yield {"message_id": "unsaid", "event_type": "bounced", "category": "spam_block"}
    yield {"message_id": "theirs", "event_type": "bounced", "category": "spam_block", "tenant_id": "globex"}


@pytest.fixture(scope="module")
def mails(clickhouse: ClickHouse) -> ClickHouseMails:
    fixed = {
        "tenant_id": "acme",
        "site": "a.example",
        "stream": "transactional",
        "event_time": NOW - timedelta(hours=1),
    }
    told = [
        Recorded(Outcome(event_id=str(n), recipient_hash=f"h-{entry['message_id']}", **{**fixed, **entry}), 0, n)  # type: ignore[arg-type]
        for n, entry in enumerate(story())
    ]
    ClickHouseOutcomes(clickhouse)._store("told", told, [])
    clickhouse.command(
        "INSERT INTO plans.ref_suppressions (tenant_id, stream, recipient_hash, removed, log_offset) VALUES "
        "('acme', 'transactional', 'h-suppressed', 0, 1), ('acme', 'broadcast', 'h-good', 0, 2), "
        "('globex', '', 'h-again', 0, 3), ('acme', '', 'h-late', 0, 4), ('acme', '', 'h-late', 1, 5)"
    )
    return ClickHouseMails(clickhouse, ClickHousePlans(clickhouse))


def selected(mails: ClickHouseMails, predicate: str, tenant: str = "acme", **fields: Any) -> list[Candidate]:
    return mails.select(predicate, tenant, **{"dead_letters": False, "limits": Limits(), **fields})


@pytest.mark.slow
def test_every_mail_selected_is_driven_or_left_out_for_its_reason(
    clickhouse: ClickHouse, mails: ClickHouseMails
) -> None:
    other = ClickHousePlans(clickhouse)
    other.keep(plan("other", 1), [Item(0, Candidate(tenant_id="acme", message_id="claimed", state="bounced"))])
    other.say(word("other", "start", "r1"))
    found = selected(mails, "event_time > now() - INTERVAL 1 DAY")
    reasons = {m.message_id: exclusion(m, plan="p", now=NOW, first_kept={("mail.send.bulk", 3): 77}) for m in found}
    other.say(word("other", "cancel"))
    assert reasons == {
        "good": None, "again": None, "late": None, "delivered": "delivered", "doubt": "in_doubt",
        "suppressed": "suppressed", "driven": "driven", "waiting": "waiting", "expired": "expired",
        "claimed": "driven", "repeat": "duplicate", "unsaid": "content",
    }  # fmt: skip
    assert {m.content for m in found if m.message_id != "unsaid"} == {SENT}
    assert exclusion(found[0], plan="p", now=NOW, first_kept={("mail.send.bulk", 3): 78}) is not None
    known = mails.look([("acme", "driven"), ("acme", "claimed"), ("acme", "nobody"), ("globex", "good")])
    assert {name: m.driven_by for name, m in known.items()} == {("acme", "driven"): "p0", ("acme", "claimed"): ""}


@pytest.mark.slow
@pytest.mark.parametrize(
    "predicate",
    [
        "true",
        "tenant_id = 'globex'",
        "tenant_id != 'acme' OR true",
        "NOT tenant_id = 'acme'",
        "1 = 1 OR message_id = 'theirs'",
    ],
)
def test_no_predicate_reaches_another_tenants_mail(mails: ClickHouseMails, predicate: str) -> None:
    assert all(found.tenant_id == "acme" for found in selected(mails, predicate))
    assert [found.message_id for found in selected(mails, "true", "globex")] == ["theirs"]
    assert "theirs" in [found.message_id for found in selected(mails, "category = 'spam_block'", "")]


@pytest.mark.slow
def test_what_is_allowed_in_a_predicate_is_understood(mails: ClickHouseMails) -> None:
    predicate = (
        "event_type IN ('bounced', 'expired') AND NOT (smtp_code BETWEEN 550 AND 559 OR smtp_text ILIKE '%it''s%') "
        "AND event_time >= toStartOfDay(yesterday()) AND toDate(event_time) <= today() "
        "AND event_time < now() + INTERVAL 1 DAY "
        "AND startsWith(lower(site), 'a.') AND match(category, '^spam_') AND empty(tags) AND NOT has(tags, 'x') "
        "AND metadata['a'] = '' AND next_attempt_at IS NULL AND attempt + 1 > -1 AND position(site, 'exam') > 0 "
        "AND toHour(event_time) < 24 AND length(site) > 3 AND message_id LIKE 'g%'"
    )
    assert [found.message_id for found in selected(mails, predicate)] == ["good"]


@pytest.mark.slow
def test_what_the_store_cannot_follow_and_what_is_too_much_is_told(mails: ClickHouseMails) -> None:
    with pytest.raises(PredicateRefused, match="cannot follow"):
        selected(mails, "smtp_code = 'many'")
    with pytest.raises(TooMany, match="2 mails"):
        selected(mails, "true", limits=Limits(mails=2))
    with pytest.raises(TooMany, match="rows"):
        selected(mails, "true", limits=Limits(rows=3))
    with pytest.raises(PredicateRefused, match=r"'sleep'.*line 1, column 10"):
        selected(mails, "true AND sleep(3)")


@pytest.mark.slow
def test_results_count_what_became_of_driven_mails_and_repeats_apart(
    clickhouse: ClickHouse, mails: ClickHouseMails
) -> None:
    made = [
        {"message_id": "n1", "event_type": "delivered", "redrive_of": "good"},
        {"message_id": "n2", "event_type": "composed", "redrive_of": "again"},
        {"message_id": "n3", "event_type": "rejected", "category": "duplicate", "redrive_of": "good"},
        {"message_id": "good", "event_type": "redriven"},
    ]
    told = [
        Recorded(Outcome(event_id=f"r{n}", event_time=NOW, tenant_id="acme", redrive_plan="p7", **entry), 1, n)  # type: ignore[arg-type]
        for n, entry in enumerate(made)
    ]
    ClickHouseOutcomes(clickhouse)._store("made", told, [])
    found = mails.results(plan("p7", 2, at=NOW - timedelta(minutes=1)))
    assert (found.states, found.repeats) == ({"delivered": 1, "waiting": 1}, 1)
