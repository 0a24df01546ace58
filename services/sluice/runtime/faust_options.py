"""How settings become the options of Faust and of aiokafka, which it reads with."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sluice.adapters.kafka.app import FaustOptions
from sluice.adapters.kafka.oauth import OAuth, ask_once
from sluice.runtime.config import Settings
from sluice.runtime.kafka_options import reveal


def faust_options(settings: Settings, group: str) -> FaustOptions:
    """For a member of ``group``."""
    return FaustOptions(
        group=group,
        bootstrap=settings.kafka_bootstrap,
        client_id=f"sluice-{settings.node}-{os.getpid()}",
        instance_id=settings.kafka_instance_id,
        session_timeout_s=settings.kafka_session_timeout_s,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username,
        sasl_password=reveal(settings.kafka_sasl_password) or None,
        ssl_cafile=_path(settings.kafka_ssl_cafile),
        ssl_certfile=_path(settings.kafka_ssl_certfile),
        ssl_keyfile=_path(settings.kafka_ssl_keyfile),
        ssl_key_password=reveal(settings.kafka_ssl_key_password) or None,
        oauth=_oauth(settings),
    )


def ask_for_token(settings: Settings) -> bool:
    """Whether there was one to ask for, and it was had; raises :class:`SluiceError`."""
    oauth = _oauth(settings)
    if oauth is None:
        return False
    asyncio.run(ask_once(oauth))
    return True


def _oauth(settings: Settings) -> OAuth | None:
    if settings.kafka_sasl_mechanism != "OAUTHBEARER":
        return None
    given = (pair.partition("=")[::2] for pair in settings.kafka_oauth_extensions.split(",") if pair)
    return OAuth(
        settings.kafka_oauth_token_url,
        settings.kafka_oauth_client_id,
        reveal(settings.kafka_oauth_client_secret),
        settings.kafka_oauth_scope,
        dict(given),
        _path(settings.kafka_oauth_cafile),
    )


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
