"""What the ``sluice`` command is built on: adapters that stay silent, because the command says itself what failed.

Apart from the wiring so that a command loads only what it uses.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import structlog

from sluice.domain.catalogue import Catalogue
from sluice.domain.errors import SluiceError
from sluice.domain.reference import SigningKey
from sluice.domain.rotation import KeyAge
from sluice.domain.topics import OUTCOME, Layout
from sluice.ports.bus import NotStored, Record
from sluice.ports.intake import Taken
from sluice.runtime import kafka_options as options
from sluice.runtime.config import Settings

if TYPE_CHECKING:
    from sluice.adapters.clickhouse.client import ClickHouse
    from sluice.adapters.clickhouse.queries import Queries
    from sluice.adapters.dkim.generate import GeneratedKey
    from sluice.adapters.jinja.renderer import JinjaRenderer
    from sluice.adapters.kafka.lane_states import Told
    from sluice.adapters.kafka.survey import KafkaSurvey
    from sluice.adapters.kafka.topics import TopicAdmin

REACH_S = 5.0
"""Seconds to find out whether there is a Kafka."""
LOAD_S = 60.0


def hush() -> None:
    """Keep what adapters log away from a command's output."""
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(processors=[_dropped])


def _dropped(*_: object) -> str:
    raise structlog.DropEvent


def kafka_options(settings: Settings) -> dict[str, Any]:
    """librdkafka's options, its own complaints turned off."""
    return {**options.kafka_options(settings), "log_level": 0}


def survey(settings: Settings) -> KafkaSurvey:
    """Reads how the cluster stands."""
    from sluice.adapters.kafka.survey import KafkaSurvey

    return KafkaSurvey(kafka_options(settings))


def reach(settings: Settings) -> dict[str, int]:
    """Partitions by topic; raises :class:`SluiceError` within seconds when there is no Kafka to ask."""
    remedy = "start it (sluice up), or set SLUICE_KAFKA_BOOTSTRAP to where it is"
    if not any(_listens(server) for server in settings.kafka_bootstrap.split(",")):
        raise SluiceError(f"Kafka cannot be reached at {settings.kafka_bootstrap}: {remedy}")
    try:
        return survey(settings).partitions(REACH_S)
    except SluiceError as error:
        raise SluiceError(f"{error}: {remedy}") from error


def _listens(server: str) -> bool:
    """Whether anything does; librdkafka would go on trying for the whole of its time where nobody ever will."""
    host, _, port = server.strip().rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH_S):
            return True
    except ValueError:
        return True
    except OSError:
        return False


def require(settings: Settings, *topics: str) -> None:
    """Raises :class:`SluiceError` when Kafka cannot be reached, or lacks one of ``topics``."""
    if missing := set(topics) - set(reach(settings)):
        raise SluiceError(f"Kafka has no topic {', '.join(sorted(missing))}: create it with sluice topics apply")


def topic_admin(settings: Settings) -> TopicAdmin:
    """Creates and compares topics."""
    from sluice.adapters.kafka.topics import TopicAdmin

    return TopicAdmin(kafka_options(settings), settings.kafka_replication)


def layout(settings: Settings) -> Layout:
    """The topics' layout as set."""
    return Layout(
        send_partitions=settings.kafka_send_partitions,
        lane_partitions=settings.kafka_lane_partitions,
        wheel_partitions=settings.kafka_wheel_partitions,
        send_days=settings.kafka_send_days,
    )


@contextmanager
def catalogue(settings: Settings, topics: tuple[str, ...] = ()) -> Iterator[Catalogue]:
    """Reference data, loaded and followed: of ``topics``, or all that compose follows.

    Raises :class:`SluiceError` when they cannot be read.
    """
    from sluice.adapters.kafka.reference import FOLLOWED, KafkaReference

    topics = topics or FOLLOWED
    require(settings, *topics)
    known = Catalogue()
    following = KafkaReference(kafka_options(settings), known, topics)
    following.start()
    try:
        if not following.wait_loaded(LOAD_S):
            raise SluiceError(f"reference data were not read within {LOAD_S:.0f} s")
        yield known
    finally:
        following.stop()


def publish(settings: Settings, records: Iterable[Record]) -> int:
    """Publish records and wait until all are stored; returns how many.

    Raises :class:`SluiceError` when one was not stored; those before it may have been, and can be published again.
    """
    return asyncio.run(_publish(settings, records))


async def _publish(settings: Settings, records: Iterable[Record]) -> int:
    from sluice.adapters.kafka.producer import KafkaBus

    bus = KafkaBus(kafka_options(settings), timeout_s=30.0)
    count = 0
    try:
        waiting = [asyncio.ensure_future(bus.publish(record)) for record in records]
        for stored in asyncio.as_completed(waiting):
            await stored
            count += 1
    except NotStored as error:
        raise SluiceError(f"not stored: {error}") from error
    finally:
        await bus.close()
    return count


