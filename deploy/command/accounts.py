"""`traceflow accounts`: whether every event that was received is somewhere, once."""

import os
from datetime import UTC
from typing import Annotated

import typer

from deploy.command.options import Data, Json


def accounts(
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="90s, 2h, 7d ago, or an ISO 8601 time; else all.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    patience: Annotated[int, typer.Option(help="Seconds to wait for the sinks to catch up.", min=1)] = 60,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Count by project the events and recording chunks received, rejected, accepted, stored, parked, duplicate, erased.

    received = accepted + rejected; accepted = stored + parked + duplicates + erased. Reads the log: minutes where it is
    long.
    """
    from contextlib import closing
    from datetime import datetime

    from adapters.postgres import connect
    from deploy.accounts.count import count_accounts
    from deploy.command import reach
    from deploy.command.answer import print_rows
    from deploy.command.failure import CommandFailure, Exit
    from deploy.command.parked import parse_begin, parse_project
    from deploy.replay.caught_up import NotCaughtUp
    from deploy.replay.log import Log

    since_ms = parse_begin(begin, option="--from", now=datetime.now(UTC)) if begin else None
    project = parse_project(project)
    kafka, log = reach.kafka(os.environ, data)
    database = reach.database(os.environ, data)
    with (
        closing(Log(kafka, log.topic_prefix)) as read,
        closing(connect(database, application_name="traceflow accounts")) as connection,
    ):
        try:
            found = count_accounts(read, connection, since_ms=since_ms, patience_s=patience)
        except NotCaughtUp as error:
            raise CommandFailure(str(error), Exit.UNAVAILABLE) from error
    rows = [
        {
            "project_id": project_id or None,
            "what": kind,
            "received": account.received,
            "rejected": account.rejected,
            "accepted": account.accepted,
            "stored": account.stored,
            "parked": account.parked,
            "duplicates": account.duplicates,
            "erased": account.erased,
            "unexplained": account.unexplained,
        }
        for (project_id, kind), account in sorted(found.items())
        if project in (None, project_id)
    ]
    columns = [
        "project_id",
        "what",
        "received",
        "rejected",
        "accepted",
        "stored",
        "parked",
        "duplicates",
        "erased",
        "unexplained",
    ]
    print_rows(rows, columns, as_json=as_json)
    if not rows:
        typer.echo("nothing was received in that time" + (f" for project {project}" if project else ""), err=True)
    if any(row["unexplained"] for row in rows):
        raise typer.Exit(Exit.NO)
