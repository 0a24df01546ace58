"""Kafka that asks who we are: by certificate (TLS on both sides), and by OAUTHBEARER with tokens of an OpenID provider.

Both clients are tried as the services use them: librdkafka (producer, admin, consumer) and aiokafka below Faust.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from tests.support.token_endpoint import AUDIENCE, CLIENT, ISSUER, SECRET, TokenEndpoint

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.embedded.ports import free_port
from sluice.domain.window import Range
from sluice.ports.intake import Done, Taken
from sluice.runtime import wiring
from sluice.runtime.config import Settings, load_settings
from sluice.runtime.kafka_options import kafka_options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PASSWORD = "correct horse"
OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearer"


class Secured:
    """A broker with a listener for certificates and one for tokens, and what it takes to use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.crt"
        self.authority.cert_pem.write_to_path(self.ca)
        self.ports = {"CERT": free_port(), "TOKEN": free_port()}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self.tokens = TokenEndpoint(context)
        self.tokens.write_keys(folder / "jwks.json")
        self.certificate, self.key = self.issue("client", PASSWORD)

    def issue(self, name: str, password: str = "", authority: trustme.CA | None = None) -> tuple[Path, Path]:
        """Files with a certificate and its key, in the form that Java takes too."""
        leaf = (authority or self.authority).issue_cert("127.0.0.1", common_name=name)
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        secret = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        hidden = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
        return certificate, key

    def broker(self) -> EmbeddedKafka:
        """Not started yet."""
        certificate, key = self.issue("broker")
        store = self.folder / "broker.pem"
        store.write_bytes(key.read_bytes() + certificate.read_bytes())
        port, controller = free_port(), free_port()
        more = "".join(f",{name}://127.0.0.1:{at}" for name, at in self.ports.items())
        token = "listener.name.token.oauthbearer."
        return EmbeddedKafka(
            self.folder / "kafka",
            port,
            controller,
            heap_mb=256,
            properties={
                "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{more}",
                "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}{more}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CERT:SSL,TOKEN:SASL_SSL",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(store),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.ca),
                "listener.name.cert.ssl.client.auth": "required",
                "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
                f"{token}sasl.jaas.config": f"{OAUTH}LoginModule required;",
                f"{token}sasl.server.callback.handler.class": f"{OAUTH}ValidatorCallbackHandler",
                "sasl.oauthbearer.jwks.endpoint.url": f"file://{self.folder}/jwks.json",
                "sasl.oauthbearer.expected.audience": AUDIENCE,
                "sasl.oauthbearer.expected.issuer": ISSUER,
            },
        )

    def by_certificate(self, **changed: Any) -> Settings:
        """Settings of a client with the certificate."""
        return load_settings(
            **{
                "kafka_bootstrap": f"127.0.0.1:{self.ports['CERT']}",
                "kafka_security_protocol": "SSL",
                "kafka_ssl_cafile": self.ca,
                "kafka_ssl_certfile": self.certificate,
                "kafka_ssl_keyfile": self.key,
                "kafka_ssl_key_password": PASSWORD,
                **changed,
            }
        )

    def by_token(self, **changed: Any) -> Settings:
        """Settings of a client that asks for tokens."""
        return load_settings(
            **{
                "kafka_bootstrap": f"127.0.0.1:{self.ports['TOKEN']}",
                "kafka_security_protocol": "SASL_SSL",
                "kafka_sasl_mechanism": "OAUTHBEARER",
                "kafka_ssl_cafile": self.ca,
                "kafka_oauth_token_url": self.tokens.url,
                "kafka_oauth_client_id": CLIENT,
                "kafka_oauth_client_secret": SECRET,
                "kafka_oauth_scope": "mail",
                "kafka_oauth_cafile": self.ca,
                **changed,
            }
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker."""
    made = Secured(tmp_path_factory.mktemp("secured"))
    with pytest.MonkeyPatch.context() as patch:
        # Kafka's own guard against configurations that make it fetch from anywhere.
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{made.folder}/jwks.json"
        patch.setenv("JDK_JAVA_OPTIONS", allowed)
        with made.broker():
            yield made


@pytest.fixture
async def secured(running: Secured) -> AsyncIterator[Secured]:
    """The broker, and an OpenID provider in the test's own loop."""
    await running.tokens.start()
    yield running
    await running.tokens.stop()


class Notes:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    async def assigned(self, partition: int) -> dict[str, list[Range]]:
        """Nothing to load."""
        return {}

    def take(self, record: Taken, done: Done) -> None:
        """Keep it."""
        self.values.append(record.value or b"")
        done()

    async def revoked(self, partitions: set[int]) -> None:
        """Nothing to hand back."""


def by_librdkafka(settings: Settings, topic: str) -> bytes | None:
    """Make a topic, publish one record, and read it."""
    options = kafka_options(settings)
    admin = AdminClient(options)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    producer = Producer(options)
    producer.produce(topic, b"hello")
    assert producer.flush(60) == 0
    consumer = Consumer({**options, "group.id": f"g-{topic}", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        found = consumer.poll(60)
        assert found is not None
        assert found.error() is None
        return found.value()
    finally:
        consumer.close()


async def works(settings: Settings) -> None:
    """With both clients."""
    topic = f"t{uuid.uuid4().hex[:8]}"
    assert await asyncio.to_thread(by_librdkafka, settings, topic) == b"hello"
    notes = Notes()
    intake = wiring.intake(settings, f"f-{topic}", (topic,), notes)
    await intake.start()
    try:
        async with asyncio.timeout(90):
            while not notes.values:  # noqa: ASYNC110  a real broker has no event to wait for
                await asyncio.sleep(0.1)
    finally:
        await intake.stop()
    assert notes.values == [b"hello"]


def refused(settings: Settings) -> bool:
    """Whether the broker lets nobody with these settings in."""
    client = AdminClient({**kafka_options(settings), "log_level": 0})
    try:
        client.list_topics(timeout=4)
    except KafkaException:
        return True
    return False


async def test_a_broker_that_asks_for_certificates_takes_ours(secured: Secured) -> None:
    """Its key may have a password."""
    await works(secured.by_certificate())


async def test_a_broker_that_asks_for_certificates_takes_nobody_without_one_of_its_authoritys(secured: Secured) -> None:
    """What the first test shows would else be shown of any broker."""
    certificate, key = secured.issue("stranger", authority=trustme.CA())
    none = {"kafka_ssl_certfile": None, "kafka_ssl_keyfile": None, "kafka_ssl_key_password": None}
    assert await asyncio.to_thread(refused, secured.by_certificate(**none))
    stranger = {"kafka_ssl_certfile": certificate, "kafka_ssl_keyfile": key, "kafka_ssl_key_password": None}
    assert await asyncio.to_thread(refused, secured.by_certificate(**stranger))


async def test_a_broker_that_asks_for_tokens_takes_those_of_its_provider(secured: Secured) -> None:
    """Asked for with our own credentials, over TLS with an authority of its own."""
    before = len(secured.tokens.asked)
    await works(secured.by_token())
    asked = secured.tokens.asked[before:]
    assert all(form == {"grant_type": "client_credentials", "scope": "mail"} for form in asked)
    assert len(asked) >= 2, "both clients ask"


async def test_a_broker_that_asks_for_tokens_takes_nobody_without_one(secured: Secured) -> None:
    """A wrong secret gets none."""
    assert await asyncio.to_thread(refused, secured.by_token(kafka_oauth_client_secret="wrong"))
