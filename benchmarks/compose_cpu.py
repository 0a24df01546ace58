"""CPU that composing one mail takes: decode, admit, render, build, sign. Run: ``python benchmarks/compose_cpu.py``.

One mail of about 4 KB with text and HTML from three small templates (subject, HTML, text), signed with RSA-2048 and
Ed25519. Prints the median over rounds of the CPU microseconds per mail, for each part and for all.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sluice.adapters.dkim.generate import generate_keys
from sluice.adapters.dkim.signer import DkimSigner
from sluice.adapters.jinja import JinjaRenderer
from sluice.domain.admission import Limits, admit
from sluice.domain.content import compose_content, encode_attachments, needs_smtputf8
from sluice.domain.events import Mailbox, decode_send
from sluice.domain.reference import Template, TemplateContent, Tenant
from sluice.domain.variables import choose_content, merge_variables

ROUNDS, MAILS = 15, 200
NOW = 1_700_000_000.0

PARAGRAPH = "Thank you for your order; we pack it today and send it off in the morning. "
HTML = f"""<!doctype html>
<html><head><title>{{{{ shop }}}}</title><style>body {{ font-family: sans-serif }}</style></head>
<body><h1>Hello {{{{ name }}}}</h1>
<p>{PARAGRAPH * 6}</p>
<table>
{{% for item in items %}}<tr><td>{{{{ item.name }}}}</td><td>{{{{ item.price }}}}</td></tr>
{{% endfor %}}</table>
<p>{PARAGRAPH * 12}</p>
<p><a href="{{{{ url }}}}">See your order</a></p></body></html>
"""
TEXT = f"""Hello {{{{ name }}}},

{PARAGRAPH}

{{% for item in items %}}- {{{{ item.name }}}}: {{{{ item.price }}}}
{{% endfor %}}
{(PARAGRAPH.strip() + chr(10)) * 12}
{{{{ url }}}}
"""
EVENT = {
    "message_id": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    "tenant_id": "shop",
    "to": [{"email": "anna@example.net", "name": "Änna Müller", "variables": {"name": "Änna"}}],
    "template": {
        "id": "order",
        "variables": {
            "items": [{"name": f"Item {number}", "price": f"{number}.50 €"} for number in range(3)],
            "url": "https://shop.example/orders/4711?a=1&b=2",
        },
    },
    "tags": ["order"],
}


def cpu(work: Callable[[int], object]) -> float:
    """Median microseconds of CPU for one call."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for number in range(MAILS):
            work(number)
        rounds.append((time.process_time() - start) / MAILS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        keys = [
            made.key for made in generate_keys(Path(folder), "shop.example", rsa_selector="r", ed25519_selector="e")
        ]
        tenant = Tenant(
            tenant_id="shop",
            domains=["shop.example"],
            from_=Mailbox("orders@shop.example", "The Shop"),
            variables={"shop": "The Shop"},
            signing=keys,
        )
        measure(tenant, DkimSigner(Path(folder)))


def measure(tenant: Tenant, signer: DkimSigner) -> None:
    """Print the table."""
    content = TemplateContent("Your order, {{ name }}", HTML, TEXT)
    template = Template(tenant_id="shop", template_id="order", version=1, locales={"en": content})
    renderer, limits, value = JinjaRenderer(), Limits(), msgspec.json.encode(EVENT)
    event = decode_send(value)

    def admitted() -> object:
        return admit(event, tenant, priority="normal", now=NOW, published_at=NOW, limits=limits)

    admission = admit(event, tenant, priority="normal", now=NOW, published_at=NOW, limits=limits)
    (delivery,) = admission.deliveries
    assert event.template is not None
    variables = merge_variables(template, tenant, None, event.template, delivery.variables)
    rendered = renderer.render(template, content, variables)
    mail = compose_content(admission, delivery, rendered, (), date=NOW)

    def whole(number: int) -> bytes:
        event = decode_send(value)
        admission = admit(event, tenant, priority="normal", now=NOW, published_at=NOW, limits=limits)
        parts = encode_attachments(event)
        (delivery,) = admission.deliveries
        variables = merge_variables(template, tenant, None, event.template, delivery.variables)
        rendered = renderer.render(template, choose_content(template, delivery.locale), variables)
        needs_smtputf8(admission, delivery)
        unsigned = compose_content(admission, delivery, rendered, parts, date=NOW + number)
        return signer.sign(unsigned, tenant.signing, now=NOW)

    rows = {
        "decode": cpu(lambda _: decode_send(value)),
        "admit": cpu(lambda _: admitted()),
        "render": cpu(lambda _: renderer.render(template, content, variables)),
        "build": cpu(lambda _: compose_content(admission, delivery, rendered, (), date=NOW)),
        "sign RSA-2048": cpu(lambda _: signer.sign(mail, tenant.signing[:1], now=NOW)),
        "sign Ed25519": cpu(lambda _: signer.sign(mail, tenant.signing[1:], now=NOW)),
        "sign both": cpu(lambda _: signer.sign(mail, tenant.signing, now=NOW)),
        "all": cpu(whole),
    }
    sys.stdout.write(f"{len(whole(0)):,} octets a mail, signed; CPU microseconds a mail, median of {ROUNDS} rounds\n")
    for name, microseconds in rows.items():
        sys.stdout.write(f"{name:<14}{microseconds:8.1f}\n")


if __name__ == "__main__":
    main()
