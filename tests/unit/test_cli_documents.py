"""What commands read: mails by options, moments, variables, JSON documents, lists of addresses."""

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.commands.compose_event import Given, compose_event
from sluice.commands.documents import convert, read_documents
from sluice.commands.failures import WrongUsage
from sluice.commands.moments import parse_moment
from sluice.commands.suppression_files import read_suppressions
from sluice.commands.tenant import problems
from sluice.commands.variables import read_variables
from sluice.domain.errors import SluiceError
from sluice.domain.events import decode_send
from sluice.domain.reference import Suppression, Tenant

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
BASE = Given(tenant="acme", to=["jo@mail.example"], subject="s", text="t")


def test_options_become_the_event_that_a_producer_would_write(tmp_path: Path) -> None:
    (tmp_path / "terms.pdf").write_bytes(b"%PDF")
    (tmp_path / "body.html").write_text("<p>Grüße</p>", encoding="utf-8")
    event = compose_event(
        Given(
            tenant="acme", to=["Jo Müller <jo@mail.example>", "li@post.example"], sender="ACME <hi@acme.example>",
            subject="Hi", html=f"@{tmp_path / 'body.html'}", attach=[tmp_path / "terms.pdf"], headers=["X-Ref: a:b"],
            at="30m", expires="2026-05-02T00:00:00+02:00",
        ),
        NOW,
    )  # fmt: skip
    assert event == {
        "tenant_id": "acme",
        "to": [{"email": "jo@mail.example", "name": "Jo Müller"}, {"email": "li@post.example"}],
        "from": {"email": "hi@acme.example", "name": "ACME"},
        "subject": "Hi",
        "html": "<p>Grüße</p>",
        "headers": {"X-Ref": "a:b"},
        "attachments": [{"filename": "terms.pdf", "content_type": "application/pdf", "content": "JVBERg=="}],
        "send_at": "2026-05-01T12:30:00+00:00",
        "expires_at": "2026-05-01T22:00:00+00:00",
    }
    assert decode_send(msgspec.json.encode({"message_id": "m1", **event})).attachments[0].content == b"%PDF"


def test_a_template_is_named_with_its_version_and_variables() -> None:
    event = compose_event(Given(tenant="acme", to=["a@b.example"], template="welcome@3", variables={"n": 1}), NOW)
    assert event["template"] == {"id": "welcome", "version": 3, "variables": {"n": 1}}
    assert "subject" not in event


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tenant": None}, "--tenant and --to"),
        ({"to": []}, "--tenant and --to"),
        ({"text": None}, "nothing to say"),
        ({"template": "welcome"}, "--template brings its own"),
        ({"variables": {"a": 1}}, "--var is for templates"),
        ({"headers": ["no colon"]}, "--header"),
        ({"text": "@/nonexistent"}, "--text: /nonexistent: No such file"),
        ({"attach": [Path("/nonexistent")]}, "--attach: /nonexistent"),
        ({"at": "tomorrow"}, "--at: 'tomorrow' is no moment"),
        ({"expires": "2026-05-01T12:00:00"}, "--expires: .* has no offset"),
    ],
)
def test_options_that_do_not_fit_are_named(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(WrongUsage, match=told):
        compose_event(msgspec.structs.replace(BASE, **wrong), NOW)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("+2h", 7200), ("1.5h", 5400), ("7d", 604_800), ("4w", 2_419_200)]
)
def test_so_much_from_now(text: str, seconds: float) -> None:
    assert parse_moment(text, "--at", NOW) == NOW + timedelta(seconds=seconds)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_wrong_usage(text: str) -> None:
    with contextlib.suppress(WrongUsage):
        assert parse_moment(text, "--at", NOW).tzinfo is not None


def test_variables_are_json_where_they_read_as_json(tmp_path: Path) -> None:
    file = tmp_path / "vars.json"
    file.write_text('{"a": 1, "b": {"c": [2]}}')
    found = read_variables(["a=x", "n=3", "list=[1,2]", "url=https://e.example/?a=b", "zip=007"], file)
    assert found == {
        "a": "x", "b": {"c": [2]}, "n": 3, "list": [1, 2], "url": "https://e.example/?a=b", "zip": "007",
    }  # fmt: skip


def test_documents_come_from_objects_lists_lines_and_folders(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"a": 1}')
    (tmp_path / "two.json").write_text('[{"a": 2}, {"a": 3}]')
    (tmp_path / "lines.jsonl").write_text('{"a": 4}\n\n{"a": 5}\n')
    found = read_documents([tmp_path, tmp_path / "lines.jsonl"])
    assert [document["a"] for _, document in found] == [1, 2, 3, 4, 5]
    assert found[4][0].endswith("lines.jsonl:3")


def test_all_documents_that_are_wrong_are_named_at_once() -> None:
    documents = [("a.json", {"tenant_id": "x"}), ("b.json", {"tenant_id": 3, "domains": []}), ("c.json", {})]
    with pytest.raises(SluiceError) as caught:
        convert(documents, Tenant)
    assert [line.strip().split(": ")[:2] for line in str(caught.value).splitlines()[1:]] == [
        ["a.json", "domains"],
        ["b.json", "tenant_id"],
        ["c.json", "tenant_id"],
    ]


def test_a_tenant_may_not_send_from_a_domain_that_is_not_its_own() -> None:
    tenant = convert(
        [("f", {"tenant_id": "a", "domains": ["a.example", "no_domain"], "from": {"email": "x@b.example"}})], Tenant
    )[0][1]
    assert [problem.split(":")[0] for problem in problems(tenant)] == ["domains", "from.email"]


def suppressions(tmp_path: Path, text: str, tenant: str | None = "acme") -> list[Suppression]:
    file = tmp_path / "list"
    file.write_text(text, encoding="utf-8")
    return read_suppressions(file, tenant=tenant, reason="imported", stream=None, expires_at=None, now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "# from the old system\njo@mail.example\n\nLi@POST.example\n",
        "Email,reason,other\njo@mail.example,imported,1\nLi@POST.example,,2\n",
        '{"email": "jo@mail.example"}\n{"email": "Li@POST.example", "other": 1}\n',
    ],
    ids=["addresses", "csv", "json lines"],
)
def test_suppressions_come_in_three_forms(tmp_path: Path, text: str) -> None:
    assert [(s.tenant_id, s.email, s.reason) for s in suppressions(tmp_path, text)] == [
        ("acme", "jo@mail.example", "imported"),
        ("acme", "Li@post.example", "imported"),
    ]


def test_what_a_row_says_itself_counts_more_than_the_options(tmp_path: Path) -> None:
    row = "email,tenant_id,stream,created_at,expires_at\na@b.example,shop,broadcast,2026-01-01T00:00:00Z,\n"
    found = suppressions(tmp_path, row)[0]
    assert (found.tenant_id, found.stream, found.created_at.year, found.expires_at) == ("shop", "broadcast", 2026, None)
    assert found.created_at.month == 1


def test_lines_that_are_wrong_are_named_and_nothing_is_taken(tmp_path: Path) -> None:
    with pytest.raises(SluiceError) as caught:
        suppressions(tmp_path, "email,stream\nok@mail.example,\nnobody,\na@b.example,news\n")
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
        "line 3: email: the address has no domain",
        "line 4: stream: is transactional, broadcast or empty",
    ]
    with pytest.raises(SluiceError, match="tenant_id: neither the row nor --tenant"):
        suppressions(tmp_path, "a@b.example\n", tenant=None)
