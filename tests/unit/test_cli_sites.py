"""``sluice sites`` without Kafka: what the rules say, what is refused; and how a lane's state is put into words."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from tests.support.scripted_dns import ScriptedDns
from typer.testing import CliRunner

from sluice.adapters.embedded.ports import free_port
from sluice.adapters.rules.loader import load_rules
from sluice.commands.root import app
from sluice.commands.site_rules import triggers, ways_out
from sluice.commands.site_states import Heard, SiteView, disagreement, view_site
from sluice.domain.adaptive import Pressure
from sluice.domain.egress import Egresses
from sluice.domain.lanes import LaneState
from sluice.domain.reference import SiteControl
from sluice.domain.shaping import Rate
from sluice.domain.site import Penalty, Site, lane_partition
from sluice.domain.triggers import Trigger, Triggers

NOW = datetime(2026, 5, 1, 9, tzinfo=UTC)
AT = NOW.timestamp()
BIG = Site(name="big", lanes=2, connections=6, rate=Rate(100, 1, 10))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kafka where nobody listens."""
    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_port()}")
    yield
    structlog.reset_defaults()


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDns]:
    """A name server in a loop of its own: the command has one too."""
    loop, server = asyncio.new_event_loop(), ScriptedDns()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("SLUICE_DNS_SERVERS", asyncio.run_coroutine_threadsafe(_started(server), loop).result(5))
    yield server
    loop.call_soon_threadsafe(server.stop)
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


async def _started(server: ScriptedDns) -> str:
    for _ in range(20):
        try:
            return await server.start()
        except OSError:
            # The port that was free for UDP was not for TCP.
            server.stop()
    raise AssertionError("no port is free for both UDP and TCP")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["sites", *arguments])


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_domain_that_the_rules_name_is_explained_without_kafka_or_dns() -> None:
    found = told("explain", "Jo@GMAIL.com", "--offline")
    assert (found["site"], found["by"], found["match"]) == ("google", "domain", "gmail.com")
    assert found["route"]["kind"] == "mx"
    assert found["listed_in"] == "built-in sites.toml"
    limits = {limit["name"]: limit for limit in found["limits"]}
    assert limits["tls"] == {"name": "tls", "value": "required", "source": "site google, built-in sites.toml"}
    assert limits["idle"]["source"] == "default, built-in sites.toml"
    assert {lane["state"] for lane in found["lanes"]} == {"unknown"}
    assert found["sends"] == "unknown"
    assert "Kafka cannot be reached" in found["notes"][0]
    shown = run("explain", "gmail.com", "--offline")
    assert shown.exit_code == 0
    assert "google: the rules name the domain, as gmail.com (built-in sites.toml)" in shown.stdout
    assert "Kafka cannot be reached" in shown.stderr


def test_what_replies_mean_at_a_site_and_what_they_set_off_is_listed_with_the_reason() -> None:
    found = told("explain", "yahoo.com", "--offline")
    rules = {rule["id"]: rule for rule in found["bounce_rules"]}
    (named,) = [rule for rule in rules.values() if rule["why"] == "names this site"]
    assert named["source"] == "built-in bounces.toml"
    assert "list.dnsbl" in rules
    assert rules["list.dnsbl"]["why"] == "any site"
    triggers = {trigger["id"]: trigger for trigger in found["triggers"]}
    assert triggers["yahoo.user_complaints"]["why"] == "names this site"
    assert triggers["yahoo.user_complaints"]["does"] == "suspend lane for 2 h"
    assert triggers["any.closing"]["when"] == "code 421, 10 times in 1 min"
    assert not [name for name in triggers if name.startswith(("google.", "microsoft."))]
    assert next(iter(triggers)).startswith("yahoo.")
    shown = run("explain", "yahoo.com", "--offline").stdout
    assert "any.closing" in shown
    assert "list.dnsbl" not in shown.partition("bounce rules")[2]
    assert "list.dnsbl" in run("explain", "yahoo.com", "--offline", "--rules").stdout.partition("bounce rules")[2]


