"""Publish a mail from a service of your own: ``pip install sluice-mail``, and the address of your Kafka."""

import sys

from sluice.client import Client

mail = {
    "tenant_id": "acme",
    "to": [{"email": "jo@mail.example", "name": "Jo Müller", "variables": {"name": "Jo"}}],
    "template": {"id": "activation", "variables": {"url": "https://acme.example/activate?token=EXAMPLE"}},
}
with Client(sys.argv[1] if len(sys.argv) > 1 else "localhost:9092", source="signup") as sluice:
    receipt = sluice.send(mail, priority="high")
sys.stdout.write(f"{receipt.message_id} is stored: {receipt.topic}/{receipt.partition} at {receipt.offset}\n")
