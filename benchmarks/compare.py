"""Sluice, Postfix with OpenDKIM, and Haraka, one after the other on this machine: ``python benchmarks/compare.py``.

Each sends the same number of mails of the same size, signed by DKIM with RSA-2048, to the same ``smtp-sink``. Sluice
composes its mails from a template and has Kafka, ClickHouse and every outcome in it; the others relay finished mails.
The rounds go through all systems in turn, so that a slow moment of the machine does not hit one alone.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from comparison import Comparison, Round, summarise, table
from counting_sink import CountingSink
from haraka import Haraka
from harness import Sluice, four_kilobytes, per_mail, say, stop_on_sigterm, told, with_sluice
from machine import RESULTS, SCRATCH, keep, this_machine
from packages import CannotFetch, Tools, debian_tools, haraka_home
from postfix import Postfix
from processes import tree_cpu
from signatures import Keeper, SigningKey, mean_signed_size, new_key

from sluice.adapters.embedded.ports import free_port
from sluice.domain.errors import SluiceError

PROBES = 10
LOOK_EVERY = 0.1
SLOWEST = 20
"""Mails a second: who takes fewer is given up."""
SYSTEMS = ("sluice", "postfix", "haraka")


class Plan(argparse.Namespace):
    """The options."""

    mails: int
    warm_up: int
    rounds: int
    size: int
    sessions: list[int]
    reconnect: bool
    only: list[str]
    compose: int
    deliver: int
    patience: float
    results: Path


def measure_sluice(plan: Plan, tools: Tools) -> Round:
    """From the first publish to the sink's last 250, and to the last outcome in ClickHouse."""
    port = free_port()
    load = four_kilobytes(plan.mails, size=plan.size)

    async def work(sluice: Sluice) -> Round:
        with Keeper(port) as keeper:
            await sluice.publish("probe", PROBES)
            await asyncio.to_thread(keeper.wait_for, PROBES)
            key = SigningKey("acme.example", "rsa", (sluice.keys / "acme.example" / "rsa.pem").read_bytes())
            size = mean_signed_size(keeper.mails, key)
            await sluice.wait_for("probe", PROBES)
        with CountingSink(tools, port) as sink:
            await sluice.publish("warm-up", plan.warm_up)
            await sluice.wait_for("warm-up", plan.warm_up)
            before = {**sluice.cpu(), "smtp-sink": tree_cpu(sink.pid)}
            taken = sink.count
            began = await sluice.publish("measured", plan.mails)
            await sluice.wait_for("measured", plan.mails, patience=plan.patience)
            after = {**sluice.cpu(), "smtp-sink": tree_cpu(sink.pid)}
            last = sink.wait_for(taken + plan.mails, plan.patience)
            stored = await sluice.last_stored("measured")
            return Round(
                system="Sluice",
                variant=f"{plan.compose} compose, {plan.deliver} deliver",
                mails=plan.mails,
                extra_copies=sink.count - taken - plan.mails,
                mean_size=size,
                seconds_to_250=last - began,
                seconds=max(last, stored) - began,
                cpu_ms_per_mail=per_mail(before, after, plan.mails),
            )

    return with_sluice(work, load, counts={"compose": plan.compose, "deliver": plan.deliver}, smtp_port=port)


def measure_relay(
    plan: Plan, tools: Tools, size: float, sessions: int, make: Callable[[int, SigningKey], Postfix | Haraka]
) -> Round:
    """From the first connection of ``smtp-source`` to the sink's last 250."""
    stop_on_sigterm()
    port = free_port()
    key = new_key("acme.example", "relay")
    with make(port, key) as relay:
        say(f"{relay.name}, {sessions} senders")
        with Keeper(port) as keeper:
            first_length = plan.size - 1000
            _submit(tools, relay.port, PROBES, first_length, 2, plan.reconnect)
            keeper.wait_for(PROBES)
            length = round(first_length + size - mean_signed_size(keeper.mails, key))
            _submit(tools, relay.port, PROBES, length, 2, plan.reconnect)
            keeper.wait_for(2 * PROBES)
            mean = mean_signed_size(keeper.mails[PROBES:], key)
        with CountingSink(tools, port) as sink:
            _submit(tools, relay.port, plan.warm_up, length, sessions, plan.reconnect)
            sink.wait_for(plan.warm_up, plan.patience)
            before = {**relay.cpu(), "smtp-sink": tree_cpu(sink.pid)}
            began = time.time()
            source_cpu = _submit(tools, relay.port, plan.mails, length, sessions, plan.reconnect)
            last = sink.wait_for(plan.warm_up + plan.mails, plan.patience, lambda taken: say(f"  {taken:,} delivered"))
            after = {**relay.cpu(), "smtp-sink": tree_cpu(sink.pid)}
            return Round(
                system=relay.name,
                variant=f"{sessions} senders" + (", a connection per mail" if plan.reconnect else ""),
                mails=plan.mails,
                extra_copies=sink.count - plan.warm_up - plan.mails,
                mean_size=mean,
                seconds_to_250=last - began,
                seconds=last - began,
                cpu_ms_per_mail={**per_mail(before, after, plan.mails), "producer": source_cpu * 1000 / plan.mails},
            )