def test_a_rule_of_ones_own_is_listed_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "triggers.toml").write_text(
        '[[trigger]]\nid = "mine"\nsites = ["yahoo"]\ncodes = ["421"]\naction = "switch_egress"\n'
        'egress = "b"\nlasts = "1h"\n[[trigger]]\nid = "any.closing"\ndisabled = true\n'
    )
    monkeypatch.setenv("SLUICE_RULES_DIR", str(tmp_path))
    triggers = {trigger["id"]: trigger for trigger in told("explain", "yahoo.com", "--offline")["triggers"]}
    assert triggers["mine"]["source"] == str(tmp_path / "triggers.toml")
    assert triggers["mine"]["does"] == "switch egress to b for 1 h"
    assert "any.closing" not in triggers


def test_where_mail_leaves_from_and_whose_turn_it_is_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sites.toml").write_text('[[site]]\nname = "yahoo"\ndomains = ["yahoo.com"]\negress = "warm"\n')
    monkeypatch.setenv("SLUICE_RULES_DIR", str(tmp_path))
    monkeypatch.setenv("SLUICE_EGRESSES", "a=192.0.2.1 b=192.0.2.2+2001:db8::2?ehlo=out.example&pool=warm c=?pool=warm")
    monkeypatch.setenv("SLUICE_PRIORITY_WEIGHTS", "9:3:1")
    monkeypatch.setenv("SLUICE_PRIORITY_RESERVE", "0.3")
    found = told("explain", "yahoo.com", "--offline")
    assert [way["egress"] for way in found["leaves_from"]] == ["b", "c"]
    assert found["leaves_from"][0]["addresses"] == ["192.0.2.2", "2001:db8::2"]
    assert found["turns"] == {"weights": [9, 3, 1], "reserved": 3, "connections": 10}
    shown = run("explain", "yahoo.com", "--offline").stdout
    assert "b: from 192.0.2.2, 2001:db8::2, as out.example" in shown
    assert "sites.toml names warm" in shown
    assert "9:3:1; 3 of 10 connections for high alone" in shown


def test_a_lane_that_leaves_from_elsewhere_is_told_with_the_trigger_that_has_it_do_so() -> None:
    trigger = Trigger(id="listed", action="switch_egress", lasts=600.0, codes=("554",))
    rules = msgspec.structs.replace(load_rules(), triggers=Triggers([trigger]))
    egresses = Egresses.parse("a=192.0.2.1 b=192.0.2.2", "host.example")
    stands = view(LaneState(triggered=(("listed", "a", AT + 60.0), ("listed", "b", AT - 1.0))))
    (listed,) = triggers(rules, "big", (), stands)
    assert [(held.lane, held.subject) for held in listed.in_force] == [("big#0", "a")]
    first, second = ways_out(egresses, BIG, rules, stands)
    assert (first.instead, second.instead) == ({"big#0": "b"}, {})


def test_each_limit_names_the_file_that_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sites.toml").write_text(
        '[default]\nidle = "7s"\n[[site]]\nname = "google"\ndomains = ["gmail.com"]\nrate = "unlimited"\n'
    )
    monkeypatch.setenv("SLUICE_RULES_DIR", str(tmp_path))
    found = told("show", "google")
    own = str(tmp_path / "sites.toml")
    limits = {limit["name"]: (limit["value"], limit["source"]) for limit in found["limits"]}
    assert found["listed_in"] == own
    assert found["domains"] == ["gmail.com"]
    assert limits["rate"] == ("unlimited", f"site google, {own}")
    assert limits["idle"] == ("7.0 s", f"default, {own}")
    assert limits["connections"] == ("10", "default, built-in sites.toml")


