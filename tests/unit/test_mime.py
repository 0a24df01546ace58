"""Messages: what is built reads back as what was meant, whatever the text, and only CRLF ends a line."""

import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.domain.addresses import Party, parse_address
from sluice.domain.admission import Limits, admit
from sluice.domain.content import (
    Rendered,
    compose_content,
    encode_attachments,
    given_content,
    message_id_of,
    needs_smtputf8,
)
from sluice.domain.errors import Refused
from sluice.domain.events import SendEvent
from sluice.domain.headers import address_field, date_text, text_field
from sluice.domain.mime import body_entity, message_bytes
from sluice.domain.reference import Tenant

NOW = 1_700_000_000.0
TENANT = Tenant(tenant_id="shop", domains=["shop.example"])

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
lines = st.lists(
    st.one_of(words, st.sampled_from([".", "..", "From x", "--", " ", "x ", "\t", "é" * 900, "a" * 5000])), max_size=6
)
bodies = st.builds(lambda parts, end: end.join(parts), lines, st.sampled_from(["\n", "\r\n", "\r"]))
header_texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300)


def composed(number: int = 0, rendered: Rendered | None = None, **fields: Any) -> bytes:
    event = msgspec.convert(
        {
            "message_id": "m1",
            "tenant_id": "shop",
            "from": {"email": "info@shop.example", "name": "Shop"},
            "to": [{"email": "anna@example.com"}],
            "subject": "Hello",
            "text": "Hello",
        }
        | fields,
        SendEvent,
    )
    mail = admit(event, TENANT, priority="normal", now=NOW, published_at=NOW, limits=Limits())
    content = compose_content(
        mail, mail.deliveries[number], rendered or given_content(event), encode_attachments(event), date=NOW
    )
    check_octets(content)
    return content


def check_octets(content: bytes) -> None:
    assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert content.endswith(b"\r\n")


def parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=policy.SMTP)
    assert isinstance(message, EmailMessage)
    assert not any(part.defects for part in message.walk())
    return message


def body(part: Any) -> str:
    text = part.get_payload(decode=True).decode()
    assert isinstance(text, str)
    return text.replace("\r\n", "\n")


def lined(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") else text + "\n"


@given(bodies, bodies)
@example("a" * 5000, "é" * 5000)
@example(".\r\n.\n\r.\r", "x \n \n\t\n")
@example("bare \x00 nul", "\x0c")
def test_bodies_read_back(text: str, html: str) -> None:
    content = composed(text=text, html=html)
    alternative = parsed(content)
    assert alternative.get_content_type() == "multipart/alternative"
    plain, page = alternative.iter_parts()
    assert (body(plain), body(page)) == (lined(text), lined(html))


@given(bodies)
def test_a_single_body_reads_back(text: str) -> None:
    assert body(parsed(composed(text=text))) == lined(text)


@given(header_texts)
@example("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=")
@example(" leading and trailing ")
@example("two  spaces")
@example("x" * 998)
@example("字" * 300)
@example("👩‍👩‍👧 " * 40)
@example("a" * 75 + " " + "é")
@example("")
def test_a_subject_reads_back(subject: str) -> None:
    try:
        content = composed(subject=subject)
    except Refused as refused:
        assert refused.category == "injection"  # noqa: PT017 - random text may hold an encoded control
        return
    found = parsed(content)["Subject"]
    assert str(found) == subject
    head = content.partition(b"\r\n\r\n")[0]
    if not subject.isascii():
        assert max(map(len, head.split(b"\r\n"))) <= 78


@given(header_texts)
@example("Müller, Änna")
@example('quote " and \\ backslash')
@example("a.b@c <d>")
@example("王小明")
@example("long " * 40)
def test_a_display_name_reads_back(name: str) -> None:
    party = Party(parse_address("anna@example.com", "to"), name.strip() or None)
    line = address_field("To", [party, party])
    message = message_from_bytes(message_bytes([("To", line)], body_entity("x", None, (), "s")))
    # The newer parser of the standard library keeps the white space between encoded words in names (RFC 2047 does not).
    found = [(str(make_header(decode_header(shown))), spec) for shown, spec in getaddresses([message["To"]])]
    assert found == [(name.strip(), "anna@example.com")] * 2


@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\"), min_size=1, max_size=255
    )
)
@example("Rechnung März.pdf")
@example("发票.pdf")
@example('a"b.txt')
@example("x" * 255)
@example("a'b%20*.txt")
def test_a_filename_reads_back(filename: str) -> None:
    try:
        content = composed(attachments=[{"filename": filename, "content": b"data"}])
    except Refused as refused:
        assert filename in (".", "..") or refused.category == "injection"  # noqa: PT017 - as above
        return
    (attachment,) = parsed(content).iter_attachments()
    assert attachment.get_filename() == filename.strip()  # which the library does by itself
    assert attachment.get_content() == b"data"


@given(st.binary(max_size=5000))
def test_attachments_read_back(data: bytes) -> None:
    message = parsed(composed(attachments=[{"filename": "a.bin", "content": data, "content_type": "image/png"}]))
    assert message.get_content_type() == "multipart/mixed"
    text, attachment = message.iter_parts()
    assert body(text) == "Hello\n"
    assert attachment.get_content_type() == "image/png"
    assert attachment.get_content() == data


