"""A folder of rules on a real disk, as people and Kubernetes change it: what is taken, when, and what is refused."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import structlog
from tests.support.figures import by_labels

from sluice.adapters.rules import Refused, RulesFolder, load_rules
from sluice.domain.errors import RuleError
from sluice.domain.rules import Rules
from sluice.domain.shaping import Rate
from sluice.runtime.rules_watch import RulesWatch

SLOW, FAST, WRONG = '[default]\nrate = "1/s"\n', '[default]\nrate = "100/s"\n', '[default]\nrate = "fast"\n'


def opened(folder: Path) -> RulesFolder:
    """As a service has it, right after its start."""
    return RulesFolder(folder, load_rules(folder).version)


def settled(folder: RulesFolder) -> Rules | Refused | None:
    """What two looks in a row find."""
    assert folder.look() is None, "what was seen once may be half written"
    return folder.look()


def test_a_changed_file_is_taken_once_it_stands_still(tmp_path: Path) -> None:
    """And told once. The time of the file does not matter."""
    file = tmp_path / "sites.toml"
    file.write_text(SLOW)
    was = file.stat()
    folder = opened(tmp_path)
    assert folder.look() is folder.look() is None
    file.write_text(SLOW.replace("1/s", "2/s"))
    os.utime(file, (was.st_atime, was.st_mtime))
    found = settled(folder)
    assert isinstance(found, Rules)
    assert found.sites.default.rate == Rate(2, 1.0, 1)
    assert found.version == load_rules(tmp_path).version != load_rules().version
    assert folder.look() is folder.look() is None


def test_files_that_go_on_changing_are_waited_for(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for number in range(1, 4):
        (tmp_path / "sites.toml").write_text(SLOW.replace("1/s", f"{number}/s"))
        assert folder.look() is None
    assert isinstance(folder.look(), Rules)


def test_a_configmaps_mount_is_taken_as_a_whole_when_its_link_is_swapped(tmp_path: Path) -> None:
    """The kubelet writes all files into a new folder, and renames one symbolic link."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def swap(name: str, **files: str) -> None:
        (mount / name).mkdir()
        for file, text in files.items():
            (mount / name / f"{file}.toml").write_text(text)
            if not (mount / f"{file}.toml").is_symlink():
                (mount / f"{file}.toml").symlink_to(Path("..data") / f"{file}.toml")
        (mount / "..data_tmp").symlink_to(name)
        (mount / "..data_tmp").rename(mount / "..data")

    site = '[[site]]\nname = "slow"\ndomains = ["slow.example"]\n'
    rule = '[[rule]]\nid = "slow.busy"\ncategory = "transient"\ncontains = ["busy"]\nsites = ["slow"]\n'
    swap("..1", sites=site, bounces=rule)
    folder = opened(mount)
    swap("..2", sites=site.replace('"slow"', '"other"'), bounces=rule.replace('["slow"]', '["other"]'))
    found = settled(folder)
    assert isinstance(found, Rules), found
    assert found.sites.site_for("slow.example").name == "other"
    swap("..3", sites=site.replace('"slow"', '"third"'), bounces=rule.replace('["slow"]', '["other"]'))
    refused = settled(folder)
    assert isinstance(refused, Refused)
    assert refused.problems == ("bounces.toml: rule[slow.busy].sites: sites.toml has no site named other",)


def test_every_mistake_is_told_with_file_and_place_and_what_was_mended_is_taken(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    (tmp_path / "sites.toml").write_text(WRONG)
    (tmp_path / "retry.toml").write_text("[schedule.usual]\ndelays = soon\n")
    refused = settled(folder)
    assert isinstance(refused, Refused)
    assert any(line.startswith("sites.toml: default.rate: not a rate: 'fast'") for line in refused.problems)
    assert any(line.startswith("retry.toml: ") and "line" in line for line in refused.problems)
    assert folder.look() is None
    (tmp_path / "sites.toml").write_text(FAST)
    (tmp_path / "retry.toml").unlink()
    found = settled(folder)
    assert isinstance(found, Rules)
    assert found.sites.default.rate == Rate(100, 1.0, 10)


def test_a_folder_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    """It may be a network's; the limits must not fall back to the built-in ones."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "sites.toml").write_text(SLOW)
    folder = opened(rules)
    rules.rename(tmp_path / "away")
    assert isinstance(settled(folder), Refused)
    (tmp_path / "away").rename(rules)
    assert isinstance(settled(folder), Rules)


@pytest.mark.parametrize("checked", [True, False])
async def test_wrong_rules_are_refused_and_the_old_ones_stay(tmp_path: Path, checked: bool) -> None:
    """Whether the files are wrong by themselves, or for this process; the metrics tell, and so does the log."""
    (tmp_path / "sites.toml").write_text(SLOW)
    rules = load_rules(tmp_path)
    taken: list[Rules] = []

    def check(new: Rules) -> None:
        if checked and new.sites.default.egress:
            raise RuleError("sites.toml: egress: there is no egress and no pool named b")

    watch = RulesWatch(opened(tmp_path), rules, 5.0, follow=taken.append, check=check)
    assert by_labels(watch.figures(), "sluice.rules.info") == {(rules.version,): 1}
    (tmp_path / "sites.toml").write_text('[default]\negress = "b"\n' if checked else WRONG)
    with structlog.testing.capture_logs() as logs:
        await look_twice(watch)
    assert not taken
    assert watch.rules is rules
    (line,) = [line for line in logs if line["event"] == "rules.refused"]
    assert line["problems"][0].startswith("sites.toml: ")
    assert line["in_force"] == rules.version
    assert by_labels(watch.figures(), "sluice.rules.refused") == {(): 1}
    assert by_labels(watch.figures(), "sluice.rules.info") == {(rules.version,): 1}
    assert by_labels(watch.figures(), "sluice.rules.refused.timestamp")[()] > 0
    (tmp_path / "sites.toml").write_text(FAST)
    await look_twice(watch)
    (new,) = taken
    assert watch.rules is new
    assert by_labels(watch.figures(), "sluice.rules.refused") == {(): 0}
    assert by_labels(watch.figures(), "sluice.rules.info") == {(new.version,): 1}


async def test_taking_a_wrong_change_back_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "sites.toml").write_text(SLOW)
    taken: list[Rules] = []
    watch = RulesWatch(opened(tmp_path), load_rules(tmp_path), 5.0, follow=taken.append)
    (tmp_path / "sites.toml").write_text(WRONG)
    await look_twice(watch)
    (tmp_path / "sites.toml").write_text(SLOW)
    await look_twice(watch)
    assert not taken
    assert by_labels(watch.figures(), "sluice.rules.refused") == {(): 0}


async def look_twice(watch: RulesWatch) -> None:
    """As after two of its intervals."""
    await watch.look()
    await asyncio.sleep(0)
    await watch.look()
