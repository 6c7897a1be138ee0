"""The commands that only read: `sql`, `recordings`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json


def sql_command(
    statement: Annotated[
        str,
        typer.Argument(
            metavar='"SELECT …"', help="One statement; it cannot change anything. - is standard input, for a file."
        ),
    ],
    data: Data = None,
    timeout: Annotated[int, typer.Option(help="Seconds after which the server gives up.", min=1)] = 60,
    as_json: Json = False,
) -> None:
    """Ask the database one question, read-only; with --json the answer is an array of objects by column name."""
    from psycopg import errors

    from deploy.command.answer import print_json, print_table
    from deploy.command.query import as_objects, run_query
    from deploy.command.reach import database

    asked = sys.stdin.read() if statement == "-" else statement
    if not asked.strip():
        raise CommandFailure('no statement (example: traceflow sql "SELECT 1")', Exit.USAGE)
    try:
        columns, rows = run_query(database(os.environ, data), asked, timeout_s=timeout)
    except errors.QueryCanceled as error:
        raise CommandFailure(f"no answer within {timeout} s: ask for less, or wait longer by --timeout") from error
    if as_json:
        print_json(as_objects(columns, rows))
        return
    print_table(columns, rows)
    typer.echo(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


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
