"""The doctor's look at Kafka: topics, groups, and the reference data in them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from sluice.commands.findings import Finding, doubtful, guarded, ok, wrong
from sluice.commands.groups import GROUPS, group_name
from sluice.domain.catalogue import Catalogue
from sluice.domain.reference import Tenant
from sluice.domain.rotation import DAY
from sluice.domain.topics import IDEMPOTENCY, OUTCOME, READY, SEND, topics
from sluice.runtime import console as parts
from sluice.runtime.config import Settings
from sluice.runtime.kafka_certificate import client_certificate

_RENEW_DAYS = 14
_TOGETHER = ((*SEND.values(), IDEMPOTENCY), (*READY.values(), OUTCOME))


def look_at_kafka(settings: Settings) -> Iterator[Finding]:
    """Findings about the cluster; nothing but its absence when it cannot be reached."""
    partitions: dict[str, int] = {}

    def reached() -> Iterator[Finding]:
        partitions.update(parts.reach(settings))
        yield ok("Kafka", f"answers at {settings.kafka_bootstrap}")

    found = list(
        guarded("Kafka certificate", "correct SLUICE_KAFKA_SSL_CERTFILE, _KEYFILE", lambda: _certificate(settings))
    )
    found += guarded(
        "Kafka token", "correct SLUICE_KAFKA_OAUTH_TOKEN_URL and what is sent to it", lambda: _token(settings)
    )
    yield from found
    if any(finding.state == "fail" for finding in found):
        return
    yield from guarded("Kafka", "start it: sluice up; or set SLUICE_KAFKA_BOOTSTRAP", reached)
    if not partitions:
        return
    yield from guarded("topics", "sluice topics plan shows more", lambda: _topics(settings, partitions))
    yield from guarded("services", "sluice status shows more", lambda: _groups(settings))
    yield from guarded("reference data", "sluice topics apply", lambda: _reference(settings))


def _certificate(settings: Settings) -> Iterator[Finding]:
    certificate = client_certificate(settings)
    if certificate is None:
        return
    left = (certificate.ends_at - datetime.now(UTC)).days
    shown = f"{certificate.subject} until {certificate.ends_at:%Y-%m-%d}"
    if left < _RENEW_DAYS:
        yield doubtful("Kafka certificate", f"{shown}, {left} days", "renew it, and restart: it is read at start")
    else:
        yield ok("Kafka certificate", shown)


def _token(settings: Settings) -> Iterator[Finding]:
    # Imported here: Faust costs a second.
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        from sluice.runtime.faust_options import ask_for_token

        if ask_for_token(settings):
            yield ok("Kafka token", f"given by {settings.kafka_oauth_token_url}")


def _topics(settings: Settings, partitions: Mapping[str, int]) -> Iterator[Finding]:
    changes = parts.topic_admin(settings).plan(topics(parts.layout(settings)))
    by_action = {action: [c.topic for c in changes if c.action == action] for action in ("create", "grow", "refused")}
    if missing := by_action["create"]:
        yield wrong("topics", f"missing: {', '.join(missing)}", "sluice topics apply")
    for action, what in (("grow", "fewer"), ("refused", "more")):
        if found := by_action[action]:
            remedy = "sluice topics apply" if action == "grow" else "set SLUICE_KAFKA_*_PARTITIONS to what there is"
            yield doubtful("topics", f"{what} partitions than set: {', '.join(found)}", remedy)
    if other := [f"{c.topic} ({c.detail})" for c in changes if c.action == "configure"]:
        yield doubtful("topics", f"settings differ: {', '.join(other)}", "sluice topics apply")
    for group in _TOGETHER:
        counts = {topic: partitions[topic] for topic in group if topic in partitions}
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{topic} {count}" for topic, count in counts.items())
            yield wrong("topics", f"must have the same number of partitions: {shown}", "sluice topics apply")
    if all(change.action == "keep" for change in changes):
        yield ok("topics", f"all {len(changes)} are as they should be")


def _groups(settings: Settings) -> Iterator[Finding]:
    groups = parts.survey(settings).groups([group_name(service) for service in GROUPS])
    for service in GROUPS:
        members = groups[group_name(service)].members
        if members:
            yield ok(service, f"{members} process{'es' if members > 1 else ''}")
        else:
            yield doubtful(service, "no process of it is running", f"sluice run {service}; or all of them: sluice up")


def _reference(settings: Settings) -> Iterator[Finding]:
    with parts.catalogue(settings) as known:
        yield from _tenants(known)
        yield from _keys(settings, known)


def _keys(settings: Settings, known: Catalogue) -> Iterator[Finding]:
    folder, keys = settings.dkim_keys_dir, [key for tenant in known.tenants.values() for key in tenant.signing]
    if folder is None:
        service = group_name("compose")
        running = parts.survey(settings).groups([service])[service].members > 0
        remedy = "set it to the folder; make keys with sluice dkim generate"
        if running:
            yield doubtful("DKIM keys", "SLUICE_DKIM_KEYS_DIR is not set here, so they cannot be looked at", remedy)
        else:
            yield wrong("DKIM keys", "SLUICE_DKIM_KEYS_DIR is not set, so compose does not start", remedy)
        return
    problems = parts.key_problems(settings, keys)
    for problem in problems:
        yield wrong("DKIM keys", problem, "put the file there, or sluice dkim generate and change the tenant")
    if keys and not problems:
        yield ok("DKIM keys", f"all {len(keys)} are in {folder}")
    now, rotate = time.time(), settings.dkim_rotate_days * DAY
    for age in parts.key_ages(settings, keys):
        if age.made_at is not None and age.state(now, rotate) == "due":
            told = f"{age.key.selector}._domainkey.{age.key.domain} is {(now - age.made_at) / DAY:.0f} days old"
            yield doubtful("DKIM key's age", told, "sluice dkim generate, publish, then change the tenant's signing")


def _tenants(known: Catalogue) -> Iterator[Finding]:
    tenants = list(known.tenants.values())
    if not tenants:
        yield wrong("tenants", "there is none, so every event is rejected", "sluice tenant push FILE")
        return
    yield ok("tenants", ", ".join(sorted(tenant.tenant_id for tenant in tenants)))
    for tenant in tenants:
        yield from _unsigned(tenant)
    if known.templates:
        yield ok("templates", f"{len({(t.tenant_id, t.template_id) for t in known.templates.values()})}")
    else:
        yield doubtful("templates", "there is none: events must bring their own content", "sluice template push FILE")


def _unsigned(tenant: Tenant) -> Iterator[Finding]:
    if not tenant.signing:
        remedy = "sluice dkim generate, and add signing to the tenant: large sites refuse unsigned mail"
        yield doubtful("signing", f"mail of tenant {tenant.tenant_id} is not signed", remedy)