def test_inline_images_stand_beside_their_html() -> None:
    image = {
        "filename": "l.png",
        "content": b"1",
        "content_type": "image/png",
        "disposition": "inline",
        "content_id": "logo@x",
    }
    message = parsed(composed(html="<img src=cid:logo@x>", attachments=[image, {"filename": "b", "content": b"2"}]))
    shape = [part.get_content_type() for part in message.walk()]
    assert shape == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png",
        "application/octet-stream",
    ]  # fmt: skip
    assert [part["Content-ID"] for part in message.walk() if part["Content-ID"]] == ["<logo@x>"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain", "7bit"),
        ("x" * 998, "7bit"),
        ("x" * 999, "quoted-printable"),
        ("Grüße aus Hamburg, und bis bald im Norden", "quoted-printable"),
        ("你好，世界", "base64"),
        ("a\x00b" * 3, "base64"),
    ],
)
def test_the_lightest_encoding_is_chosen(text: str, encoding: str) -> None:
    assert parsed(composed(text=text))["Content-Transfer-Encoding"] == encoding


def test_half_a_surrogate_pair_in_a_body_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        composed(rendered=Rendered("Hi", None, "a\ud800b"))
    assert refused.value.field == "text"


def test_header_fields_stand_once_and_in_order() -> None:
    content = composed(
        to=[{"email": "a@x.example", "name": "A"}, {"email": "b@x.example"}],
        cc=[{"email": "c@x.example", "name": "Ç"}],
        bcc=[{"email": "d@x.example"}],
        reply_to={"email": "help@x.example"},
        stream="broadcast",
        unsubscribe={"list_id": "news", "url": "https://x.example/u?a=1", "mailto": "u+x@x.example"},
        headers={"X-Order": "4711", "References": "<a@b> <c@d>"},
        number=3,
    )
    message = parsed(content)
    assert message.keys() == [
        "Date", "Message-ID", "From", "To", "Cc", "Reply-To", "Subject", "List-Id", "List-Unsubscribe",
        "List-Unsubscribe-Post", "X-Order", "References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    ]  # fmt: skip
    assert message["To"] == "A <a@x.example>"
    assert message["Cc"].addresses[0].display_name == "Ç"
    assert message["Message-ID"] == "<m1.3@shop.example>"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert message["List-Id"] == "<news.shop.example>"
    assert b"List-Unsubscribe: <https://x.example/u?a=1>,\r\n <mailto:u%2Bx@x.example>\r\n" in content
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert b"d@x.example" not in content


def test_the_same_mail_composed_again_has_the_same_octets() -> None:
    fields = {"html": "<p>x", "attachments": [{"filename": "a", "content": b"1"}]}
    assert composed(**fields) == composed(**fields)


def test_a_boundary_in_the_text_does_not_end_the_part() -> None:
    boundary = re.search(rb'boundary="([^"]+)"', composed(html="<p>x"))
    assert boundary
    text = f"before\n--{boundary[1].decode()}--\nafter"
    plain, _ = parsed(composed(html="<p>x", text=text)).iter_parts()
    assert body(plain) == text + "\n"


def test_the_guard_stops_what_the_checks_would_have_missed() -> None:
    entity = body_entity("x", None, (), "s")
    for line in ("X-A: 1\r\nBcc: b@x.example", "X-A: 1\nB: c", "X-A: 1\r", "X-A: \x00", "X-A: 1\r\n\r\nbody"):
        with pytest.raises(Refused) as refused:
            message_bytes([("X-A", line)], entity)
        assert refused.value.category == "injection"


def test_a_local_part_that_is_not_ascii_stands_as_it_is_and_asks_for_smtputf8() -> None:
    fields: dict[str, Any] = {"to": [{"email": "用户@例子.测试", "name": "用户"}]}
    content = composed(**fields)
    assert "<用户@xn--fsqu00a.xn--0zwm56d>".encode() in content
    event = msgspec.convert({"message_id": "m", "tenant_id": "shop", "text": "x", "subject": "x"} | fields, SendEvent)
    tenant = msgspec.convert(
        {"tenant_id": "shop", "domains": ["shop.example"], "from": {"email": "a@shop.example"}}, Tenant
    )
    mail = admit(event, tenant, priority="normal", now=NOW, published_at=NOW, limits=Limits())
    assert needs_smtputf8(mail, mail.deliveries[0])
    assert message_id_of(mail, mail.deliveries[0]) == "m@shop.example"


@pytest.mark.parametrize(
    ("message_id", "left"), [("a:b", "a%3Ab"), ("a@b.", "a%40b%2E"), ("a..b", "a%2E%2Eb"), ("a/b+c", "a/b+c")]
)
def test_any_identifier_makes_a_valid_message_id(message_id: str, left: str) -> None:
    assert parsed(composed(message_id=message_id))["Message-ID"] == f"<{left}@shop.example>"


def test_a_long_field_is_folded_between_words() -> None:
    field = text_field("References", " ".join(f"<{number}@example.com>" for number in range(40)))
    assert max(map(len, field.split("\r\n"))) <= 76
    assert "=?" not in field


@given(st.floats(min_value=0, max_value=32_000_000_000))
def test_a_date_reads_back(seconds: float) -> None:
    message = parsed(message_bytes([("Date", f"Date: {date_text(seconds)}")], body_entity("x", None, (), "s")))
    assert message["Date"].datetime.timestamp() == int(seconds)
