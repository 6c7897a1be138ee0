"""`traceflow replay`: fold the log again, offline, and compare with Postgres."""

import os
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import Data, Json

if TYPE_CHECKING:
    from deploy.replay.check import Report

_MAX_TOLD = 50
"""Lines about differences; with --json all of them."""


def replay(
    check: Annotated[bool, typer.Option("--check", help="Compare with Postgres; nothing is written.")] = False,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME|OFFSET", help="90s, 2h, 7d ago, an ISO 8601 time, or an offset of the events topic."
        ),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Compare this project alone.")] = None,
    patience: Annotated[int, typer.Option(help="Seconds to wait for stages and sinks to catch up.", min=1)] = 60,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Fold the log again with the stages' own logic, and compare events, findings, sessions, jobs, chunks with it.

    The system may run meanwhile. TRACEFLOW_STAGE_* variables have to be those of analyze: they decide what it finds.
    """
    from deploy.command.answer import print_json
    from deploy.command.failure import CommandFailure, Exit

    if not check:
        raise CommandFailure("say --check: a replay compares, it writes nothing", Exit.USAGE)
    report = _compare(begin, project, patience, data)
    if as_json:
        print_json(report)
    else:
        typer.echo("\n".join(_told(report)))
    if report.differences:
        raise typer.Exit(Exit.NO)


def _compare(begin: str | None, project: str | None, patience_s: int, data: Path | None) -> "Report":
    from contextlib import closing
    from datetime import datetime

    from adapters.postgres import connect
    from deploy.command import reach
    from deploy.command.failure import CommandFailure, Exit
    from deploy.command.parked import parse_time
    from deploy.replay.check import Check, NotCaughtUp
    from deploy.replay.log import Log
    from deploy.replay.tables import Tables
    from stream_processors.analyze.wiring import assemble

    kafka, log = reach.kafka(os.environ, data)
    database = reach.database(os.environ, data)
    since_ms = offset = None
    if begin is not None:
        offset = int(begin) if begin.isdecimal() else None
        since_ms = None if offset is not None else parse_time(begin, option="--from", now=datetime.now(UTC))
    with closing(connect(database, application_name="traceflow replay", session={"timezone": "UTC"})) as connection:
        check = Check(Log(kafka, log.topic_prefix), Tables(connection), assemble(os.environ), project)
        try:
            return check.run(since_ms=since_ms, offset=offset, patience_s=patience_s)
        except NotCaughtUp as error:
            raise CommandFailure(str(error), Exit.UNAVAILABLE) from error


def _told(report: "Report") -> list[str]:
    lines: list[Any] = [f"compared {table}: {count} rows" for table, count in sorted(report.compared.items())]
    if report.began_before:
        lines.append(f"not judged, began before the log that was read: {report.began_before} sessions")
    if report.parked:
        lines.append(f"not judged, parked by a sink: {report.parked} rows (traceflow dead-letters list)")
    for each in report.differences[:_MAX_TOLD]:
        name = f" {each.name}" if each.name else ""
        lines.append(f"{each.found} in {each.table}: session {each.session_id} of project {each.project_id}{name}")
    if len(report.differences) > _MAX_TOLD:
        lines.append(f"and {len(report.differences) - _MAX_TOLD} differences more")
    return [*lines, f"differences: {len(report.differences)}"]
