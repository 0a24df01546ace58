"""``sluice run SERVICE``."""

from __future__ import annotations

import importlib
from enum import StrEnum
from typing import Annotated

import typer

from sluice.runtime.lifecycle import run_service


class ServiceName(StrEnum):
    """The services there are."""

    compose = "compose"
    deliver = "deliver"
    wheel = "wheel"
    record = "record"


def run(service: Annotated[ServiceName, typer.Argument(help="Which service.", metavar="SERVICE")]) -> None:
    """Run one service until SIGTERM or ctrl-c; it logs to standard error.

    [bold]compose[/] makes mail of send events; [bold]deliver[/] hands it over by SMTP;
    [bold]wheel[/] keeps what has to wait; [bold]record[/] stores outcomes in ClickHouse.
    Run as many of each as there are partitions to share.

    Example: [cyan]SLUICE_HEALTH_PORT=8081 sluice run deliver[/]
    """
    agent = importlib.import_module(f"sluice.{service}.agent")
    raise typer.Exit(run_service(service, getattr(agent, f"open_{service}")))
