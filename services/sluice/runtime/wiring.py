"""The only place that builds adapters: from settings to what the services need."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from sluice.adapters.clickhouse.client import ClickHouse, Target
from sluice.adapters.clickhouse.insert import ClickHouseOutcomes
from sluice.adapters.clickhouse.mirror import ClickHouseReference
from sluice.adapters.dkim.signer import DkimSigner
from sluice.adapters.dns.resolver import DnsResolver
from sluice.adapters.dns.tlsa import DaneResolver
from sluice.adapters.jinja.renderer import JinjaRenderer
from sluice.adapters.kafka.app import faust_app
from sluice.adapters.kafka.backlog import KafkaBacklog
from sluice.adapters.kafka.batches import KafkaBatches
from sluice.adapters.kafka.demands import KafkaDemands
from sluice.adapters.kafka.follower import KafkaFollower
from sluice.adapters.kafka.intake import Bounds, FaustIntake
from sluice.adapters.kafka.ledger_log import KafkaLedgerLog
from sluice.adapters.kafka.producer import KafkaBus
from sluice.adapters.kafka.reference import FOLLOWED, KafkaReference
from sluice.adapters.kafka.seen_log import KafkaSeenLog
from sluice.adapters.kafka.topics import TopicAdmin
from sluice.adapters.mtasts import CachedStsPolicies, PolicyFetcher
from sluice.adapters.rules.folder import RulesFolder
from sluice.adapters.rules.loader import load_rules
from sluice.adapters.smtp.mailer import SmtpMailer
from sluice.adapters.smtp.sources import not_ours
from sluice.adapters.system.clock import SystemClock
from sluice.adapters.system.load import SystemLoad
from sluice.adapters.telemetry.store import TimedStore
from sluice.adapters.telemetry.tally import CountingRecorder, OutcomeTally
from sluice.domain.admission import DAY, Limits
from sluice.domain.catalogue import Catalogue
from sluice.domain.egress import Egresses
from sluice.domain.errors import RuleError
from sluice.domain.routing import RelayRoute, RouteTable
from sluice.domain.rules import Rules
from sluice.domain.topics import OUTCOME, Layout
from sluice.ports.intake import Handler
from sluice.ports.mailer import Timeouts
from sluice.runtime import console_rules
from sluice.runtime.config import Settings
from sluice.runtime.faust_options import faust_options
from sluice.runtime.kafka_options import kafka_options, reveal
from sluice.runtime.rules_watch import RulesWatch
from sluice.runtime.stall import Place, ReadingWatch

__all__ = ["SystemClock", "SystemLoad", "kafka_options"]
READ_SHARE = 0.75
"""Of the time after which a service is taken for stalled: as long a reading that gets nothing tries to go on."""


def bus(settings: Settings) -> KafkaBus:
    """A producer; needs a running event loop."""
    return KafkaBus(kafka_options(settings))


def intake(settings: Settings, group: str, topics: tuple[str, ...], handler: Handler) -> FaustIntake:
    """Faust agents that feed ``handler`` as a member of ``group``."""
    return FaustIntake(faust_app(faust_options(settings, group)), topics, handler, Bounds(), drain_s=settings.drain_s)


def follower(settings: Settings, group: str, topics: tuple[str, ...]) -> KafkaFollower:
    """A plain group member."""
    return KafkaFollower(_member_options(settings), group, topics)


def outcome_batches(settings: Settings, group: str) -> KafkaBatches:
    """Outcomes in batches that survive a crash."""
    return KafkaBatches(
        settings.kafka_bootstrap,
        OUTCOME,
        group,
        max_rows=settings.record_batch_rows,
        max_age=settings.record_batch_s,
        settings=_member_options(settings),
    )


def _member_options(settings: Settings) -> dict[str, object]:
    """Of a member that is not Faust's: a dead one must not keep its partitions longer than those do."""
    return {**kafka_options(settings), "session.timeout.ms": round(settings.kafka_session_timeout_s * 1000)}


def clickhouse(settings: Settings) -> ClickHouse:
    """A client of the database that holds outcomes."""
    return ClickHouse(
        Target(
            settings.clickhouse_url,
            settings.clickhouse_database,
            settings.clickhouse_user,
            settings.clickhouse_password.get_secret_value(),
            cafile=str(settings.clickhouse_ssl_cafile) if settings.clickhouse_ssl_cafile else None,
        )
    )


def outcome_store(settings: Settings) -> TimedStore:
    """Where outcomes are kept."""
    return TimedStore(ClickHouseOutcomes(clickhouse(settings)))


def reference_mirror(settings: Settings) -> ClickHouseReference:
    """Where reference data is mirrored for reading."""
    return ClickHouseReference(clickhouse(settings))


def reading_watch(settings: Settings, group: str, reading: Callable[[], Mapping[Place, int]]) -> ReadingWatch:
    """Notices that a service of ``group`` leaves records unread."""
    backlog = KafkaBacklog(kafka_options(settings), group)
    return ReadingWatch(reading, backlog.waiting, settings.stall_s)


def ledger_log(settings: Settings) -> KafkaLedgerLog:
    """The ledger's reader."""
    return KafkaLedgerLog(kafka_options(settings), patience_s=settings.stall_s * READ_SHARE)


def seen_log(settings: Settings) -> KafkaSeenLog:
    """The idempotency keys' reader."""
    window = settings.idempotency_hours * 3600
    return KafkaSeenLog(kafka_options(settings), window=window, limit=settings.idempotency_keys)


def reference(settings: Settings, topics: tuple[str, ...] = FOLLOWED) -> tuple[Catalogue, KafkaReference]:
    """Reference data of some topics, and what keeps it up to date."""
    catalogue = Catalogue()
    return catalogue, KafkaReference(kafka_options(settings), catalogue, topics)


