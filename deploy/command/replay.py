"""`traceflow replay`: fold the log again, offline; compare with Postgres, and write there what is missing."""

import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import Data, Json

if TYPE_CHECKING:
    from deploy.replay.report import Meant, Report
    from deploy.replay.restore import Restorer

_MAX_TOLD = 50
"""Lines about differences; with --json all of them."""


def replay(
    check: Annotated[bool, typer.Option("--check", help="Only compare; nothing is written.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written; nothing is.")] = False,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME|OFFSET",
            help="90s, 2h, 7d ago, an ISO 8601 time, or an offset of the events topic; 0 is the beginning. "
            "Needed unless it is only compared.",
        ),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Only this project's rows.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's rows.")] = None,
    patience: Annotated[int, typer.Option(help="Seconds to wait for stages and sinks to catch up.", min=1)] = 60,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Fold the log again with the stages' own logic, and write into Postgres what is missing there, once.

    Rows that are there and otherwise are told, and left alone. The system may run meanwhile; safe to kill, and to run
    again. TRACEFLOW_STAGE_* variables have to be those of analyze: they decide what it finds.
    """
    from deploy.command.answer import plain, print_json
    from deploy.command.failure import CommandFailure, Exit
    from deploy.command.parked import parse_project
    from deploy.replay.report import Meant

    if check and dry_run:
        raise CommandFailure(
            "--check and --dry-run are two questions: is all there, and what would be written?", Exit.USAGE
        )
    if not check and begin is None:
        raise CommandFailure("say --from: from when on what is missing is written (or --check)", Exit.USAGE)
    meant = Meant(parse_project(project), session)
    if check or dry_run:
        report, refused = _compare(begin, meant, patience, data, restorer=None), Counter[str]()
    else:
        report, refused = _restore(begin, meant, patience, data)
    if as_json:
        print_json({**plain(report), "refused": refused})
    else:
        typer.echo("\n".join(_told(report, refused, dry_run=dry_run)))
    left = [each for each in report.differences if not (dry_run and each.is_lost)]
    if left:
        raise typer.Exit(Exit.NO)


def _restore(begin: str | None, meant: "Meant", patience_s: int, data: Path | None) -> "tuple[Report, Counter[str]]":
    from contextlib import closing

    from adapters import logs
    from deploy.command.failure import CommandFailure, Exit, one_line
    from deploy.command.repair import environment
    from deploy.replay.restore import Restorer
    from sinks.commit.writer import Abandoned
    from sinks.contract.verdicts import SinkHalted

    settings = environment(os.environ, data)
    logs.configure("replay", log_format=settings.log.log_format)
    with closing(Restorer(settings)) as restorer:
        try:
            report = _compare(begin, meant, patience_s, data, restorer=restorer)
        except Abandoned as error:
            raise CommandFailure(
                f"{one_line(error)}; what was written is whole: run the same command again", Exit.UNAVAILABLE
            ) from error
        except SinkHalted as error:
            raise CommandFailure(one_line(error)) from error
    return report, Counter(refused.reason.value for refused in restorer.refused)


def _compare(
    begin: str | None, meant: "Meant", patience_s: int, data: Path | None, *, restorer: "Restorer | None"
) -> "Report":
    from contextlib import closing
    from datetime import datetime

    from adapters.postgres import connect
    from deploy.command import reach
    from deploy.command.failure import CommandFailure, Exit
    from deploy.command.parked import parse_begin
    from deploy.replay.caught_up import NotCaughtUp
    from deploy.replay.check import DAY_MS, Check
    from deploy.replay.log import Log
    from deploy.replay.tables import Tables
    from schemas.environment import read_settings
    from stream_processors.analyze.wiring import AnalyzeSettings, assemble

    kafka, log = reach.kafka(os.environ, data)
    database = reach.database(os.environ, data)
    since_ms = offset = None
    if begin is not None:
        offset = int(begin) if begin.isdecimal() else None
        since_ms = None if offset is not None else parse_begin(begin, option="--from", now=datetime.now(UTC))
    residue_ms = read_settings(AnalyzeSettings, os.environ, group="STAGE").residue_ms
    with (
        closing(Log(kafka, log.topic_prefix)) as read,
        closing(connect(database, application_name="traceflow replay", session={"timezone": "UTC"})) as connection,
    ):
        check = Check(
            read,
            Tables(connection),
            assemble(os.environ),
            meant,
            restorer,
            forgotten_after_ms=DAY_MS + residue_ms,
        )
        try:
            return check.run(since_ms=since_ms, offset=offset, patience_s=patience_s)
        except NotCaughtUp as error:
            raise CommandFailure(str(error), Exit.UNAVAILABLE) from error


def _told(report: "Report", refused: Mapping[str, int], *, dry_run: bool) -> list[str]:
    lines: list[Any] = [f"compared {table}: {count} rows" for table, count in sorted(report.compared.items())]
    if report.began_before:
        lines.append(f"not judged, began before the log that was read: {report.began_before} sessions")
    if report.parked:
        lines.append(f"not judged, parked by a sink: {report.parked} rows (traceflow dead-letters list)")
    if report.erased:
        lines.append(f"not judged, erased: {report.erased} rows")
    lines += [f"written to {table}: {count} rows" for table, count in sorted(report.written.items())]
    lines += [f"refused by a sink: {count} rows ({reason})" for reason, count in sorted(refused.items())]
    for each in report.differences[:_MAX_TOLD]:
        name = f" {each.name}" if each.name else ""
        todo = ", would be written" if dry_run and each.is_lost else ""
        lines.append(
            f"{each.found} in {each.table}{todo}: session {each.session_id} of project {each.project_id}{name}"
        )
    if len(report.differences) > _MAX_TOLD:
        lines.append(f"and {len(report.differences) - _MAX_TOLD} differences more")
    if not any(report.compared.values()):
        lines.append("nothing was compared: neither the log that was read nor Postgres has rows of what was asked for")
    return [*lines, f"differences: {len(report.differences)}"]
