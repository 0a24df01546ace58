"""Reports of TLS by HTTPS, against a real server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from sluice.adapters.memory.resolver import MemoryResolver
from sluice.adapters.mtasts.fetch import PublicAddresses
from sluice.adapters.tlsrpt import PostFailed, ReportPoster
from sluice.domain.tls_report import MEDIA_TYPE

RESOLVER = MemoryResolver({}, {"reports.example": ("127.0.0.1",), "other.example": ("127.0.0.1",)})


class Collector:
    """Takes reports, or answers ``status``."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("reports.example").configure_cert(self.context)
        self.status = 201
        self.taken: list[tuple[str, bytes]] = []
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        self.taken.append((request.content_type, await request.read()))
        return web.Response(status=self.status, headers={"Location": "/v1"})

    def poster(self, *, private: bool = True) -> ReportPoster:
        return ReportPoster(PublicAddresses(RESOLVER, private=private), timeout=5.0, ca_file=self.ca_file)


@pytest.fixture
async def collector(tmp_path: Path) -> AsyncIterator[Collector]:
    collector = Collector(tmp_path)
    application = web.Application()
    application.router.add_post("/v1", collector.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=collector.context).start()
    collector.port = runner.addresses[0][1]
    yield collector
    await runner.cleanup()


async def test_a_report_is_posted_as_it_is(collector: Collector) -> None:
    await collector.poster().post(f"https://reports.example:{collector.port}/v1", b"\x1f\x8bbytes", MEDIA_TYPE)
    assert collector.taken == [(MEDIA_TYPE, b"\x1f\x8bbytes")]


@pytest.mark.parametrize("status", [301, 307, 400, 413, 503])
async def test_only_success_counts_and_redirects_are_not_followed(collector: Collector, status: int) -> None:
    collector.status = status
    with pytest.raises(PostFailed, match=str(status)):
        await collector.poster().post(f"https://reports.example:{collector.port}/v1", b"x", MEDIA_TYPE)
    assert len(collector.taken) == 1


async def test_a_certificate_for_another_name_gets_no_report(collector: Collector) -> None:
    with pytest.raises(PostFailed):
        await collector.poster().post(f"https://other.example:{collector.port}/v1", b"x", MEDIA_TYPE)
    assert collector.taken == []


async def test_our_own_network_is_out_of_reach(collector: Collector) -> None:
    with pytest.raises(PostFailed, match="not public"):
        await collector.poster(private=False).post(f"https://reports.example:{collector.port}/v1", b"x", MEDIA_TYPE)
    assert collector.taken == []
