"""MTA-STS policies: what twin and real thing promise, and the real one over HTTPS and through time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from sluice.adapters.memory.resolver import MemoryResolver
from sluice.adapters.memory.tls_policies import MemoryStsPolicies
from sluice.adapters.mtasts import CachedStsPolicies, PolicyFetcher
from sluice.adapters.mtasts.fetch import LARGEST, FetchFailed
from sluice.adapters.mtasts.policies import REFRESH, RETRY
from sluice.domain.mta_sts import StsPolicy
from sluice.ports.resolver import LookupFailed
from sluice.ports.tls_policies import StsPolicies

POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mx.a.example\r\nmax_age: 604800\r\n"
PARSED = StsPolicy("enforce", 604_800, ("mx.a.example",))
DOMAINS = ("a.example", "none.example")


class Site:
    """A web server for policies; ``answer`` makes what it says."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*(f"mta-sts.{domain}" for domain in DOMAINS)).configure_cert(self.context)
        self.texts: dict[str, str] = {"a.example": POLICY}
        self.status = 200
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.usual
        self.asked: list[str] = []
        self.port = 0

    async def usual(self, request: web.Request) -> web.StreamResponse:
        domain = request.host.removeprefix("mta-sts.").partition(":")[0]
        return web.Response(text=self.texts[domain], status=self.status)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.host.partition(":")[0])
        return await self.answer(request)

    async def start(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/.well-known/mta-sts.txt", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        listener = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.context)
        await listener.start()
        self.port = runner.addresses[0][1]
        return runner


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    runner = await site.start()
    yield site
    await runner.cleanup()


@pytest.fixture
def resolver() -> MemoryResolver:
    hosts = {f"mta-sts.{domain}": ("127.0.0.1",) for domain in (*DOMAINS, "other.example")}
    return MemoryResolver({}, hosts, {"_mta-sts.a.example": ("v=STSv1; id=1;",)})


@pytest.fixture
async def fetcher(site: Site, resolver: MemoryResolver) -> AsyncIterator[PolicyFetcher]:
    fetcher = PolicyFetcher(resolver, private=True, port=site.port, timeout=1.0, ca_file=site.ca_file)
    yield fetcher
    await fetcher.close()


class MovedClock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def cached(
    resolver: MemoryResolver, fetcher: PolicyFetcher, clock: MovedClock
) -> AsyncIterator[CachedStsPolicies]:
    policies = CachedStsPolicies(resolver, fetcher, now=clock.now)
    yield policies
    await policies.close()


@pytest.fixture(params=["memory", "https"])
def policies(request: pytest.FixtureRequest, resolver: MemoryResolver) -> StsPolicies:
    ended = "version: STSv1\nmode: none\nmax_age: 86400\n"
    if request.param == "memory":
        return MemoryStsPolicies({"a.example": PARSED, "none.example": StsPolicy("none", 86_400)})
    request.getfixturevalue("site").texts["none.example"] = ended
    resolver.texts["_mta-sts.none.example"] = ("v=STSv1; id=0;",)
    return request.getfixturevalue("cached")


async def test_a_policy_is_found(policies: StsPolicies) -> None:
    assert await policies.policy("a.example") == PARSED


async def test_a_domain_without_one_has_none(policies: StsPolicies) -> None:
    assert await policies.policy("unheard.example") is None


async def test_a_policy_that_says_none_is_none(policies: StsPolicies) -> None:
    assert await policies.policy("none.example") is None


async def test_without_a_record_nobody_is_asked(
    cached: CachedStsPolicies, resolver: MemoryResolver, site: Site
) -> None:
    for answer in ((), ("v=spf1 -all",), LookupFailed("servfail")):
        resolver.texts["_mta-sts.a.example"] = answer
        assert await cached.policy("a.example") is None
    assert site.asked == []


async def test_a_certificate_for_another_name_or_of_a_stranger_is_refused(
    fetcher: PolicyFetcher, resolver: MemoryResolver, site: Site
) -> None:
    with pytest.raises(FetchFailed, match=r"(?i)certificate"):
        await fetcher.fetch("other.example")
    stranger = PolicyFetcher(resolver, private=True, port=site.port)
    with pytest.raises(FetchFailed, match=r"(?i)certificate"):
        await stranger.fetch("a.example")
    await stranger.close()
    assert site.asked == []


async def test_redirects_are_not_followed(fetcher: PolicyFetcher, site: Site) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"https://mta-sts.a.example:{site.port}/.well-known/mta-sts.txt")

    site.answer = elsewhere
    with pytest.raises(FetchFailed, match="status 302"):
        await fetcher.fetch("a.example")
    assert len(site.asked) == 1


