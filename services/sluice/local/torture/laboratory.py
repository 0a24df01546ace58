"""A run of the laboratory: start everything, publish, hurt, wait for quiet, gather what was left."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sluice.adapters.embedded.kafka import EmbeddedKafka
from sluice.adapters.embedded.ports import LOOPBACK
from sluice.domain.errors import SluiceError
from sluice.local import parts, seed
from sluice.local.folder import DataFolder
from sluice.local.options import Options
from sluice.local.ports import choose_ports
from sluice.local.stack import LocalStack
from sluice.local.stack import plan as plan_stack
from sluice.local.torture.evidence import endings, gather, recorded
from sluice.local.torture.faults import Faults
from sluice.local.torture.plan import PROXIES, SITE, Plan
from sluice.local.torture.processes import Processes
from sluice.local.torture.proxy import Proxy
from sluice.local.torture.publish import Publisher, domain_names
from sluice.local.torture.records import Evidence
from sluice.local.torture.replay import replay
from sluice.local.torture.sinklog import FILE
from sluice.runtime.child import Child, ChildStatus, Url

RULES = Path(__file__).with_name("rules")
PARTS = (parts.MAILBOX, parts.CLICKHOUSE, parts.KAFKA)
PROXY_PORTS = 300
"""Above the first port, so that the stack's own do not run into them."""
ENVIRONMENT = {
    "SLUICE_SMTP_CONNECT_S": "3",
    "SLUICE_SMTP_COMMAND_S": "5",
    "SLUICE_SMTP_DATA_S": "5",
    "SLUICE_SMTP_DOT_S": "5",
    "SLUICE_STALL_S": "40",
}
"""Real servers are waited for up to ten minutes; a laboratory that hangs them would be, too. What stands still is
replaced before patience ends: mail that only that could bring back is late, not lost, and the report says who ended.
"""
TELL_EVERY = 2.0
LONG_STOP = 30.0
"""Seconds of suspension after which a keeper might replace a worker for not answering."""
QUIET = 12.0
"""Seconds without a mail at the receiving server after which none is expected any more."""
Say = Callable[[str], None]
Watch = Callable[[list[ChildStatus]], None]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has left, and how it went. Durations in seconds."""

    evidence: Evidence
    own_deaths: dict[str, int]
    """Processes that ended without having been ended, and how often."""
    quiet: bool
    """False when patience ran out before all mails had ended."""
    starting: float
    hurting: float
    """From the first publish to the end of both publishing and the plan."""
    settling: float
    """From then until everything had ended and was recorded."""


class TortureFailed(SluiceError):
    """The run could not be made."""


def prepare(plan: Plan, data: Path, first_port: int, say: Say) -> LocalStack:
    """A stack that goes through proxies, with a worker more of each service than the plan starts with. Blocks."""
    folder = DataFolder(data)
    folder.make()
    names = [f"{name}-proxy" for name in PROXIES]
    ports = choose_ports(folder.ports, names, first=first_port + PROXY_PORTS)
    smtp = f"smtp://{LOOPBACK}:{ports[f'{SITE}-proxy']}?tls=none"
    apart = [f"{domain}={smtp}" for domain in domain_names(plan.domains) if domain.startswith("apart")]
    routes = [*apart, f"*=smtp://{LOOPBACK}:{ports['sink-proxy']}?tls=none"]
    options = Options(
        data=data,
        counts={service: count + 1 for service, count in plan.workers.items()},
        rules=RULES,
        first_port=first_port,
        examples=True,
        static_members=plan.static_members,
        environment={
            **ENVIRONMENT,
            "SLUICE_ROUTES": ",".join(routes),
            "SLUICE_KAFKA_BOOTSTRAP": f"{LOOPBACK}:{ports['kafka-proxy']}",
            "SLUICE_CLICKHOUSE_URL": f"http://{LOOPBACK}:{ports['clickhouse-proxy']}",
        },
    )
    stack = plan_stack(options, seed.signed_with([seed.default_tenant()], (seed.ED25519,)), say=say)
    # Clients go where the broker says it is: through the proxy, every time.
    EmbeddedKafka(
        stack.folder.kafka,
        stack.ports["kafka"],
        stack.ports["kafka-controller"],
        heap_mb=parts.HEAP_MB,
        advertised_port=ports["kafka-proxy"],
    ).prepare()
    stack.ports |= ports
    stack.children = [_sink_child(stack) if child.name == parts.MAILBOX else child for child in stack.children]
    return stack


def _sink_child(stack: LocalStack) -> Child:
    arguments = ["--data", str(stack.folder.mailbox), "--port", str(stack.ports["mailbox"])]
    arguments += ["--control-port", str(stack.ports["mailbox-control"])]
    return Child(
        name=parts.MAILBOX,
        command=[sys.executable, "-m", "sluice.local.torture.sink", *arguments],
        ready=Url(f"http://{LOOPBACK}:{stack.ports['mailbox-control']}/healthz"),
    )


class Laboratory:
    """One run of ``plan`` over a stack of :func:`prepare`."""

    def __init__(self, stack: LocalStack, plan: Plan, *, patience: float, say: Say, progress: Say) -> None:
        """``patience`` is how many seconds may pass at the end without one more mail that ends."""
        self._stack = stack
        self._plan = plan
        self._patience = patience
        self._say = say
        self._progress = progress
        behind = {"sink": "mailbox", SITE: "mailbox", "kafka": "kafka", "clickhouse": "clickhouse"}
        self._proxies = {
            name: Proxy(stack.ports[f"{name}-proxy"], stack.ports[target]) for name, target in behind.items()
        }
        # Its keeper would replace it: nobody would see what it does when it wakes.
        long_stopped = frozenset(each.target for each in plan.faults if each.kind == "stop" and each.lasts > LONG_STOP)
        self._processes = Processes(stack.children, stack.folder.logs, long_stopped)
        self._publisher = Publisher(stack.settings.kafka_bootstrap, plan)
        self._faults = Faults(stack, self._processes, self._proxies, say)

    async def run(self, watch: Watch = lambda _: None) -> Run:
        """Do everything, and leave nothing running. Raises what stands in the way of a start."""
        watching = asyncio.create_task(self._watch(watch))
        try:
            began = time.monotonic()
            for proxy in self._proxies.values():
                await proxy.start()
            await self._processes.up(*PARTS)
            if self._stack.failure is not None:
                raise self._stack.failure
            await self._processes.up(*_workers(self._plan))
            self._stack.write_environment()
            started = time.monotonic()
            self._say(f"all runs after {started - began:.1f} s")
            await self._hurt(started)
            hurt = time.monotonic()
            quiet = await self._settle()
            settled = time.monotonic()
            if self._plan.replay:
                again, known = await replay(self._stack, self._plan.replay, self._plan.seed)
                self._say(f"{again:,} of {known:,} batches of outcomes stored again")
            evidence = await asyncio.to_thread(gather, self._stack, self._publisher, self._faults.done)
            return Run(
                evidence=evidence,
                own_deaths=self._processes.own_deaths(),
                quiet=quiet,
                starting=started - began,
                hurting=hurt - started,
                settling=settled - hurt,
            )
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await self._processes.close(PARTS)
            for proxy in self._proxies.values():
                await proxy.stop()

    async def _hurt(self, began: float) -> None:
        telling = asyncio.create_task(self._tell(began))
        following = asyncio.create_task(self._faults.follow(self._plan))
        try:
            await asyncio.gather(following, asyncio.to_thread(self._publisher.run))
        finally:
            self._publisher.stopped.set()
            following.cancel()
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling

    async def _settle(self) -> bool:
        """Wait until every accepted mail has ended and every outcome is recorded."""
        wanted = len(self._publisher.accepted)
        best, moved = -1, time.monotonic()
        while best < wanted:
            ended = await asyncio.to_thread(endings, self._stack) or 0
            if ended > best:
                best, moved = ended, time.monotonic()
                self._progress(f"waiting for quiet: {ended:,} of {wanted:,} mails have ended")
            if time.monotonic() - moved > self._patience:
                return False
            await asyncio.sleep(0.5)
        # A copy that should not be would come out of the wheel, where nothing rests for less than this.
        file, size, since = self._stack.folder.mailbox / FILE, -1, time.monotonic()
        while time.monotonic() - moved < self._patience + QUIET:
            if (now := file.stat().st_size) != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since >= QUIET and await asyncio.to_thread(recorded, self._stack):
                return True
            await asyncio.sleep(1.0)
        return False

    async def _tell(self, began: float) -> None:
        while True:
            ended = await asyncio.to_thread(endings, self._stack)
            faults = ", ".join(f"{fault.kind} {fault.target}" for fault in self._faults.under_way)
            self._progress(
                f"{time.monotonic() - began:4.0f} s: accepted {len(self._publisher.accepted):,}, "
                f"ended {'?' if ended is None else f'{ended:,}'}, "
                f"faults {len(self._faults.done)} of {len(self._plan.faults)}{f', now {faults}' if faults else ''}"
            )
            await asyncio.sleep(TELL_EVERY)

    async def _watch(self, watch: Watch) -> None:
        while True:
            watch(self._processes.status())
            await asyncio.sleep(0.2)


def _workers(plan: Plan) -> Sequence[str]:
    return [f"{service}-{n}" for service, count in plan.workers.items() for n in range(1, count + 1)]
