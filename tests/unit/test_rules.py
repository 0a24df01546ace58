"""The rule files: what is built in, what a folder changes, and how mistakes are told."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from sluice.adapters.rules import load_rules
from sluice.domain.errors import RuleError
from sluice.domain.retry import next_attempt
from sluice.domain.shaping import Rate
from sluice.domain.smtp import Replied

BUILT_IN = load_rules()


@pytest.mark.parametrize(
    ("domain", "hosts", "site"),
    [
        ("gmail.com", ["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"], "google"),
        ("workspace.example", ["smtp.google.com"], "google"),
        ("workspace.example", ["aspmx.l.google.com", "aspmx2.googlemail.com"], "google"),
        ("hotmail.com", ["hotmail-com.olc.protection.outlook.com"], "outlook"),
        ("firm.example", ["firm-example.mail.protection.outlook.com"], "office365"),
        ("firm.example", ["firm-example.o-v1.mx.microsoft"], "mx.microsoft"),
        ("brand.example", ["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"], "yahoo"),
        ("own.example", ["mx01.mail.icloud.com", "mx02.mail.icloud.com"], "apple"),
        ("comcast.net", ["mx1a1.comcast.net"], "comcast"),
        ("gmx.net", ["mx00.emig.gmx.net", "mx01.emig.gmx.net"], "gmx"),
        ("web.de", ["mx-ha02.web.de", "mx-ha03.web.de"], "gmx"),
        ("wanadoo.fr", ["smtp-in.orange.fr"], "orange"),
        ("foxmail.com", ["mx1.qq.com", "mx3.qq.com"], "qq"),
        ("firm.example", ["mxbiz1.qq.com", "mxbiz2.qq.com"], "qq"),
        ("163.com", ["163mx01.mxmail.netease.com", "163mx00.mxmail.netease.com"], "netease"),
        ("firm.example", ["qiye163mx01.mxmail.netease.com", "qiye163mx02.mxmail.netease.com"], "netease"),
        ("firm.example", ["mx1.qiye.aliyun.com", "mx2.qiye.aliyun.com"], "aliyun"),
        ("firm.example", ["mxn.mxhichina.com", "mxw.mxhichina.com"], "aliyun"),
        ("sina.com", ["freemx1.sinamail.sina.com.cn"], "sina"),
        ("fake.example", ["smtp.notgoogle.com"], "smtp.notgoogle.com"),
    ],
)
def test_the_great_sites_are_known(domain: str, hosts: list[str], site: str) -> None:
    assert BUILT_IN.sites.site_for(domain, hosts).name == site


def test_limits_are_those_operators_publish() -> None:
    google = BUILT_IN.sites.named("google")
    assert (google.connections, google.mails_per_connection, google.tls, google.failed_connects) == (
        5,
        50,
        "required",
        5,
    )
    assert BUILT_IN.sites.named("apple").mails_per_connection == 5
    assert BUILT_IN.sites.named("unheard.example").rate == Rate(100, 1, 10)
    assert BUILT_IN.sites.penalty.lasts == 5400


def test_schedules_follow_the_priority() -> None:
    def first(priority: str, pace: str | None = None) -> float | None:
        policy = BUILT_IN.retry.policy_for(priority, pace)  # type: ignore[arg-type]
        return next_attempt(policy, attempt=1, now=0, expires_at=1e9, hint=None, spread=0.5)

    assert first("high", "transient") == 10
    assert first("normal") == 10
    assert first("bulk") == 300
    assert first("high", "quota") == 3600
    assert first("high", "greylisting") == 120
    assert BUILT_IN.retry.lifetimes["bulk"] == 48 * 3600


def test_a_folder_lies_over_the_built_in_files(tmp_path: Path) -> None:
    (tmp_path / "sites.toml").write_text(
        """
        default = { connections = 3 }
        [[site]]
        name = "slow.example"
        domains = ["slow.example"]
        rate = "10/s"
        connections = 2
        [[site]]
        name = "google"
        domains = ["gmail.com"]
        rate = "unlimited"
        """
    )
    (tmp_path / "bounces.toml").write_text(
        """
        [[rule]]
        id = "ours.first"
        category = "policy"
        contains = ["over quota"]
        """
    )
    (tmp_path / "retry.toml").write_text('pace.quota = { delays = ["5s"] }')
    rules = load_rules(tmp_path)
    slow = rules.sites.site_for("slow.example")
    assert (slow.rate, slow.connections, slow.mails_per_connection) == (Rate(10, 1, 1), 2, 100)
    assert rules.sites.named("unheard.example").connections == 3
    assert rules.sites.named("apple").connections == 10
    google = rules.sites.site_for("gmail.com")
    assert (google.rate, google.lanes) == (None, 1)
    assert rules.sites.site_for("other.example", ["smtp.google.com"]).name == "smtp.google.com"
    assert rules.bounces.classify(Replied("rcpt", 552, "over quota"), "x").rule == "ours.first"
    assert rules.bounces.classify(Replied("rcpt", 550, "no such user"), "x").rule == "mailbox.unknown"
    assert rules.retry.policy_for("bulk", "quota").delays == (5.0,)
    assert rules.retry.schedules == BUILT_IN.retry.schedules


def test_an_empty_folder_changes_nothing(tmp_path: Path) -> None:
    rules = load_rules(tmp_path)
    assert rules.sites.groups == BUILT_IN.sites.groups
    assert rules.bounces.rules == BUILT_IN.bounces.rules
    assert rules.retry == BUILT_IN.retry
    assert rules.triggers.triggers == BUILT_IN.triggers.triggers


def test_every_mistake_is_told_with_file_table_and_key(tmp_path: Path) -> None:
    (tmp_path / "sites.toml").write_text(
        """
        [default]
        speed = 3
        [[site]]
        name = "a.example"
        rate = "fast"
        connections = "two"
        [[site]]
        name = "b.example"
        rate = "fast"
        [[site]]
        connections = 0
        [[site]]
        name = "c.example"
        connections = 2
        lanes = 3
        """
    )
    (tmp_path / "bounces.toml").write_text(
        """
        [category]
        spam_block = { fault = "sender", suppress = true }
        [[rule]]
        id = "one"
        category = "nonsense"
        codes = ["550"]
        [[rule]]
        id = "two"
        category = "policy"
        codes = ["5500"]
        [[rule]]
        id = "two"
        category = "policy"
        suspend = "long"
        """
    )
    (tmp_path / "retry.toml").write_text(
        """
        priority.bulk = "slow"
        schedule.bulk = { delays = ["5m", "0s"], lifetime = "2d", jitter = 7 }
        """
    )
    with pytest.raises(RuleError) as caught:
        load_rules(tmp_path)
    told = str(caught.value).splitlines()
    for start in (
        "sites.toml: default.speed: ",
        "sites.toml: site[a.example].connections: ",
        "sites.toml: site[b.example].rate: ",
        "sites.toml: site[3].name: is missing",
        "sites.toml: site[3].connections: ",
        "sites.toml: site[c.example].lanes: ",
        "bounces.toml: category.spam_block.suppress: ",
        "bounces.toml: rule[one].category: ",
        "bounces.toml: rule[two]: id is used twice",
        "bounces.toml: rule[two]: suspend: ",
        "retry.toml: priority.bulk: ",
        "retry.toml: schedule.bulk.jitter: ",
    ):
        assert any(line.startswith(start) for line in told), (start, told)


def test_rules_may_only_name_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "bounces.toml").write_text(
        """
        [[rule]]
        id = "one"
        category = "policy"
        sites = ["gogle"]
        pace = "snail"
        """
    )
    with pytest.raises(RuleError) as caught:
        load_rules(tmp_path)
    assert "bounces.toml: rule[one].sites: " in str(caught.value)
    assert "bounces.toml: rule[one].pace: " in str(caught.value)


def test_what_is_no_toml_or_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "retry.toml").write_text("[[[")
    with pytest.raises(RuleError, match=r"retry\.toml: "):
        load_rules(tmp_path)
    with pytest.raises(RuleError, match="no folder"):
        load_rules(tmp_path / "missing")


def test_a_folder_replaces_adds_and_takes_away_triggers(tmp_path: Path) -> None:
    (tmp_path / "triggers.toml").write_text(
        """
        [[trigger]]
        id = "any.closing"
        disabled = true
        [[trigger]]
        id = "any.content"
        categories = ["spam_content"]
        action = "suspend_campaign"
        count = 2
        within = "1m"
        lasts = "5m"
        [[trigger]]
        id = "ours"
        sites = ["google"]
        codes = ["451"]
        action = "lower_connections"
        connections = 1
        lasts = "90s"
        """
    )
    triggers = {trigger.id: trigger for trigger in load_rules(tmp_path).triggers.triggers}
    assert "any.closing" not in triggers
    assert (triggers["any.content"].count, triggers["any.content"].within) == (2, 60.0)
    assert (triggers["ours"].sites, triggers["ours"].connections, triggers["ours"].lasts) == (("google",), 1, 90.0)
    assert triggers["yahoo.user_complaints"].lasts == 7200.0


def test_mistakes_in_triggers_are_told_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "triggers.toml").write_text(
        """
        [[trigger]]
        id = "one"
        codes = ["421"]
        action = "lower_rate"
        lasts = "10m"
        [[trigger]]
        id = "two"
        codes = ["421"]
        action = "suspend_lane"
        lasts = "soon"
        [[trigger]]
        id = "three"
        sites = ["gogle"]
        rules = ["list.nothing"]
        action = "suspend_lane"
        lasts = "1h"
        [[trigger]]
        id = "four"
        action = "suspend_lane"
        lasts = "1h"
        [[trigger]]
        id = "five"
        codes = ["421"]
        lasts = "1h"
        """
    )
    with pytest.raises(RuleError) as caught:
        load_rules(tmp_path)
    told = str(caught.value).splitlines()
    for start in (
        "triggers.toml: trigger[one]: factor: ",
        "triggers.toml: trigger[two]: lasts: ",
        "triggers.toml: trigger[three].sites: ",
        "triggers.toml: trigger[three].rules: ",
        "triggers.toml: trigger[four]: a trigger without a condition",
        "triggers.toml: trigger[five]: action and lasts are needed",
    ):
        assert any(line.startswith(start) for line in told), (start, told)


def test_every_preset_says_where_its_figures_come_from() -> None:
    """A public page, a public project's shaping, or plainly that they are ours; a block goes for the sites below it."""
    text = (files("sluice.rules") / "sites.toml").read_text(encoding="utf-8")
    source = ""
    for block in text.split("\n\n"):
        comment = " ".join(line for line in block.splitlines() if line.startswith("#"))
        source = comment or source
        if "[[site]]" in block:
            assert any(word in source for word in (".com", ".net", ".fr", "KumoMTA", "ours")), block


