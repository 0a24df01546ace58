"""Reference data for a first look: the repository's examples, or one tenant where there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec

from sluice.adapters.dkim.generate import generate_keys
from sluice.adapters.kafka.producer import KafkaBus
from sluice.domain.reference import (
    Profile,
    Suppression,
    Template,
    Tenant,
    profile_key,
    suppression_key,
    template_key,
)
from sluice.domain.topics import PROFILES, SUPPRESSIONS, TEMPLATES, TENANTS
from sluice.ports.bus import Record
from sluice.runtime import wiring
from sluice.runtime.config import Settings

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
"""In a checkout; an installed package has none."""
RSA, ED25519 = "rsa", "ed25519"
"""Selectors of the keys made here."""

Reference = Tenant | Template | Profile | Suppression
_KINDS: dict[str, type[Reference]] = {
    "tenants": Tenant,
    "templates": Template,
    "profiles": Profile,
    "suppressions": Suppression,
}


def default_tenant() -> Tenant:
    """``acme``, which may send from ``acme.example``."""
    return msgspec.convert(
        {
            "tenant_id": "acme",
            "domains": ["acme.example"],
            "name": "ACME",
            "from": {"email": "hello@acme.example", "name": "ACME"},
            "return_path": "bounces@acme.example",
            "signing": [{"domain": "acme.example", "selector": selector} for selector in (RSA, ED25519)],
        },
        Tenant,
    )


def example_reference(folder: Path = EXAMPLES) -> list[Reference]:
    """What ``tenants/``, ``templates/``, ``profiles/`` and ``suppressions/`` hold, or the default tenant."""
    found: list[Reference] = [
        msgspec.json.decode(path.read_bytes(), type=kind)
        for name, kind in _KINDS.items()
        for path in sorted((folder / name).glob("*.json"))
    ]
    return found or [default_tenant()]


def make_keys(folder: Path, reference: Iterable[Reference]) -> None:
    """Both DKIM keys, ``rsa`` and ``ed25519``, for each domain that a tenant signs with one of them and has none of."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for tenant in reference:
        if not isinstance(tenant, Tenant):
            continue
        for domain in {key.domain for key in tenant.signing}:
            named = {key.selector for key in tenant.signing if key.domain == domain}
            made = any((folder / domain / f"{selector}.pem").exists() for selector in (RSA, ED25519))
            if named & {RSA, ED25519} and not made:
                generate_keys(folder, domain, rsa_selector=RSA, ed25519_selector=ED25519)


def signed_with(reference: Iterable[Reference], selectors: Iterable[str]) -> list[Reference]:
    """The same, with every tenant signing by ``selectors`` only."""
    chosen = set(selectors)
    return [
        msgspec.structs.replace(entry, signing=[key for key in entry.signing if key.selector in chosen])
        if isinstance(entry, Tenant)
        else entry
        for entry in reference
    ]


def reference_record(entry: Reference) -> Record:
    """The record of a ``ref.*`` topic that states ``entry``."""
    match entry:
        case Tenant():
            topic, key = TENANTS, entry.tenant_id
        case Template():
            topic, key = TEMPLATES, template_key(entry.tenant_id, entry.template_id, entry.version)
        case Profile():
            topic, key = PROFILES, profile_key(entry.tenant_id, entry.email)
        case Suppression():
            topic, key = SUPPRESSIONS, suppression_key(entry.tenant_id, entry.stream, entry.email)
    return Record(topic, msgspec.json.encode(entry), key.encode())


def push(settings: Settings, reference: Iterable[Reference]) -> None:
    """Publish reference data and wait until it is stored; raises :class:`sluice.ports.bus.NotStored`. Blocks."""

    async def publish() -> None:
        bus = KafkaBus({**wiring.kafka_options(settings), "log_level": 2})
        try:
            await asyncio.gather(*[bus.publish(reference_record(entry)) for entry in reference])
        finally:
            await bus.close()

    asyncio.run(publish())
