"""Records that ask for TLS reports, as RFC 8460 section 3 writes them and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.domain.addresses import parse_address
from sluice.domain.tlsrpt_record import MOST_ENDPOINTS, HttpsEndpoint, MailEndpoint, endpoints

MAIL = MailEndpoint("tls@receiver.example")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["v=TLSRPTv1; rua=mailto:tls@receiver.example"], (MAIL,)),
        (["v=TLSRPTv1;rua=mailto:tls@receiver.example;"], (MAIL,)),
        (["v=TLSRPTv1 ;\trua=mailto:tls@receiver.example ; new=thing;"], (MAIL,)),
        (["v=spf1 -all", "v=TLSRPTv1; rua=MailTo:tls@receiver.example"], (MAIL,)),
        (["v=TLSRPTv1; rua=mailto:tls%40receiver.example?subject=x"], (MAIL,)),
        (["v=TLSRPTv1; rua=mailto:tls@receiver.example , mailto:tls@receiver.example"], (MAIL,)),
        (
            ["v=TLSRPTv1; rua=mailto:tls@receiver.example,https://reports.example/v1/tlsrpt?id=1"],
            (MAIL, HttpsEndpoint("https://reports.example/v1/tlsrpt?id=1")),
        ),
        (["v=TLSRPTv1; rua=http://reports.example/,ftp://x.example,mailto:tls@receiver.example"], (MAIL,)),
        ([], ()),
        (["v=TLSRPTv1"], ()),
        (["v=TLSRPTv1;"], ()),
        (["v=TLSRPTv2; rua=mailto:tls@receiver.example"], ()),
        ([" v=TLSRPTv1; rua=mailto:tls@receiver.example"], ()),
        (["v=TLSRPTv1; rua=mailto:tls@receiver.example", "v=TLSRPTv1; rua=mailto:b@receiver.example"], ()),
        (["v=TLSRPTv1; rua=mailto:a@receiver.example; rua=mailto:b@receiver.example"], ()),
        (["v=TLSRPTv1; rua=mailto:nobody"], ()),
        (["v=TLSRPTv1; rua=mailto:a%0d%0aBcc:b@receiver.example"], ()),
        (["v=TLSRPTv1; rua=mailto:%ff@receiver.example"], ()),
        (["v=TLSRPTv1; rua=https://known.example@evil.example/"], ()),
        (["v=TLSRPTv1; rua=https:///path,https://x.example:99999/,https://x.example\\@y.example/"], ()),
        (["v=TLSRPTv1; rua=https://x.example/a b"], ()),
        (["v=TLSRPTv1; rua=https://[::1/"], ()),
        (["v=TLSRPTv1; rua=https://127.0.0.1/,https://[::1]/,https://2130706433/,https://localhost/"], ()),
    ],
)
def test_a_record_says_where_reports_go(texts: list[str], expected: tuple[object, ...]) -> None:
    assert endpoints(texts) == expected


def test_a_record_with_many_places_counts_with_its_first() -> None:
    uris = ",".join(f"mailto:a{number}@receiver.example" for number in range(50))
    found = endpoints([f"v=TLSRPTv1; rua={uris}"])
    assert found == tuple(MailEndpoint(f"a{number}@receiver.example") for number in range(MOST_ENDPOINTS))


_pieces = st.sampled_from(
    [
        "v=TLSRPTv1;",
        "rua=",
        "mailto:",
        "https://",
        "a@b.example",
        "%0d%0a",
        "%00",
        ",",
        ";",
        "?",
        "@",
        "[",
        "\\",
        "é",
        " ",
    ]
)


@given(st.lists(st.lists(_pieces | st.text(max_size=8), max_size=14).map("".join), max_size=3))
def test_whatever_stands_in_a_record_only_places_that_can_be_sent_to_come_of_it(texts: list[str]) -> None:
    for found in endpoints(texts):
        text = str(found)
        assert text.isprintable()
        if isinstance(found, MailEndpoint):
            assert parse_address(found.address, "rua").addr_spec == found.address
        else:
            assert text.isascii()
            assert text.lower().startswith("https://")
            assert "@" not in text.split("/")[2]
