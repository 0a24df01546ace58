"""What can be chosen about a local stack."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

SERVICES: tuple[str, ...] = ("compose", "deliver", "wheel", "record")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``data`` keeps everything. ``kafka`` (HOST:PORT), ``clickhouse`` (URL) and ``smtp`` (HOST:PORT) name parts that
    run elsewhere; None runs an embedded one.
    """

    data: Path
    counts: dict[str, int] = {}
    """How many processes of each service; one where nothing is said."""
    kafka: str | None = None
    clickhouse: str | None = None
    smtp: str | None = None
    tls: bool = False
    """Offer STARTTLS at the mailbox, and use it."""
    examples: bool | None = None
    """Publish the examples' tenants and templates; None: when the folder is new and Kafka is embedded."""
    lasting: bool = False
    """Have the embedded Kafka made for hours: slower in the first minutes, and faster later."""
    new_ports: bool = False
    first_port: int | None = None
    """Choose ports from this one upwards instead of the usual ones."""
    rules: Path | None = None
    """Folder of rule files that lie over the built-in ones."""
    behaviour: Path | None = None
    """File that tells the mailbox how to misbehave."""
    mailbox_timeout: float = 900.0
    """Seconds after which the mailbox ends a silence, its own too."""
    sink: Literal["mailbox", "fast"] = "mailbox"
    """``fast`` counts mails and keeps none of them."""
    static_members: bool = False
    """Have compose and deliver keep their place in Kafka's groups through a restart, as the chart's pods do."""
    environment: dict[str, str] = {}
    """Further settings for every service."""