def demands(settings: Settings, bus: KafkaBus) -> KafkaDemands:
    """What workers say of the limits they share."""
    return KafkaDemands(kafka_options(settings), bus)


def topic_admin(settings: Settings) -> TopicAdmin:
    """Creates and compares topics."""
    return TopicAdmin(kafka_options(settings), settings.kafka_replication)


def layout(settings: Settings) -> Layout:
    """The topics' layout as set."""
    return Layout(
        send_partitions=settings.kafka_send_partitions,
        lane_partitions=settings.kafka_lane_partitions,
        wheel_partitions=settings.kafka_wheel_partitions,
        send_days=settings.kafka_send_days,
        idempotency_hours=math.ceil(settings.idempotency_hours),
    )


def rules(settings: Settings) -> Rules:
    """Sites, bounces and retries; raises :class:`RuleError` with everything wrong in the files."""
    return load_rules(settings.rules_dir)


def rules_watch(
    settings: Settings,
    rules: Rules,
    follow: Callable[[Rules], None],
    check: Callable[[Rules], None] = lambda _: None,
) -> RulesWatch:
    """Has ``follow`` take over what changes in the rules' folder since ``rules`` were read from it."""
    every = settings.rules_poll_s if settings.rules_dir is not None else 0.0
    return RulesWatch(RulesFolder(settings.rules_dir, rules.version), rules, every, follow=follow, check=check)


def routes(settings: Settings) -> RouteTable:
    """Where domains go; raises :class:`RuleError`."""
    table = RouteTable.parse(settings.routes)
    secrets = egress_secrets(settings)
    wanted = {route.password_ref for route in table.routes.values() if isinstance(route, RelayRoute)}
    if missing := wanted - set(secrets):
        raise RuleError(f"SLUICE_ROUTES: no password is set for {', '.join(sorted(missing))}")
    return table


def egress_secrets(settings: Settings) -> Mapping[str, str]:
    """Passwords by the name that a route's ``password_ref`` gives; there is one, ``relay``."""
    return {"relay": reveal(settings.relay_password)} if settings.relay_password else {}


def egresses(settings: Settings, rules: Rules) -> Egresses:
    """Where mail may leave from.

    Raises :class:`RuleError`, also for one that the rules name and that is not there, and for addresses that this
    machine does not have: mail for them would wait until it expires.
    """
    found = console_rules.egresses(settings)
    wrong = {egress.name: missing for egress in found.all if (missing := not_ours(egress.addresses))}
    if wrong:
        told = "; ".join(f"{name}: {', '.join(missing)}" for name, missing in wrong.items())
        setting = "SLUICE_EGRESSES" if settings.egresses else "SLUICE_SOURCE_ADDRESS"
        raise RuleError(f"{setting}: this machine does not have the address of {told}")
    check_egresses(found, rules)
    return found


def check_egresses(egresses: Egresses, rules: Rules) -> None:
    """Raises :class:`RuleError` when ``rules`` name an egress or pool that is not there."""
    egresses.check({site.egress for site in rules.sites.all if site.egress}, "sites.toml: egress")
    named = {trigger.egress for trigger in rules.triggers.triggers if trigger.egress}
    egresses.check(named, "triggers.toml: egress")


def own_names(settings: Settings) -> frozenset[str]:
    """Names under which this machine may appear in MX records."""
    said = {egress.ehlo.lower() for egress in console_rules.egresses(settings).all}
    return frozenset({settings.ehlo_name.lower(), socket.getfqdn().lower(), *said})


def resolver(settings: Settings) -> DnsResolver:
    """DNS; needs a running event loop."""
    servers = [server.strip() for server in settings.dns_servers.split(",") if server.strip()]
    return DnsResolver(servers)


def sts_policies(settings: Settings, resolver: DnsResolver) -> CachedStsPolicies | None:
    """MTA-STS, unless it is turned off."""
    return CachedStsPolicies(resolver, PolicyFetcher(resolver)) if settings.mta_sts else None


def dane_records(settings: Settings) -> DaneResolver | None:
    """DANE, when there is a resolver for it; raises :class:`RuleError`."""
    if not settings.dane_resolver:
        return None
    try:
        return DaneResolver(settings.dane_resolver)
    except ValueError as error:
        raise RuleError(f"SLUICE_DANE_RESOLVER: {error}; write ADDRESS or ADDRESS:PORT") from error


def mailer(settings: Settings) -> SmtpMailer:
    """SMTP."""
    return SmtpMailer(
        Timeouts(
            connect=settings.smtp_connect_s,
            command=settings.smtp_command_s,
            data=settings.smtp_data_s,
            dot=settings.smtp_dot_s,
        ),
        chunking=settings.smtp_chunking,
    )


def renderer() -> JinjaRenderer:
    """Templates."""
    return JinjaRenderer()


def signer(settings: Settings) -> DkimSigner:
    """DKIM, with keys from the configured folder."""
    return DkimSigner(settings.dkim_keys_dir or Path("/nonexistent"))


def recorder(settings: Settings, rules: Rules) -> CountingRecorder:
    """Builds outcomes in this process's name, and counts them; sites that ``rules`` name are told apart."""
    tally = OutcomeTally(site.name for site in rules.sites.all)
    return CountingRecorder(settings.node, settings.hash_key.get_secret_value().encode(), tally)


def limits(settings: Settings, rules: Rules) -> Limits:
    """What send events may ask for."""
    lifetimes = rules.retry.lifetimes
    return Limits(
        max_bytes=settings.max_message_bytes,
        max_schedule=settings.max_schedule_days * DAY,
        expire_high=lifetimes["high"],
        expire_normal=lifetimes["normal"],
        expire_bulk=lifetimes["bulk"],
    )