@pytest.mark.parametrize("status", [201, 204, 404, 500])
async def test_only_200_counts(fetcher: PolicyFetcher, site: Site, status: int) -> None:
    site.status = status
    with pytest.raises(FetchFailed, match=f"status {status}"):
        await fetcher.fetch("a.example")


async def test_only_plain_text_counts(fetcher: PolicyFetcher, site: Site) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text=POLICY, content_type="text/html")

    site.answer = page
    with pytest.raises(FetchFailed, match="text/html"):
        await fetcher.fetch("a.example")


async def test_a_policy_of_64_kilobytes_is_read_and_a_larger_one_is_not(fetcher: PolicyFetcher, site: Site) -> None:
    site.texts["a.example"] = POLICY + "x" * (LARGEST - len(POLICY))
    assert await fetcher.fetch("a.example") == PARSED

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    site.answer = endless
    with pytest.raises(FetchFailed, match="larger"):
        await fetcher.fetch("a.example")


async def test_a_packed_body_is_not_unpacked(fetcher: PolicyFetcher, site: Site) -> None:
    async def packed(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=b"\0" * 10_000_000, content_type="text/plain")
        response.enable_compression(web.ContentCoding.gzip)
        return response

    site.answer = packed
    with pytest.raises(FetchFailed):
        await fetcher.fetch("a.example")


async def test_a_slow_server_is_not_waited_for(site: Site, resolver: MemoryResolver) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    site.answer = slow
    fetcher = PolicyFetcher(resolver, private=True, port=site.port, timeout=0.2, ca_file=site.ca_file)
    with pytest.raises(FetchFailed):
        await fetcher.fetch("a.example")
    await fetcher.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1"])
async def test_our_own_network_is_out_of_reach(site: Site, resolver: MemoryResolver, address: str) -> None:
    resolver.hosts["mta-sts.a.example"] = (address,)
    fetcher = PolicyFetcher(resolver, port=site.port, ca_file=site.ca_file)
    with pytest.raises(FetchFailed, match="not public"):
        await fetcher.fetch("a.example")
    await fetcher.close()
    assert site.asked == []


@pytest.mark.parametrize("answer", [(), LookupFailed("servfail")])
async def test_a_policy_server_without_address_has_no_policy(
    fetcher: PolicyFetcher, resolver: MemoryResolver, answer: tuple[str, ...] | LookupFailed
) -> None:
    resolver.hosts["mta-sts.a.example"] = answer
    with pytest.raises(FetchFailed):
        await fetcher.fetch("a.example")


async def test_a_policy_is_fetched_once_while_its_id_stays(
    cached: CachedStsPolicies, site: Site, resolver: MemoryResolver
) -> None:
    answers = await asyncio.gather(*(cached.policy("a.example") for _ in range(10)))
    assert answers == [PARSED] * 10
    assert len(site.asked) == 1
    site.texts["a.example"] = POLICY.replace("mx.a", "new.a")
    assert await cached.policy("a.example") == PARSED
    resolver.texts["_mta-sts.a.example"] = ("v=STSv1; id=2;",)
    changed = await cached.policy("a.example")
    assert changed is not None
    assert changed.mx == ("new.a.example",)
    assert len(site.asked) == 2


