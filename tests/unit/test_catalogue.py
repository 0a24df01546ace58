"""Reference data as its topics tell it."""

import pytest

from sluice.domain.catalogue import Catalogue
from sluice.domain.errors import Undecodable
from sluice.domain.topics import SUPPRESSIONS, TEMPLATES, TENANTS

TEMPLATE = b'{"tenant_id":"acme","template_id":"hi","version":%d,"locales":{"en":{"subject":"s","text":"t"}}}'


def test_the_newest_version_answers_when_none_is_asked_for() -> None:
    """And the one before it, when the newest is withdrawn."""
    catalogue = Catalogue()
    for version in (1, 2):
        catalogue.apply(TEMPLATES, b"acme|hi|%d" % version, TEMPLATE % version)
    found = catalogue.template("acme", "hi", None)
    assert found is not None
    assert found.version == 2
    catalogue.apply(TEMPLATES, b"acme|hi|2", None)
    found = catalogue.template("acme", "hi", None)
    assert found is not None
    assert found.version == 1


def test_a_tenant_sees_only_its_own_templates() -> None:
    """Tenant in every key."""
    catalogue = Catalogue()
    catalogue.apply(TEMPLATES, b"acme|hi|1", TEMPLATE % 1)
    assert catalogue.template("other", "hi", None) is None


def test_suppressions_hold_for_a_stream_or_for_all_and_end() -> None:
    """Case of the address does not matter."""
    catalogue = Catalogue()
    body = b'{"tenant_id":"a","email":"X@y.example","reason":"r","created_at":"2026-01-01T00:00:00Z"%s}'
    catalogue.apply(SUPPRESSIONS, b"a|broadcast|x@y.example", body % b',"stream":"broadcast"')
    assert catalogue.suppressed("a", "broadcast", "x@Y.example", 1.8e9)
    assert not catalogue.suppressed("a", "transactional", "x@y.example", 1.8e9)
    catalogue.apply(SUPPRESSIONS, b"a|*|x@y.example", body % b',"expires_at":"2026-02-01T00:00:00Z"')
    assert catalogue.suppressed("a", "transactional", "x@y.example", 1_768_000_000.0)
    assert not catalogue.suppressed("a", "transactional", "x@y.example", 1_770_000_000.0)


def test_a_record_that_is_wrong_changes_nothing() -> None:
    """What was known stays in force."""
    catalogue = Catalogue()
    catalogue.apply(TENANTS, b"acme", b'{"tenant_id":"acme","domains":["acme.example"]}')
    with pytest.raises(Undecodable, match="domains"):
        catalogue.apply(TENANTS, b"acme", b'{"tenant_id":"acme","domains":3}')
    tenant = catalogue.tenant("acme")
    assert tenant is not None
    assert tenant.domains == ["acme.example"]