def test_domains_with_the_same_hosts_are_explained_as_one_site(dns: ScriptedDns) -> None:
    dns.records["shop.example", "MX"] = ["20 mx2.host.example.", "10 mx1.host.example."]
    found = told("explain", "shop.example")
    assert found["mx"]["hosts"][0] == {"preference": 10, "host": "mx1.host.example"}
    assert (found["site"], found["by"], found["listed_in"]) == ("mx1.host.example", "rollup", None)
    assert "all domains with the same hosts are this site" in run("explain", "shop.example").stdout


def test_hosts_that_the_rules_name_tell_the_site(dns: ScriptedDns) -> None:
    dns.records["shop.example", "MX"] = ["1 aspmx.l.google.com."]
    found = told("explain", "shop.example")
    assert (found["site"], found["by"], found["match"]) == ("google", "mx", "google.com")


@pytest.mark.parametrize(
    ("records", "answer", "note"),
    [
        ({("shop.example", "MX"): ["0 ."]}, "null_mx", "mail to it bounces"),
        ({}, "no_such_domain", "mail to it bounces"),
        (None, "failed", "DNS gave no answer (servfail)"),
    ],
)
def test_what_dns_says_instead_of_hosts_is_told(dns: ScriptedDns, records: Any, answer: str, note: str) -> None:
    if records is None:
        dns.broken.add("shop.example")
    else:
        dns.records.update(records)
    found = told("explain", "shop.example")
    assert found["mx"] == {"answer": answer, "hosts": [], "implicit": False}
    assert note in found["notes"][0]


def test_without_dns_a_site_is_not_guessed() -> None:
    found = told("explain", "shop.example", "--offline")
    assert (found["site"], found["lanes"], found["sends"]) == (None, [], "unknown")
    assert "--offline" in found["notes"][0]
    assert "not known without its MX hosts" in run("explain", "shop.example", "--offline").stdout