def _submit(tools: Tools, port: int, mails: int, length: int, sessions: int, reconnect: bool) -> float:
    """By Postfix's load generator, over lasting connections or one for each mail; returns its CPU seconds."""
    command = [str(tools.smtp_source), "-s", str(sessions), "-m", str(mails), "-l", str(length)]
    if not reconnect:
        command.append("-d")
    command += ["-f", "bounces@acme.example", "-t", "user@alder.example", "-M", "source.localhost", f"127.0.0.1:{port}"]
    until = time.monotonic() + 30 + mails / SLOWEST
    used = 0.0
    with subprocess.Popen(command, env=tools.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as source:
        try:
            while source.poll() is None and time.monotonic() < until:
                used = max(used, tree_cpu(source.pid))
                time.sleep(LOOK_EVERY)
        finally:
            source.kill()
        said = source.stdout.read().decode(errors="replace") if source.stdout else ""
    if source.returncode:
        raise SluiceError(f"smtp-source could not hand over {mails} mails: {said.strip()[-300:] or 'too slow'}")
    return used


def rounds(plan: Plan) -> Iterator[Round]:
    """Every measurement, in turn; tells each."""
    tools = debian_tools(SCRATCH, say)
    relays: list[tuple[int, Callable[[int, SigningKey], Postfix | Haraka]]] = []
    if "postfix" in plan.only:
        folder = SCRATCH / "run/postfix"
        relays += [(sessions, lambda port, key: Postfix(tools, folder, port, key)) for sessions in plan.sessions]
    if "haraka" in plan.only:
        try:
            home = haraka_home(SCRATCH, say)
        except CannotFetch as error:
            say(f"without Haraka: {error}")
        else:
            relays.append((plan.sessions[-1], lambda port, key: Haraka(home, SCRATCH / "run/haraka", port, key)))
    size = float(plan.size)
    for number in range(1, plan.rounds + 1):
        say(f"round {number} of {plan.rounds}, {plan.mails:,} mails each")
        if "sluice" in plan.only:
            done = measure_sluice(plan, tools)
            size = done.mean_size
            yield _told(done)
        for sessions, make in relays:
            yield _told(measure_relay(plan, tools, size, sessions, make))


def _told(done: Round) -> Round:
    cpu = sum(used for name, used in done.cpu_ms_per_mail.items() if name not in ("producer", "smtp-sink"))
    copies = f", {done.extra_copies} EXTRA COPIES" if done.extra_copies else ""
    say(f"{done.system} ({done.variant}): {done.rate:,.0f} mails/s, {cpu:.2f} ms CPU per mail{copies}")
    return done


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=10_000, help="per system and round (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=2_000, help="sent before, not measured (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="medians are taken over them (%(default)s)")
    parser.add_argument("--size", type=int, default=4096, help="octets of a mail as delivered, about (%(default)s)")
    parser.add_argument("--sessions", type=_numbers, default=[20, 60], help="senders to a relay (20,60)")
    parser.add_argument("--reconnect", action="store_true", help="senders open a connection for each mail")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SYSTEMS),
                        help=f"which of {','.join(SYSTEMS)} (all)")  # fmt: skip
    parser.add_argument("--compose", type=int, default=1, help="compose processes (%(default)s)")
    parser.add_argument("--deliver", type=int, default=1, help="deliver processes (%(default)s)")
    parser.add_argument("--patience", type=float, default=60.0, help="give up after so many seconds without a mail")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    plan = parser.parse_args(namespace=Plan())
    if unknown := set(plan.only) - set(SYSTEMS):
        parser.error(f"--only knows {', '.join(SYSTEMS)}, not {', '.join(sorted(unknown))}")
    machine = this_machine()
    with told("compare"):
        done = list(rounds(plan))
    comparison = Comparison(rounds=done, summary=summarise(done))
    path = keep(plan.results, "compare", machine, comparison)
    print(f"\n{table(comparison)}\n\n{path}")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
