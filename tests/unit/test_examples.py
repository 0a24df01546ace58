"""Every example is what it claims to be: valid, renderable, and addressed to nobody."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sluice.domain.admission import Limits, admit
from sluice.domain.events import Priority, decode_send
from sluice.domain.reference import Profile, Suppression, Template, Tenant
from sluice.domain.variables import choose_content, merge_variables

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
EVENTS = sorted(EXAMPLES.glob("*.json"))
REFERENCE = {"tenants": Tenant, "templates": Template, "profiles": Profile, "suppressions": Suppression}
RECORDS = [(folder, path) for folder in REFERENCE for path in sorted((EXAMPLES / folder).glob("*.json"))]
RESERVED = re.compile(r"^[^@\s]+@([\w-]+\.)*[\w-]+\.(example|test|invalid)$")
NOW = 1_780_300_000.0


def _named(value: Any) -> str:
    return value.stem if isinstance(value, Path) else str(value)


def _schema(name: str) -> jsonschema_rs.Validator:
    schema = json.loads((ROOT / "schemas" / f"{name}.v1.schema.json").read_text())
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def _tenant(name: str) -> Tenant:
    return msgspec.json.decode((EXAMPLES / "tenants" / f"{name}.json").read_bytes(), type=Tenant)


def _emails(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value[name] for name in ("email", "mailto", "return_path") if name in value]
        return own + [email for item in value.values() for email in _emails(item)]
    return [email for item in value for email in _emails(item)] if isinstance(value, list) else []


def test_the_usual_kinds_of_mail_are_there():
    assert {path.stem for path in EVENTS} == {
        "order-confirmation", "activation", "password-reset", "newsletter",
        "idn-recipient", "attachment", "scheduled", "idempotent",
    }  # fmt: skip


@pytest.mark.parametrize("path", EVENTS, ids=_named)
def test_an_example_event_is_valid_by_schema_and_by_decoder(path):
    decode_send(path.read_bytes())
    _schema("send").validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", EVENTS, ids=_named)
def test_an_example_event_is_admitted(path):
    event = decode_send(path.read_bytes())
    priority: Priority = "bulk" if event.stream == "broadcast" else "normal"
    admitted = admit(event, _tenant(event.tenant_id), priority=priority, now=NOW, published_at=NOW, limits=Limits())
    assert len(admitted.deliveries) == len(event.to) + len(event.cc) + len(event.bcc)


@pytest.mark.parametrize(("folder", "path"), RECORDS, ids=_named)
def test_a_reference_example_is_valid_by_schema_and_by_type(folder, path):
    msgspec.json.decode(path.read_bytes(), type=REFERENCE[folder])
    _schema(folder.removesuffix("s")).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", [*EVENTS, *(path for _, path in RECORDS)], ids=_named)
def test_no_example_names_an_address_that_could_exist(path):
    for email in _emails(json.loads(path.read_text())):
        assert RESERVED.match(email), email


@pytest.mark.parametrize("path", EVENTS, ids=_named)
def test_templates_render_with_an_example_s_variables_in_every_locale(path):
    event = decode_send(path.read_bytes())
    if event.template is None:
        return
    template = msgspec.json.decode((EXAMPLES / "templates" / f"{event.template.id}.json").read_bytes(), type=Template)
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=True)
    for recipient in event.to:
        variables = merge_variables(template, _tenant(event.tenant_id), None, event.template, recipient.variables)
        for locale in ("en", "de", "zh-CN"):
            content = choose_content(template, locale)
            assert content is template.locales[locale]
            for source in (content.subject, content.html, content.text):
                rendered = environment.from_string(source or "").render(variables)
                assert rendered.strip()
                assert "{{" not in rendered


def test_markup_in_a_variable_is_escaped_in_the_order_confirmation():
    event = decode_send((EXAMPLES / "order-confirmation.json").read_bytes())
    template = msgspec.json.decode((EXAMPLES / "templates" / "order-confirmation.json").read_bytes(), type=Template)
    assert event.template is not None
    variables = merge_variables(template, _tenant("acme"), None, event.template, {})
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=True)
    html = environment.from_string(template.locales["en"].html or "").render(variables)
    assert "Tea &lt;Earl Grey&gt; &amp; friends" in html


def test_the_attachments_are_the_files_that_their_names_say():
    event = decode_send((EXAMPLES / "attachment.json").read_bytes())
    pdf, table = event.attachments
    assert pdf.content.startswith(b"%PDF-1.4")
    assert pdf.content.endswith(b"%%EOF\n")
    assert table.content.decode("utf-8-sig").splitlines()[0].split(",") == ["Artikel", "数量", "Preis"]


def test_the_python_example_is_ten_lines_at_most_and_the_one_in_the_readme():
    source = (EXAMPLES / "publish_from_python.py").read_text()
    statements = source.split('"""')[2]
    code = [line for line in statements.splitlines() if line.strip() and not line.startswith(("import sys", "sys."))]
    assert len(code) <= 10
    in_readme = (EXAMPLES / "README.md").read_text().split("```python\n")[1].split("```")[0]
    ast.parse(in_readme)
    assert [line for line in in_readme.splitlines() if line][1:6] == code[1:6]