def test_what_one_address_may_have_is_never_less_than_the_lanes_of_a_site() -> None:
    for group in load_rules().sites.groups:
        site = group.site
        shares = [site.egress_share(lane).connections for lane in range(site.lanes)]
        assert site.egress_connections is not None
        assert sum(share or 0 for share in shares) == site.egress_connections
        assert min(share or 0 for share in shares) >= 1


def test_lanes_that_cannot_share_an_egresss_connections_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sites.toml").write_text(
        '[[site]]\nname = "x"\nconnections = 9\nlanes = 3\negress_connections = 2\negress_rate = "often"\n'
    )
    with pytest.raises(RuleError) as refused:
        load_rules(tmp_path)
    assert "site[x].egress_connections: 3 lanes cannot share 2 connections" in str(refused.value)
    assert "site[x].egress_rate: not a rate" in str(refused.value)


def test_an_egress_is_named_by_sites_and_by_triggers_that_switch(tmp_path: Path) -> None:
    (tmp_path / "sites.toml").write_text('[default]\negress = "shared"\n[[site]]\nname = "x"\negress = "own"\n')
    (tmp_path / "triggers.toml").write_text(
        '[[trigger]]\nid = "a"\ncodes = ["421"]\naction = "switch_egress"\negress = "spare"\nlasts = "1h"\n'
    )
    rules = load_rules(tmp_path)
    assert (rules.sites.named("x").egress, rules.sites.named("any.example").egress) == ("own", "shared")
    assert [trigger.egress for trigger in rules.triggers.triggers if trigger.id == "a"] == ["spare"]
    (tmp_path / "triggers.toml").write_text(
        '[[trigger]]\nid = "a"\ncodes = ["421"]\naction = "suspend_lane"\negress = "spare"\nlasts = "1h"\n'
    )
    with pytest.raises(RuleError, match="egress: belongs to switch_egress"):
        load_rules(tmp_path)
