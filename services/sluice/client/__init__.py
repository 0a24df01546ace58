"""Publish mail from a service of your own. Needs confluent-kafka, msgspec and orjson, nothing of the workers'.

with Client("localhost:9092", source="shop") as sluice:
    sluice.send({"tenant_id": "acme", "to": [{"email": "jo@example.com"}], "subject": "Hello", "text": "Hi."})
"""

from sluice.client.asynchronous import AsyncClient
from sluice.client.errors import NotPublished
from sluice.client.identity import new_message_id
from sluice.client.producer import Client
from sluice.client.results import Progress, Receipt, Refusal, Summary
from sluice.domain.errors import Refused
from sluice.domain.events import (
    Attachment,
    Mailbox,
    Priority,
    Recipient,
    SendEvent,
    TemplateRef,
    Tracking,
    Unsubscribe,
)

__all__ = [
    "AsyncClient",
    "Attachment",
    "Client",
    "Mailbox",
    "NotPublished",
    "Priority",
    "Progress",
    "Receipt",
    "Recipient",
    "Refusal",
    "Refused",
    "SendEvent",
    "Summary",
    "TemplateRef",
    "Tracking",
    "Unsubscribe",
    "new_message_id",
]
