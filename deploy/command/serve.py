"""The commands that run something: `up`, one process of a service, the demo, a load."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from deploy.command.options import Data, Json

Spool = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The gateway keeps there, synced, what Kafka cannot take; off by default."),
]


def up(
    data: Annotated[
        Path | None, typer.Option(help="Where everything is kept; default TRACEFLOW_DATA_DIR or .traceflow.")
    ] = None,
    gateway_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8100,
    workers: Annotated[str, typer.Option(metavar="ROLE=N,…", help="Processes of gateway, digest, analyze, sink.")] = "",
    partitions: Annotated[
        int | None, typer.Option(help="Of each topic, at the first start; default 12.", min=1, max=1000)
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although the log lost something; says what was lost.")
    ] = False,
    ready_file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Written as JSON once everything accepts work, and kept true.")
    ] = None,
    spool: Spool = None,
) -> None:
    """Run everything on this machine: a real Kafka, a real Postgres, gateway, stages and sinks, until Ctrl-C.

    Starts again on the same data directory with nothing lost. TRACEFLOW_KAFKA_BOOTSTRAP and TRACEFLOW_DATABASE_URL name
    existing servers instead of the local ones.
    """
    from deploy.command.bring_up import summary
    from deploy.command.failure import CommandFailure, Exit
    from deploy.runtime.instance import Instance, data_directory
    from deploy.runtime.local import UpOptions
    from deploy.runtime.local import up as run_all
    from deploy.runtime.program import RuntimeFailure
    from deploy.runtime.services import parse_workers

    try:
        counts = parse_workers(workers)
    except RuntimeFailure as error:
        raise CommandFailure(str(error), Exit.USAGE) from error
    instance = Instance(data_directory(os.environ, data))
    options = UpOptions(
        instance=instance,
        gateway_port=gateway_port,
        workers=counts,
        partitions=partitions,
        accept_loss=accept_loss,
        ready_file=ready_file.absolute() if ready_file else None,
    )
    run_all(options, _with_spool(spool), announce=lambda state: typer.echo(summary(state, instance)))


def gateway(spool: Spool = None) -> None:
    """Run one gateway process: HTTP in, acknowledged records in Kafka."""
    _become("gateway", environ=_with_spool(spool))


def digest() -> None:
    """Run one digest process: interprets the recordings."""
    _become("digest")


def analyze() -> None:
    """Run one analyze process: folds sessions, finds, scores."""
    _become("analyze")


def sink(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES…", help="Of events, sessions, recordings, signals, ai_jobs; all of them if none."
        ),
    ] = None,
) -> None:
    """Run one sink process: rows into Postgres, exactly once."""
    _become("sink", tuple(names or ()))


def _with_spool(directory: Path | None) -> Mapping[str, str]:
    """Return the environment with the option in it, which says the same as the gateway's setting."""
    return {**os.environ, **({"TRACEFLOW_GATEWAY_SPOOL": str(directory.absolute())} if directory else {})}


def _become(role: str, arguments: tuple[str, ...] = (), *, environ: Mapping[str, str] = os.environ) -> None:
    from deploy.runtime.services import command_of

    command = command_of(role, arguments)
    sys.stdout.flush()
    os.execve(command[0], command, environ)  # noqa: S606 # the service's own process, without a parent between


def demo(as_json: Json = False) -> None:
    """Start everything, replay real browser sessions over HTTP, show what was found, stop, and check every number."""
    import importlib

    sys.stdout.flush()
    raise typer.Exit(int(importlib.import_module("deploy.demo").run(as_json=as_json)))


def load(
    rate: Annotated[float, typer.Option(help="Structured events a second; recordings come on top.", min=1)] = 500,
    seconds: Annotated[float, typer.Option(help="How long.", min=0.1)] = 30,
    sessions: Annotated[int, typer.Option(help="Open at once.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same visits.")] = 1,
    verify: Annotated[
        bool, typer.Option("--verify", help="Wait for the rows, and compare each with its promise.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send synthetic sessions over HTTP to a running `traceflow up`, as SDKs would, and report rate and latency."""
    from deploy import load as generator
    from deploy.runtime.instance import find_running

    _, state = find_running(os.environ, data)
    target = generator.Target(**{name: state[name] for name in generator.Target._fields})
    code = generator.run(
        target, rate=rate, seconds=seconds, sessions=sessions, seed=seed, verify=verify, as_json=as_json
    )
    raise typer.Exit(code)
