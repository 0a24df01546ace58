"""The Faust application, with the settings that delivery without loss needs."""

from __future__ import annotations

import ssl
from typing import Any

import faust
import msgspec
from faust import SASLCredentials
from faust.auth import OAuthCredentials
from faust.sensors import Monitor

from sluice.adapters.kafka.membership import HEARTBEAT_S
from sluice.adapters.kafka.oauth import OAuth, TokenProvider


class FaustOptions(msgspec.Struct, frozen=True):
    """How a service joins Kafka. ``instance_id`` names a static member; None for a dynamic one."""

    group: str
    bootstrap: str
    client_id: str
    instance_id: str | None = None
    session_timeout_s: float = 45.0
    rebalance_timeout_s: float = 60.0
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_key_password: str | None = None
    oauth: OAuth | None = None


class _BriefMonitor(Monitor):
    """Faust's statistics of single records, which nobody reads, cost more than handing a record over."""

    def on_message_in(self, tp: Any, offset: int, message: Any) -> None:
        """Nothing."""

    def on_message_out(self, tp: Any, offset: int, message: Any) -> None:
        """Nothing."""

    def on_stream_event_in(self, tp: Any, offset: int, stream: Any, event: Any) -> None:
        """Nothing."""

    def on_stream_event_out(self, tp: Any, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        """Nothing."""


class _App(faust.App):
    def _create_directories(self) -> None:
        """Faust keeps tables in a folder below the working directory; there are none, and it may be read-only."""


def faust_app(options: FaustOptions) -> faust.App:
    """An application that consumes only: no web server, no tables, no topic creation, no acks of its own."""
    extra: dict[str, Any] = {}
    credentials = _credentials(options)
    if credentials is not None:
        extra["broker_credentials"] = credentials
    if options.instance_id:
        extra["consumer_group_instance_id"] = options.instance_id
    return _App(
        options.group,
        broker=[f"kafka://{server.strip()}" for server in options.bootstrap.split(",")],
        broker_client_id=options.client_id,
        processing_guarantee="at_least_once",
        # Of each topic: small, so that what is urgent is asked for again soon.
        broker_max_poll_records=200,
        broker_session_timeout=options.session_timeout_s,
        broker_rebalance_timeout=options.rebalance_timeout_s,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_request_timeout=max(90.0, options.session_timeout_s + 15.0),
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        # How soon partitions that were added are noticed, and consumed.
        consumer_metadata_max_age_ms=10_000,
        stream_buffer_maxsize=1024,
        stream_wait_empty=False,
        # Above zero selects Faust's own assignor, which gives co-partitioned topics the same numbers on each worker.
        table_standby_replicas=1,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        monitor=_BriefMonitor(),
        **extra,
    )


def _credentials(options: FaustOptions) -> Any:
    protocol = options.security_protocol.upper()
    if protocol == "PLAINTEXT":
        return None
    context = _context(options) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL") and options.oauth is not None:
        return OAuthCredentials(oauth_cb=TokenProvider(options.oauth), ssl_context=context)
    if protocol.startswith("SASL"):
        return SASLCredentials(
            username=options.sasl_username,
            password=options.sasl_password,
            mechanism=options.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context)


def _context(options: FaustOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.ssl_cafile)
    if options.ssl_certfile is not None:
        # Without a password given, a key that has one must not have it asked for at a terminal.
        password = options.ssl_key_password or ""
        context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, password=lambda: password)
    return context
