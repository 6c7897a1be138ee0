"""The commands that only read: `sql`, `dead-letters`, `recordings`."""

import os
import sys
from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer

from deploy.command.options import Data, Json


def sql_command(
    statement: Annotated[str, typer.Argument(metavar='"SELECT …"', help="One statement; it cannot change anything.")],
    data: Data = None,
    timeout: Annotated[int, typer.Option(help="Seconds after which the server gives up.", min=1)] = 60,
    as_json: Json = False,
) -> None:
    """Ask the database one question, read-only; with --json the answer is an array of objects by column name."""
    from deploy.command.answer import print_json, print_table
    from deploy.command.query import as_objects, run_query
    from deploy.command.reach import database

    columns, rows = run_query(database(os.environ, data), statement, timeout_s=timeout)
    if as_json:
        print_json(as_objects(columns, rows))
        return
    print_table(columns, rows)
    typer.echo(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def dead_letters_list(
    stage: Annotated[
        str | None, typer.Option(help="Only of this stage: gateway, digest, analyze, sink-events …")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Only of this reason code.")] = None,
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only parked since: 90s, 15m, 2h, 7d ago, or an ISO 8601 time.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most this many, the latest.", min=1)] = 100,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List what was parked: when, where, why."""
    from datetime import datetime

    from adapters.dead_letter_reader import LetterFilter
    from deploy.command import parked
    from deploy.command.answer import print_json, print_table
    from deploy.command.reach import kafka

    since_ms = parked.parse_since(since, now=datetime.now(UTC)) if since else None
    wanted = LetterFilter(stage=stage, reason=reason, project_id=project, since=since_ms)
    settings, log = kafka(os.environ, data)
    letters = parked.latest(settings, prefix=log.topic_prefix, wanted=wanted, limit=limit)
    rows = [parked.summary(stored) for stored in letters]
    if as_json:
        print_json(rows)
    elif rows:
        columns = ["place", "at", "stage", "reason", "from", "session_id", "detail"]
        print_table(columns, [[row[column] for column in columns] for row in rows])
    else:
        typer.echo("no dead letters")


def dead_letters_show(
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `list` shows it.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter whole: its origin, reason, headers and value."""
    from deploy.command import parked
    from deploy.command.answer import print_json, shown
    from deploy.command.reach import kafka

    settings, log = kafka(os.environ, data)
    found = parked.whole(parked.show(settings, prefix=log.topic_prefix, place=place))
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<12} {shown(value)}")


def recordings_export(
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID")],
    output: Annotated[Path | None, typer.Option(help="A file instead of standard output.", metavar="FILE")] = None,
    data: Data = None,
) -> None:
    """Write a session's rrweb events as one JSON array in order of window and sequence, whatever its size and codec."""
    from deploy.command.export import export_recording
    from deploy.command.reach import database

    settings = database(os.environ, data)
    if output is None:
        export_recording(settings, session_id, sys.stdout.buffer)
        return
    draft = output.with_name(output.name + ".part")
    with draft.open("wb") as stream:
        export_recording(settings, session_id, stream)
    draft.replace(output)