def test_a_fixed_route_needs_no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_ROUTES", "*=smtp://127.0.0.1:2525?tls=none")
    found = told("explain", "shop.example")
    assert found["route"] == {"kind": "static", "host": "127.0.0.1", "port": 2525, "tls": "none"}
    assert (found["site"], found["by"], found["mx"]["answer"]) == ("shop.example", "itself", "not_asked")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["explain", "nowhere", "--offline"], "only one label"),
        (["show", "gmail.com"], "a domain of the site google"),
        (["suspend", "gmail.com", "--reason", "x"], "a domain of the site google"),
        (["suspend", "google", "--reason", " "], "--reason"),
        (["suspend", "google", "--reason", "x", "--for", "2h", "--until", "2099-01-01T00:00:00Z"], "exclude"),
        (["suspend", "google", "--reason", "x", "--for", "soon"], "no duration"),
        (["suspend", "google", "--reason", "x", "--for", "999999999d"], "no duration"),
        (["suspend", "google", "--reason", "x", "--for", "0s"], "over already"),
        (["suspend", "google", "--reason", "x", "--until", "2020-01-01T00:00:00Z"], "over already"),
        (["suspend", "no such", "--reason", "x"], "no name of a site"),
        (["suspend", "google"], "--reason"),
    ],
)
def test_wrong_usage_is_named(words: list[str], reason: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert reason in done.stderr


@pytest.mark.parametrize("words", [["list"], ["suspend", "google", "--reason", "x"], ["resume", "google"]])
def test_what_needs_kafka_says_so(words: list[str]) -> None:
    done = run(*words)
    assert done.exit_code == 1
    assert done.stderr.startswith("sluice sites: Kafka cannot be reached")


def view(
    state: LaneState | None = None,
    *,
    control: SiteControl | None = None,
    age: float = 1.0,
    site: Site = BIG,
    partitions: int | None = 4,
) -> SiteView:
    heard: dict[str, Heard] = {} if state is None else {f"{site.name}#0": (state, AT - age)}
    return view_site(site, heard=heard, partitions=partitions, control=control, penalty=Penalty(lasts=60.0), now=NOW)


def suspension(until: datetime | None = None) -> SiteControl:
    return SiteControl(site="big", reason="asked to", by="jo@desk", at=NOW, until=until)


def test_a_lane_of_which_nothing_was_told_is_idle_and_has_its_share() -> None:
    first = view().lanes[0]
    assert (first.lane, first.partition, first.state, first.sends) == (
        "big#0",
        lane_partition("big#0", 4),
        "idle",
        "now",
    )
    assert (first.share, first.rate, first.connections_allowed) == ("50/s,burst=5", "50/s,burst=5", 3)


def test_what_was_told_is_shown() -> None:
    first = view(LaneState(queued=7, connections=2, rate="50/s,burst=5", node="a")).lanes[0]
    assert (first.state, first.queued, first.connections, first.node, first.stale) == ("open", 7, 2, "a", False)


def test_a_suspension_halts_every_lane_until_it_is_over() -> None:
    ever, later, over = (
        view(control=suspension(until)) for until in (None, NOW + timedelta(hours=2), NOW - timedelta(seconds=1))
    )
    assert (ever.sends, ever.sends_at) == ("when_resumed", None)
    assert {lane.state for lane in ever.lanes} == {"suspended"}
    assert "asked to (jo@desk)" in ever.lanes[0].why
    assert (later.sends, later.sends_at) == ("later", NOW + timedelta(hours=2))
    assert (over.sends, over.control) == ("now", None)


def test_a_pause_halts_one_lane_and_the_site_still_sends_through_the_other() -> None:
    found = view(LaneState(paused_until=AT + 30, paused_why="its hosts cannot be reached", failed_connects=4))
    first, second = found.lanes
    assert (first.state, first.sends, first.sends_at) == ("paused", "later", NOW + timedelta(seconds=30))
    assert first.why == "its hosts cannot be reached"
    assert (second.state, found.sends) == ("idle", "now")


def test_a_pause_longer_than_the_suspension_is_what_is_waited_for() -> None:
    one = Site(name="big", connections=2)
    state = LaneState(paused_until=AT + 600, paused_why="its hosts cannot be reached")
    found = view(state, control=suspension(NOW + timedelta(seconds=60)), site=one)
    assert found.sends_at == NOW + timedelta(seconds=600)
    assert found.control is not None


def test_a_cut_recovers_with_time_and_a_pause_that_is_over_is_none() -> None:
    cut = LaneState(pressure=Pressure(0.25, AT), paused_until=AT - 1, paused_why="x", rate="12.5/s,burst=1")
    first = view(cut).lanes[0]
    assert (first.state, first.sends, first.connections_allowed, first.rate) == ("slowed", "now", 1, "12.5/s,burst=1")
    assert first.until is not None
    assert first.until > NOW
    healed = LaneState(pressure=Pressure(0.25, AT - 10_000), connections=1)
    assert view(healed).lanes[0].state == "open"


def test_a_penalty_gives_its_own_allowance() -> None:
    first = view(LaneState(penalised_until=AT + 60)).lanes[0]
    assert (first.state, first.connections_allowed, first.rate) == ("penalised", 1, "1/min,burst=1")


def test_a_worker_that_follows_other_rules_is_named() -> None:
    """Unless it follows them no more, or does not say which."""
    following = view(LaneState(queued=7, node="a", rules="0123456789ab"))
    assert disagreement([following], "0123456789ab") == []
    (note,) = disagreement([following], "ba9876543210")
    assert note == "a follows rules 0123456789ab; those read here are ba9876543210"
    assert disagreement([view(LaneState(queued=7, node="a", rules="0123456789ab"), age=60.0)], "ba9876543210") == []
    assert disagreement([view(LaneState(queued=7, node="a"))], "ba9876543210") == []


def test_what_was_told_long_ago_is_marked() -> None:
    first = view(LaneState(queued=7, rate="9/s,burst=1"), age=60.0).lanes[0]
    assert first.stale
    assert first.rate == "50/s,burst=5"


def test_without_kafka_no_state_is_claimed() -> None:
    found = view(partitions=None)
    assert (found.sends, found.lanes[0].state, found.lanes[0].partition) == ("unknown", "unknown", None)