def read_topic(settings: Settings, topic: str) -> Iterator[Taken]:
    """Every record that a topic holds now."""
    from sluice.adapters.kafka.pages import read_topic as read

    require(settings, topic)
    return read(kafka_options(settings), topic)


def read_one(settings: Settings, topic: str, partition: int, offset: int) -> Taken | None:
    """A record by its place, or None."""
    from sluice.adapters.kafka.pages import read_one as read

    require(settings, topic)
    return read(kafka_options(settings), topic, partition, offset)


def lane_states(settings: Settings) -> list[Told]:
    """What deliver's workers last told of their lanes, for each partition of ``mail.outcome``."""
    from sluice.adapters.kafka.lane_states import read_lane_states

    require(settings, OUTCOME)
    return read_lane_states(kafka_options(settings))


def operator() -> str:
    """Who gives this command, as ``user@machine``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        # In a container there may be neither a variable nor an entry of the password file.
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


@contextmanager
def clickhouse(settings: Settings, timeout_s: int = 60) -> Iterator[ClickHouse]:
    """ClickHouse, connected when first asked; closed at the end. ``timeout_s`` is what one statement may take."""
    from sluice.adapters.clickhouse.client import ClickHouse, Target

    store = ClickHouse(
        Target(
            settings.clickhouse_url,
            settings.clickhouse_database,
            settings.clickhouse_user,
            options.reveal(settings.clickhouse_password),
            cafile=str(settings.clickhouse_ssl_cafile) if settings.clickhouse_ssl_cafile else None,
            timeout=timeout_s,
        )
    )
    try:
        yield store
    finally:
        store.close()


def migrations() -> ModuleType:
    """Plans and applies ClickHouse's schema."""
    from sluice.adapters.clickhouse import migrations

    return migrations


@contextmanager
def queries(settings: Settings) -> Iterator[Queries]:
    """What is asked of the outcomes; errors are :class:`SluiceError`."""
    from sluice.adapters.clickhouse.queries import Queries

    with clickhouse(settings) as store:
        yield Queries(store)


def mails_of(settings: Settings, message_id: str) -> list[str]:
    """Ids of the mails that an event with several recipients became."""
    from sluice.adapters.clickhouse.fanout import mails_of as of

    with clickhouse(settings) as store:
        return of(store, message_id)


def mails_meant(settings: Settings, subject: str, limit: int) -> list[str]:
    """Ids of the mails that a Message-ID or a recipient's address stands for, the latest first, at most ``limit``."""
    from sluice.adapters.clickhouse.finding import mail_with_header, mails_to
    from sluice.domain.addresses import parse_address
    from sluice.domain.conclusion import Recorder
    from sluice.domain.errors import Refused

    plain = subject.strip().removeprefix("<").removesuffix(">")
    with clickhouse(settings) as store:
        if (found := mail_with_header(store, plain)) is not None:
            return [found]
        try:
            address = parse_address(plain, "recipient").addr_spec
        except Refused:
            return []
        recorder = Recorder(settings.node, settings.hash_key.get_secret_value().encode())
        return mails_to(store, recorder.hashed(address), limit)


def renderer() -> JinjaRenderer:
    """Templates."""
    from sluice.adapters.jinja.renderer import JinjaRenderer

    return JinjaRenderer()


def key_problems(settings: Settings, keys: Iterable[SigningKey]) -> list[str]:
    """What keeps any of ``keys`` from being used; the key folder may be unset, and then has none of them."""
    from sluice.adapters.dkim.keys import KeyFolder

    folder = KeyFolder(settings.dkim_keys_dir or Path("/nonexistent"))
    problems = []
    for key in dict.fromkeys(keys):
        try:
            folder.get(key)
        except SluiceError as error:
            problems.append(str(error))
    return problems


def key_ages(settings: Settings, keys: Iterable[SigningKey]) -> list[KeyAge]:
    """How old each of ``keys`` is."""
    from sluice.adapters.dkim.ages import key_ages as ages

    return ages(settings.dkim_keys_dir or Path("/nonexistent"), keys)


def generate_dkim_keys(
    settings: Settings, domain: str, *, folder: Path | None, rsa_selector: str, ed25519_selector: str
) -> list[GeneratedKey]:
    """New keys in ``folder``, or in the configured one; raises :class:`SluiceError` for a domain or selector in use."""
    from sluice.adapters.dkim.generate import generate_keys

    into = folder or settings.dkim_keys_dir
    if into is None:
        raise SluiceError("no key folder: give --keys FOLDER, or set SLUICE_DKIM_KEYS_DIR")
    try:
        return generate_keys(into, domain, rsa_selector=rsa_selector, ed25519_selector=ed25519_selector)
    except FileExistsError as error:
        raise SluiceError(
            f"{error.filename} exists already: a published key is never overwritten, choose other selectors"
        ) from error
    except ValueError as error:
        raise SluiceError(f"{domain}: {error}") from error
