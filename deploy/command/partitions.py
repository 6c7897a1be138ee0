"""`traceflow partitions`: which days there are, making them, dropping old ones."""

import os
from typing import Annotated

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json

KeepDays = Annotated[int | None, typer.Option(metavar="DAYS", min=8, help="Days before today that stay.")]


def partitions_list(data: Data = None, as_json: Json = False) -> None:
    """Show every day of events and of recordings: rows as the planner believes, bytes with indexes."""
    from adapters.day_partitions import list_partitions
    from adapters.postgres import connect
    from deploy.command.answer import plain, print_rows
    from deploy.command.reach import database

    with connect(database(os.environ, data), application_name="traceflow partitions") as connection:
        rows = [plain(partition) for partition in list_partitions(connection)]
    print_rows(rows, ["table", "day", "state", "rows", "size_bytes"], as_json=as_json)


def partitions_ensure(
    behind: Annotated[int, typer.Option(help="Days before today.", min=0, max=3650)] = 8,
    ahead: Annotated[int, typer.Option(help="Days after today.", min=0, max=365)] = 7,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make the days around today that are missing, which the sinks do hourly by themselves; blocks nobody."""
    from adapters.day_partitions import ensure_partitions
    from adapters.postgres import connect
    from deploy.command.answer import print_json
    from deploy.command.reach import database

    with connect(database(os.environ, data), application_name="traceflow partitions") as connection:
        made = ensure_partitions(connection, behind=behind, ahead=ahead)
    if as_json:
        print_json({"made": made})
    else:
        typer.echo(f"made {made} partitions" if made else "every day is there")


def partitions_prune(
    keep_events: KeepDays = None,
    keep_recordings: KeepDays = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be dropped, change nothing.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for older transactions, a partition.", min=0.1)] = 60.0,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Drop the days that are older than is kept, for good; counters of sessions stay as they are.

    Neither ingestion nor queries wait for it. A day that a long transaction reads is left half-way: prune again.
    """
    from adapters.day_partitions import AnotherPrunes, DayPartition, Pruner, StillRead
    from adapters.postgres import connect
    from deploy.command.answer import plain, print_json, print_table
    from deploy.command.reach import database

    given = {"traceflow_events": keep_events, "session_recording_chunks": keep_recordings}
    keep_days = {table: days for table, days in given.items() if days is not None}
    _check_kept(keep_days)
    dropped: list[DayPartition] = []
    left: list[str] = []
    with connect(database(os.environ, data), application_name="traceflow partitions") as connection:
        try:
            pruner = Pruner(connection, wait_s=wait)
        except AnotherPrunes as error:
            raise CommandFailure(str(error)) from error
        for old in pruner.expired(keep_days).values():
            try:
                for partition in old:
                    if not dry_run:
                        pruner.drop(partition)
                    dropped.append(partition)
            except StillRead as error:
                left.append(str(error))
    if as_json:
        print_json({"dry_run": dry_run, "dropped": dropped, "left": left})
    else:
        rows = [plain(partition) for partition in dropped]
        print_table(
            ["table", "day", "rows", "size_bytes"], [[r["table"], r["day"], r["rows"], r["size_bytes"]] for r in rows]
        )
        typer.echo(f"{len(dropped)} partitions {'would be dropped' if dry_run else 'dropped'}")
        for line in left:
            typer.echo(f"left: {line}; prune again")
    if left:
        raise typer.Exit(Exit.NO)


def _check_kept(keep_days: dict[str, int]) -> None:
    """Refuse to drop a day for which a sink may still make a partition."""
    from schemas.environment import read_settings
    from sinks.settings import SinkSettings

    if not keep_days:
        raise CommandFailure("nothing to prune (example: --keep-events 90 --keep-recordings 60)", Exit.USAGE)
    oldest = read_settings(SinkSettings, os.environ, group="SINK").oldest_day
    if min(keep_days.values()) < oldest:
        raise CommandFailure(
            f"sinks store rows of up to {oldest} days back (TRACEFLOW_SINK_OLDEST_DAY): keep as many days, or let the "
            "sinks take fewer first",
            Exit.USAGE,
        )
