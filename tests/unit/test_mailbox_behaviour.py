"""How the mailbox decides to misbehave, and where it puts what it keeps."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.adapters.embedded.mailbox_behaviour import Behaviour, Behaviours, read_behaviours, words
from sluice.adapters.embedded.mailbox_store import folder_name, message_id
from sluice.domain.errors import RuleError


def decide(rules: Behaviours, phase: str, recipient: str) -> str | None:
    rule = rules.decide(phase, [recipient])  # type: ignore[arg-type]
    return None if rule is None else rule.reply


def test_a_rule_applies_at_its_phase_to_the_addresses_it_matches() -> None:
    rules = Behaviours([Behaviour(domain="*.slow.example", local="a*", reply="451 Later")], random=Random(1))
    assert decide(rules, "rcpt", "Ann@mx.SLOW.example") == "451 Later"
    assert decide(rules, "dot", "ann@mx.slow.example") is None
    assert decide(rules, "rcpt", "bob@mx.slow.example") is None
    assert decide(rules, "rcpt", "ann@slow.example") is None


def test_the_first_rule_that_applies_wins() -> None:
    rules = Behaviours(
        [Behaviour(domain="a.example", first=1, reply="450 One"), Behaviour(reply="450 Two")], random=Random(1)
    )
    assert [decide(rules, "rcpt", "x@a.example") for _ in range(3)] == ["450 One", "450 Two", "450 Two"]


def test_first_counts_each_recipient_for_itself() -> None:
    rules = Behaviours([Behaviour(reply="451 Later", first=2)], random=Random(1))
    assert [decide(rules, "rcpt", "a@x.example") for _ in range(3)] == ["451 Later", "451 Later", None]
    assert decide(rules, "rcpt", "b@x.example") == "451 Later"


def test_a_probability_is_kept_to() -> None:
    rules = Behaviours([Behaviour(reply="451 Later", probability=0.3)], random=Random(7))
    share = sum(decide(rules, "rcpt", f"{n}@x.example") is not None for n in range(2000)) / 2000
    assert 0.27 < share < 0.33


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("ann", []),
        ("ann+newsletter", []),
        ("ann+bounce", [Behaviour(reply="550 5.1.1 No such user here")]),
        ("ann+defer", [Behaviour(reply="451 4.2.0 Try again later", first=1)]),
        ("ann+defer3", [Behaviour(reply="451 4.2.0 Try again later", first=3)]),
        ("ann+defer0", [Behaviour(reply="451 4.2.0 Try again later")]),
        ("ann+slow0.5", [Behaviour(phase="dot", delay=0.5)]),
        ("ann+reply421", [Behaviour(reply="421 As asked")]),
        ("ann+reply999", []),
        ("ann+lost", [Behaviour(phase="dot", action="disconnect", keep=True, first=1)]),
        (
            "Ann+SLOW2+Spam",
            [Behaviour(phase="dot", delay=2), Behaviour(phase="dot", reply="554 5.7.1 Content refused")],
        ),
    ],
)
def test_words_in_an_address_ask_for_behaviour(local: str, expected: list[Behaviour]) -> None:
    assert words(local) == expected


@given(st.text(max_size=80))
def test_no_local_part_breaks_the_words(local: str) -> None:
    words(local)


def test_behaviours_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "behaviour.toml"
    file.write_text('[[behaviour]]\ndomain = "a.example"\nreply = "451 Later"\nfirst = 2\n[[behaviour]]\ndelay = 1\n')
    assert read_behaviours(file) == [Behaviour(domain="a.example", reply="451 Later", first=2), Behaviour(delay=1.0)]


@pytest.mark.parametrize(
    "text",
    [
        "[[behaviour]]\nreply = '99 no'",
        "[[behaviour]]\nreply = '451 a\\nb'\nphase = 'rcptt'",
        "[[behaviour]]\nkeep = true",
        "[[behaviour]]\nphase = 'mail'\ndomain = 'a.example'",
        "[[behaviour]]\naction = 'hang'\nreply = '250 ok'",
        "[[behaviour]]\nprobability = 2",
        "[[behaviour]]\ntypo = 1",
        "not toml",
    ],
)
def test_a_file_that_cannot_be_followed_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "behaviour.toml"
    file.write_text(text)
    with pytest.raises(RuleError, match=r"behaviour\.toml"):
        read_behaviours(file)


@given(st.text(max_size=300))
def test_no_domain_leads_out_of_the_folder_or_hides_in_it(domain: str) -> None:
    name = folder_name(domain)
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")
    assert 0 < len(name.encode()) <= 200


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Message-ID: <a@b>\r\nSubject: x\r\n\r\nbody", "<a@b>"),
        (b"Subject: x\r\nmessage-id:<a@b> \r\n\r\n", "<a@b>"),
        (b"Message-ID:\r\n <a@b>\r\n\r\n", "<a@b>"),
        (b"Subject: x\r\n\r\nMessage-ID: <in-the@body>\r\n", None),
        (b"X-Message-ID: <other@b>\r\n\r\n", None),
        (b"", None),
    ],
)
def test_the_message_id_is_taken_from_the_header_alone(content: bytes, expected: str | None) -> None:
    assert message_id(content) == expected