@pytest.mark.parametrize("record", [(), ("v=STSv1; id=2;",), LookupFailed("timeout")])
async def test_a_policy_binds_until_its_time_is_over_whoever_hides_it(
    cached: CachedStsPolicies,
    site: Site,
    resolver: MemoryResolver,
    clock: MovedClock,
    record: tuple[str, ...] | LookupFailed,
) -> None:
    await cached.policy("a.example")
    resolver.texts["_mta-sts.a.example"] = record
    site.status = 500
    clock.time += 604_799
    assert await cached.policy("a.example") == PARSED
    clock.time += 1
    assert await cached.policy("a.example") is None


async def test_a_failed_fetch_is_tried_again_after_a_while(
    cached: CachedStsPolicies, site: Site, clock: MovedClock
) -> None:
    site.status = 500
    assert await cached.policy("a.example") is None
    site.status = 200
    clock.time += RETRY - 1
    assert await cached.policy("a.example") is None
    assert len(site.asked) == 1
    clock.time += 2
    assert await cached.policy("a.example") == PARSED


async def test_policies_are_refreshed_before_they_expire(
    cached: CachedStsPolicies, site: Site, resolver: MemoryResolver, clock: MovedClock
) -> None:
    await cached.policy("a.example")
    clock.time += REFRESH - 1
    await cached.refresh_due()
    assert len(site.asked) == 1
    resolver.texts["_mta-sts.a.example"] = ()
    clock.time += 2
    await cached.refresh_due()
    assert len(site.asked) == 2
    clock.time += 604_700
    assert await cached.policy("a.example") == PARSED
    clock.time += 300
    assert await cached.policy("a.example") is None


async def test_a_short_lived_policy_is_refreshed_at_half_its_time(
    cached: CachedStsPolicies, site: Site, clock: MovedClock
) -> None:
    site.texts["a.example"] = POLICY.replace("604800", "600")
    await cached.policy("a.example")
    clock.time += 301
    await cached.refresh_due()
    assert len(site.asked) == 2
    clock.time += 599
    assert await cached.policy("a.example") is not None


async def test_the_oldest_policies_are_forgotten_when_there_are_too_many(
    site: Site, resolver: MemoryResolver, fetcher: PolicyFetcher, clock: MovedClock
) -> None:
    policies = CachedStsPolicies(resolver, fetcher, entries=1, now=clock.now)
    site.texts["none.example"] = POLICY
    resolver.texts["_mta-sts.none.example"] = ("v=STSv1; id=1;",)
    for domain in ("a.example", "none.example", "a.example"):
        assert await policies.policy(domain) == PARSED
    assert len(site.asked) == 3
    await policies.close()


async def test_giving_up_on_one_mail_does_not_give_up_the_fetch(cached: CachedStsPolicies, site: Site) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def waiting(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return await site.usual(request)

    site.answer = waiting
    impatient, patient = (asyncio.ensure_future(cached.policy("a.example")) for _ in range(2))
    await asked.wait()
    impatient.cancel()
    go_on.set()
    assert await patient == PARSED
    assert len(site.asked) == 1


async def test_why_a_policy_could_not_be_had_is_told_until_it_can_or_is_announced_no_more(
    cached: CachedStsPolicies, site: Site, resolver: MemoryResolver, clock: MovedClock
) -> None:
    def result() -> str | None:
        found = cached.failure("a.example")
        return found and found.result

    site.status = 404
    assert await cached.policy("a.example") is None
    assert result() == "sts-policy-fetch-error"
    clock.time += RETRY + 1
    site.status, site.texts["a.example"] = 200, "version: STSv2\n"
    await cached.policy("a.example")
    assert result() == "sts-policy-invalid"
    clock.time += RETRY + 1
    resolver.texts["_mta-sts.other.example"] = ("v=STSv1; id=1;",)
    await cached.policy("other.example")
    assert (found := cached.failure("other.example")) is not None
    assert found.result == "sts-webpki-invalid"
    resolver.texts["_mta-sts.other.example"] = ()
    await cached.policy("other.example")
    assert cached.failure("other.example") is None
    site.texts["a.example"] = POLICY
    assert await cached.policy("a.example") == PARSED
    assert result() is None
