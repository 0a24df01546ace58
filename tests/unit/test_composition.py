"""From the JSON of an event to signed octets: what every part makes of the others' work."""

from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import dkim
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.adapters.dkim.generate import generate_keys
from sluice.adapters.dkim.signer import DkimSigner
from sluice.adapters.jinja import JinjaRenderer
from sluice.domain.admission import Limits, admit
from sluice.domain.content import compose_content, encode_attachments
from sluice.domain.errors import Refused
from sluice.domain.events import decode_send
from sluice.domain.reference import Template, TemplateContent, Tenant
from sluice.domain.variables import choose_content, merge_variables

NOW = 1_700_000_000.0
RENDERER = JinjaRenderer()
TEMPLATE = Template(
    tenant_id="shop",
    template_id="order",
    version=1,
    locales={
        "en": TemplateContent("Your order, {{ name }}", "<p>Hello {{ name }}<p>{{ note }}"),
        "zh": TemplateContent(
            "您的订单，{{ name }}", "<p>你好，{{ name }}<p>{{ note }}", "你好，{{ name }}\n{{ note }}"
        ),
    },
    defaults={"note": "-"},
)

Compose = Callable[[dict[str, Any]], tuple[list[bytes], list[bool]]]


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """Makes the mails of an event, and says of each signature whether dkimpy takes it."""
    folder = tmp_path_factory.mktemp("keys")
    made = generate_keys(Path(folder), "shop.example", rsa_selector="r", ed25519_selector="e")
    records = {f"{each.record_name}.".encode(): each.record_value.encode() for each in made}
    signer = DkimSigner(Path(folder))
    tenant = msgspec.convert(
        {
            "tenant_id": "shop",
            "domains": ["shop.example"],
            "from": {"email": "info@shop.example", "name": "小店"},
            "signing": [{"domain": each.key.domain, "selector": each.key.selector} for each in made],
        },
        Tenant,
    )

    def run(fields: dict[str, Any]) -> tuple[list[bytes], list[bool]]:
        value = msgspec.json.encode({"message_id": "m1", "tenant_id": "shop", "template": {"id": "order"}} | fields)
        event = decode_send(value)
        assert event.template is not None
        mail = admit(event, tenant, priority="normal", now=NOW, published_at=NOW, limits=Limits())
        parts = encode_attachments(event)
        mails = []
        for delivery in mail.deliveries:
            variables = merge_variables(TEMPLATE, tenant, None, event.template, delivery.variables)
            rendered = RENDERER.render(TEMPLATE, choose_content(TEMPLATE, delivery.locale), variables)
            mails.append(
                signer.sign(compose_content(mail, delivery, rendered, parts, date=NOW), tenant.signing, now=NOW)
            )
        verdicts = [
            dkim.DKIM(content).verify(idx=number, dnsfunc=lambda name, timeout=5: records[name])
            for content in mails
            for number in (0, 1)
        ]
        return mails, verdicts

    return run


def test_a_mail_in_the_recipients_language_is_made_and_signed(compose: Compose) -> None:
    recipient = {"email": "li@例子.测试", "name": "王小明", "locale": "zh-CN", "variables": {"name": "王小明"}}
    (content,), verdicts = compose(
        {"to": [recipient], "attachments": [{"filename": "发票.pdf", "content": "JVBERg=="}]}
    )
    message: Any = message_from_bytes(content, policy=policy.SMTP)
    assert verdicts == [True, True]
    assert message["Subject"] == "您的订单，王小明"
    assert message["To"].addresses[0].display_name == "王小明"
    assert message["To"].addresses[0].addr_spec == "li@xn--fsqu00a.xn--0zwm56d"
    assert message.get_body(("plain",)).get_content().split() == ["你好，王小明", "-"]
    assert message.get_body(("html",)).get_content().strip() == "<p>你好，王小明<p>-"
    assert [(each.get_filename(), each.get_content()) for each in message.iter_attachments()] == [("发票.pdf", b"%PDF")]


def test_copies_carry_the_first_recipients_words(compose: Compose) -> None:
    to = [{"email": "a@x.example", "variables": {"name": "A"}}, {"email": "b@x.example", "variables": {"name": "B"}}]
    mails, verdicts = compose({"to": to, "cc": [{"email": "c@x.example"}], "bcc": [{"email": "d@x.example"}]})
    messages = [message_from_bytes(content, policy=policy.SMTP) for content in mails]
    assert all(verdicts)
    assert [str(each["Subject"])[-1] for each in messages] == ["A", "B", "A", "A"]
    assert [str(each["To"]) for each in messages] == ["a@x.example", "b@x.example", "a@x.example", "a@x.example"]
    assert {str(each["Cc"]) for each in messages} == {"c@x.example"}
    assert [str(each["Message-ID"]) for each in messages] == [f"<m1.{number}@shop.example>" for number in range(4)]
    assert not any(b"d@x.example" in content for content in mails)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=400),
    st.sampled_from(["en", "zh"]),
)
def test_any_text_is_signed_so_that_it_verifies_or_refused(compose: Compose, name: str, note: str, locale: str) -> None:
    recipient = {"email": "a@x.example", "name": name, "locale": locale, "variables": {"name": name, "note": note}}
    try:
        (content,), verdicts = compose({"to": [recipient]})
    except Refused as refused:
        assert refused.category == "injection"  # noqa: PT017 - random text may hold control characters
        return
    assert verdicts == [True, True]
    assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
