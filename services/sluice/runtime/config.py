"""Settings: the only reader of the environment.

Each setting is read from ``SLUICE_`` and its name in capitals, else from the TOML file that ``SLUICE_CONFIG`` names,
else has the default below. A secret can be given by file: ``SLUICE_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from sluice.domain.errors import RuleError
from sluice.domain.priorities import Priorities
from sluice.domain.shaping import Rate

PREFIX = "SLUICE_"
CONFIG_FILE = f"{PREFIX}CONFIG"


class Settings(BaseSettings):
    """Everything an operator can set. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    node: str = Field(default_factory=socket.gethostname, description="Name of this machine or pod in outcomes")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line written")
    log_format: Literal["json", "console"] = Field("json", description="Form of log lines")
    health_host: str = Field("127.0.0.1", description="Address that /healthz, /readyz and /metrics listen on")
    health_port: int = Field(0, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics; 0 turns them off")
    stall_s: float = Field(120.0, gt=0, description="No commit for this long, with work unfinished, is a stall")
    disks: str = Field(
        "",
        pattern=r"^$|^[a-z][a-z0-9_]*=[^,]+(,[a-z][a-z0-9_]*=[^,]+)*$",
        description="Folders whose disks are watched besides the working and the temporary one: NAME=FOLDER,…",
    )
    promise_high_s: float = Field(60.0, gt=0, description="How soon high mail is promised to arrive: alerts go by it")
    promise_normal_s: float = Field(900.0, gt=0, description="How soon normal mail is promised to arrive")
    promise_bulk_s: float = Field(14_400.0, gt=0, description="How soon bulk mail is promised to arrive")
    dkim_rotate_days: float = Field(
        180.0, ge=0, description="Age at which a DKIM key is to be replaced by a new one; 0 for never"
    )
    drain_s: float = Field(25.0, gt=0, le=55, description="Time for what is in flight when stopping or rebalancing")

    kafka_bootstrap: str = Field("127.0.0.1:9092", min_length=1, description="Kafka servers: host:port,host:port")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to Kafka"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="SASL mechanism, with a SASL_ protocol"
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password")
    kafka_oauth_token_url: str = Field(
        "", pattern=r"^(https?://.+)?$", description="OAUTHBEARER: where tokens are asked for, by client credentials"
    )
    kafka_oauth_client_id: str = Field("", description="OAUTHBEARER: the client that asks for them")
    kafka_oauth_client_secret: SecretStr | None = Field(None, description="OAUTHBEARER: its secret")
    kafka_oauth_scope: str = Field("", description="OAUTHBEARER: scope of the tokens, where one is needed")
    kafka_oauth_extensions: str = Field(
        "",
        pattern=r"^([A-Za-z]+=[^=,]+(,[A-Za-z]+=[^=,]+)*)?$",
        description="OAUTHBEARER: SASL extensions that the brokers ask for: NAME=VALUE,NAME=VALUE",
    )
    kafka_oauth_cafile: Path | None = Field(
        None, description="OAUTHBEARER: CA certificates that sign the token endpoint's; the system's when not set"
    )
    kafka_ssl_cafile: Path | None = Field(None, description="CA certificates that sign the brokers' ones")
    kafka_ssl_certfile: Path | None = Field(None, description="Our certificate for the brokers, with its chain, in PEM")
    kafka_ssl_keyfile: Path | None = Field(None, description="Its private key, in PEM")
    kafka_ssl_key_password: SecretStr | None = Field(None, description="Password of the key, when it has one")
    kafka_instance_id: str | None = Field(None, description="Static membership: a stable name such as the pod's")
    kafka_session_timeout_s: float = Field(20.0, ge=6, description="A member silent for this long is taken for dead")
    kafka_replication: int = Field(1, ge=1, le=9, description="Replication factor of topics that are created")
    kafka_send_partitions: int = Field(4, ge=1, description="Partitions of mail.send.* and mail.idempotency")
    kafka_lane_partitions: int = Field(4, ge=1, description="Partitions of mail.ready.* and mail.outcome")
    kafka_wheel_partitions: int = Field(2, ge=1, description="Partitions of each mail.wheel.*")
    kafka_send_days: int = Field(
        7, ge=1, le=3650, description="Days that send events are kept: so long a mail can be driven again"
    )

    clickhouse_url: str = Field("http://127.0.0.1:8123", pattern=r"^https?://", description="ClickHouse over HTTP")
    clickhouse_user: str = Field("default", description="ClickHouse user")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="ClickHouse password")
    clickhouse_ssl_cafile: Path | None = Field(None, description="CA certificates that sign ClickHouse's one")
    clickhouse_database: str = Field("sluice", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="ClickHouse database")
    clickhouse_cluster: str = Field(
        "",
        pattern=r"^([A-Za-z_][A-Za-z0-9_.-]*)?$",
        description="Cluster of replicas that schema apply makes the tables on; empty for one server",
    )

    rules_dir: Path | None = Field(None, description="Folder whose *.toml lie over the built-in rules")
    rules_poll_s: float = Field(5.0, ge=0, le=3600, description="How often rules_dir is looked at for changes; 0 never")
    dkim_keys_dir: Path | None = Field(None, description="Folder of DKIM private keys: DOMAIN/SELECTOR.pem")
    hash_key: SecretStr = Field(SecretStr("sluice"), description="Key of the addresses' hash in analytics")

    ehlo_name: str = Field(default_factory=socket.getfqdn, description="Name given in EHLO")
    source_address: str | None = Field(None, description="Local address that mail leaves from")
    routes: str = Field("*=mx", description="Where domains go: DOMAIN=mx|smtp://HOST:PORT, comma separated")
    relay_password: SecretStr | None = Field(None, description="Password of a route with ?password_ref=relay")
    dns_servers: str = Field("", description="Resolvers, comma separated; empty for the system's")
    mta_sts: bool = Field(True, description="Whether recipient domains' MTA-STS policies are followed")
    dane_resolver: str = Field(
        "", description="Validating resolver on a safe way, ADDRESS or ADDRESS:PORT; turns DANE on"
    )
    tls_report_tenant: str = Field(
        "", description="Tenant in whose name reports of TLS (RFC 8460) are sent; its tls_reports has to be true"
    )
    tls_report_from: str = Field("", description="Address that reports of TLS come from; empty for the tenant's own")
    tls_report_organisation: str = Field("", description="Who reports; empty for the tenant's name")
    tls_report_contact: str = Field("", description="Whom to ask about a report; empty for the address it comes from")
    egresses: str = Field(
        "",
        description="Several ways out, separated by blanks: NAME=ADDRESS+ADDRESS?ehlo=NAME&pool=NAME&rate=100/s"
        "&connections=N; empty for one, of source_address, ehlo_name and egress_rate",
    )
    egress_rate: str | None = Field(
        None, description="Most mails from this source address, over all workers that use it: 100/s, 5000/h,burst=50"
    )
    connections: int = Field(200, ge=1, le=20_000, description="Most SMTP connections of one deliver process")
    priority_weights: str = Field(
        "16:4:1",
        description="Turns of high, normal and bulk while all three wait for mails or connections",
    )
    priority_reserve: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Part of a lane's and the process's connections that only high takes; 0 for none",
    )
    priority_headroom: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="Part of the processors' time that other mail leaves free while high comes; 0 for none",
    )
    smtp_connect_s: float = Field(60.0, gt=0, description="Longest wait to connect, for TLS, for the banner")
    smtp_command_s: float = Field(300.0, gt=0, description="Longest wait for the reply to EHLO, MAIL, RCPT and others")
    smtp_data_s: float = Field(120.0, gt=0, description="Longest wait for the reply to DATA, for content to be taken")
    smtp_dot_s: float = Field(600.0, gt=0, description="Longest wait for the reply to the whole content")
    smtp_chunking: bool = Field(True, description="Whether busy connections send mails in one write, where offered")
    patience_s: float = Field(8.0, ge=0, le=60, description="A mail that must wait longer than this goes to the wheel")

    max_message_bytes: int = Field(25 * 1024 * 1024, ge=1024, description="Largest mail composed")
    max_schedule_days: float = Field(30.0, gt=0, description="How far ahead send_at may lie")
    idempotency_hours: float = Field(24.0, gt=0, le=168, description="How long an idempotency key is remembered")
    idempotency_keys: int = Field(500_000, ge=1000, description="Most keys kept per partition, oldest dropped")

    record_batch_rows: int = Field(10_000, ge=1, description="Most outcomes inserted into ClickHouse at once")
    record_batch_s: float = Field(
        1.5, gt=0, description="Longest wait before what has come is inserted; a third of it when no more comes"
    )

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Settings:
        if not self.kafka_security_protocol.startswith("SASL"):
            return self
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            if not (self.kafka_oauth_token_url and self.kafka_oauth_client_id and self.kafka_oauth_client_secret):
                raise ValueError(
                    "kafka_sasl_mechanism OAUTHBEARER needs kafka_oauth_token_url, _client_id and _client_secret"
                )
        elif not (self.kafka_sasl_mechanism and self.kafka_sasl_username and self.kafka_sasl_password):
            raise ValueError("kafka_security_protocol with SASL needs kafka_sasl_mechanism, _username and _password")
        return self

    @model_validator(mode="after")
    def _client_certificate_is_whole(self) -> Settings:
        if (self.kafka_ssl_certfile is None) != (self.kafka_ssl_keyfile is None):
            raise ValueError("kafka_ssl_certfile and kafka_ssl_keyfile need each other")
        if self.kafka_ssl_certfile and not self.kafka_security_protocol.endswith("SSL"):
            raise ValueError("kafka_ssl_certfile needs kafka_security_protocol SSL or SASL_SSL")
        return self

    @model_validator(mode="after")
    def _egresses_are_said_once(self) -> Settings:
        if self.egresses and (self.source_address or self.egress_rate):
            raise ValueError("egresses takes the place of source_address and egress_rate: unset them")
        return self

    @field_validator("egress_rate")
    @classmethod
    def _is_rate(cls, text: str | None) -> str | None:
        if text:
            try:
                Rate.parse(text)
            except RuleError as error:
                raise ValueError(str(error)) from error
        return text or None

    @field_validator("priority_weights")
    @classmethod
    def _is_weights(cls, text: str) -> str:
        try:
            return str(Priorities.parse(text))
        except RuleError as error:
            raise ValueError(str(error)) from error

    @field_validator(
        "dkim_keys_dir", "rules_dir", "clickhouse_ssl_cafile",
        "kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile", "kafka_oauth_cafile",
    )  # fmt: skip
    @classmethod
    def _exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.exists():
            raise ValueError(f"{path} does not exist")
        return path

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Arguments, then the environment, then the file."""
        file = os.environ.get(CONFIG_FILE)
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, Path(file))) if file else sources


def load_settings(**overrides: Any) -> Settings:
    """Read and validate all settings; raises :class:`RuleError` that lists everything wrong at once."""
    file = os.environ.get(CONFIG_FILE)
    if file and not Path(file).is_file():
        raise RuleError(f"{CONFIG_FILE}: {file} is not a file")
    problems = [f"  {name}: unknown setting" for name in unknown_settings(os.environ)]
    try:
        given: dict[str, Any] = {**_secrets_from_files(os.environ), **overrides}
        settings = Settings(**given)
    except ValidationError as error:
        problems += [
            f"  {PREFIX}{'_'.join(map(str, item['loc'])).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False, include_url=False)
        ]
    except OSError as error:
        problems.append(f"  {error.filename}: {error.strerror}")
    if problems:
        raise RuleError("settings are wrong:\n" + "\n".join(problems))
    return settings


class Otlp(msgspec.Struct, frozen=True):
    """Which signals go somewhere by OTLP, and how: by the standard variables, which the exporters read themselves."""

    traces: bool
    metrics: bool
    protocol: str
    sampler: str
    """``OTEL_TRACES_SAMPLER``, empty when it is not set."""
    share: float | None
    """``OTEL_TRACES_SAMPLER_ARG`` while that is not set: of the traces, 0 to 1."""


def otlp_settings(environment: Mapping[str, str] = os.environ) -> Otlp:
    """What ``OTEL_*`` asks for. ``OTEL_SDK_DISABLED`` and ``OTEL_TRACES_EXPORTER=none`` (and METRICS) turn it off.

    Raises :class:`RuleError`.
    """
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    general = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")

    def wanted(signal: str) -> bool:
        endpoint = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or general
        return bool(endpoint) and not disabled and environment.get(f"OTEL_{signal}_EXPORTER", "otlp") == "otlp"

    protocol = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    sampler, given = environment.get("OTEL_TRACES_SAMPLER", ""), environment.get("OTEL_TRACES_SAMPLER_ARG")
    try:
        share = None if sampler or not given else float(given)
    except ValueError:
        share = -1.0
    if share is not None and not 0 <= share <= 1:
        raise RuleError(f"OTEL_TRACES_SAMPLER_ARG: {given!r} is no share between 0 and 1")
    return Otlp(wanted("TRACES"), wanted("METRICS"), protocol, sampler, share)


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that name no setting: most often a spelling mistake."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {CONFIG_FILE}
    return sorted(
        name
        for name in environment
        if name.startswith(PREFIX) and name not in known and name.removesuffix("_FILE") not in _secret_names()
    )


def _secret_names() -> set[str]:
    fields = Settings.model_fields.items()
    return {f"{PREFIX}{name}".upper() for name, field in fields if "SecretStr" in str(field.annotation)}


def _secrets_from_files(environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _secret_names():
        if file := environment.get(f"{name}_FILE"):
            found[name.removeprefix(PREFIX).lower()] = Path(file).read_text(encoding="utf-8").strip()
    return found
