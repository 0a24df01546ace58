"""Addresses: what is read, what is refused, and that a refusal never repeats the address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.addresses import Address, domain_to_ascii, parse_address
from sluice.domain.errors import Refused


@pytest.mark.parametrize(
    ("text", "local", "domain", "utf8"),
    [
        ("anna@example.com", "anna", "example.com", False),
        ("Anna.B+tag@EXAMPLE.Com", "Anna.B+tag", "example.com", False),
        ("o'neil/x=1@mail.example.co.uk", "o'neil/x=1", "mail.example.co.uk", False),
        ("hans@bücher.example", "hans", "xn--bcher-kva.example", False),
        ("hans@BÜCHER.example", "hans", "xn--bcher-kva.example", False),
        ("li@例子.测试", "li", "xn--fsqu00a.xn--0zwm56d", False),
        ("用户@例子.测试", "用户", "xn--fsqu00a.xn--0zwm56d", True),
        ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example", False),
        ("a@例子。测试", "a", "xn--fsqu00a.xn--0zwm56d", False),
        ("x" * 64 + "@example.com", "x" * 64, "example.com", False),
    ],
)
def test_an_address_is_read(text: str, local: str, domain: str, utf8: bool) -> None:
    address = parse_address(text, "to[0].email")
    assert address == Address(local, domain, utf8)
    assert parse_address(address.addr_spec, "again") == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("anna", "no domain"),
        ("anna@", "no domain"),
        ("@example.com", "no local part"),
        ("a@b@example.com", "more than one @"),
        ("anna@localhost", "one label"),
        ("anna@.example.com", "dot"),
        ("anna@example.com.", "dot"),
        ("anna@example..com", "malformed"),
        (".anna@example.com", "dot"),
        ("anna.@example.com", "dot"),
        ("an..na@example.com", "two in a row"),
        ('"an na"@example.com', "quoted"),
        ("an na@example.com", "space"),
        (" anna@example.com", "space"),
        ("anna@example.com ", "space"),
        ("anna@example.com\n", "control"),
        ("anna\r\nBcc: x@example.com", "control"),
        ("an\x00na@example.com", "control"),
        ("an\ud800na@example.com", "control"),
        ("anna(x)@example.com", "not allowed"),
        ("<anna@example.com", "not allowed"),
        ("anna@example.com>", "malformed"),
        ("anna@[192.0.2.1]", "literal"),
        ("anna@192.0.2.1", "IP address"),
        ("anna@-example.com", "malformed"),
        ("anna@exa_mple.com", "malformed"),
        ("anna@xn--.com", "internationalised"),
        ("x" * 65 + "@example.com", "local part is longer"),
        ("ü" * 33 + "@example.com", "local part is longer"),
        ("a@" + "x" * 64 + ".com", "malformed"),
        ("a@" + "x." * 130 + "com", "longer"),
        ("x" * 64 + "@" + "abcdefgh." * 22 + "com", "254"),
    ],
)
def test_what_cannot_be_mailed_is_refused(text: str, says: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_address(text, "to[2].email")
    assert says in refused.value.reason
    assert refused.value.field == "to[2].email"
    assert refused.value.category == "invalid_recipient"
    assert "anna" not in refused.value.reason


@given(st.text(max_size=330))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        address = parse_address(text, "from.email")
    except Refused:
        return
    assert address.domain_ascii.isascii()
    assert len(address.addr_spec.encode()) <= 254
    assert not set(address.addr_spec) & set('\r\n\0 <>,;:\\"()[]')


@given(st.from_regex(r"[a-zà-ÿ一-龥]{1,20}(\.[a-zà-ÿ]{2,10}){1,3}", fullmatch=True))
def test_a_domain_in_a_label_form_stays_as_it_is(domain: str) -> None:
    once, problem = domain_to_ascii(domain)
    if problem is None:
        assert domain_to_ascii(once) == (once, None)
        assert domain_to_ascii(domain.upper())[0] in (once, "")
