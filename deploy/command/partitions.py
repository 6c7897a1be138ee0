"""`traceflow partitions`: which days there are, making them, how long they stay, dropping old ones."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json

if TYPE_CHECKING:
    from datetime import date

    from adapters.postgres import Connection
    from adapters.retention import Step

KeepDays = Annotated[int | None, typer.Option(metavar="DAYS", min=8, help="Days before today that stay.")]
Stays = Annotated[str | None, typer.Option(metavar="DAYS|forever", help="Days before today that stay from now on.")]


def partitions_list(data: Data = None, as_json: Json = False) -> None:
    """Show every day of events and of recordings: rows as the planner believes, bytes with indexes, when it goes."""
    from datetime import timedelta

    from adapters.day_partitions import list_partitions
    from adapters.postgres import connect
    from adapters.retention import calendar, first_days_kept
    from deploy.command.answer import plain, print_rows
    from deploy.command.reach import database

    with connect(database(os.environ, data), application_name="traceflow partitions") as connection:
        found, now, kept_since = (
            list_partitions(connection),
            calendar(connection).counted_from,
            first_days_kept(connection),
        )
    rows = []
    for partition in found:
        since = kept_since[partition.table]
        goes_on = None if since is None else partition.day + (now - since) + timedelta(days=1)
        never_analysed = {"rows": None} if partition.rows < 0 else {}
        rows.append(plain(partition) | never_analysed | {"goes_on": plain(goes_on)})
    print_rows(rows, ["table", "day", "state", "rows", "size_bytes", "goes_on"], as_json=as_json)


def partitions_keep(
    events: Stays = None, recordings: Stays = None, sessions: Stays = None, data: Data = None, as_json: Json = False
) -> None:
    """Say how many days stay, or ask without options; sinks let go of what is older, for good, hourly by themselves.

    What is not named stays as it is. Recordings are their chunks and their metadata; with a session go its AI jobs and
    its links to UX issues, whose counters stay.
    """
    from adapters.postgres import connect
    from adapters.retention import Retention, keep, read_retention
    from deploy.command.answer import print_json
    from deploy.command.reach import database

    given = {"events": events, "recordings": recordings, "sessions": sessions}
    with connect(database(os.environ, data), application_name="traceflow partitions") as connection:
        kept = read_retention(connection)
        if any(given.values()):
            kept = Retention(
                **{name: getattr(kept, name) if told is None else _days(told) for name, told in given.items()}
            )
            if objection := kept.objection():
                raise CommandFailure(objection, Exit.USAGE)
            keep(connection, kept)
    if as_json:
        print_json(kept)
        return
    for name in given:
        days = getattr(kept, name)
        typer.echo(f"{name} are kept {'for ever' if days is None else f'for {days} days'}")


def _days(told: str) -> int | None:
    """Read what an option says."""
    if told == "forever":
        return None
    if not told.isdecimal():
        raise CommandFailure(f"neither a number of days nor forever: {told}", Exit.USAGE)
    return int(told)


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, change nothing.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for older transactions, a partition.", min=0.1)] = 60.0,
    today: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Say that it is this day (UTC): the clock leapt.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let go of what is older than is kept, for good; with options, of these days alone. Counters of sessions stay.

    Sinks do so hourly by themselves, if their login owns the tables. Neither ingestion nor queries wait for it. A day
    that a long transaction reads is left half-way: prune again. After a leap of the database's clock by more than a
    week nothing goes unless you say that it is right (--today).
    """
    from adapters.day_partitions import AnotherPrunes
    from adapters.postgres import connect
    from adapters.retention import prune, would_prune
    from deploy.command.reach import database

    given = {"traceflow_events": keep_events, "session_recording_chunks": keep_recordings}
    keep_days = {table: days for table, days in given.items() if days is not None}
    with connect(database(os.environ, data), application_name="traceflow partitions") as connection:
        try:
            if dry_run:
                with connection.transaction(force_rollback=True):  # what somebody says about the clock is not kept
                    _follow_clock(connection, today.date() if today else None)
                    steps = list(would_prune(connection, _kept_since(connection, keep_days)))
            else:
                _follow_clock(connection, today.date() if today else None)
                steps = list(prune(connection, _kept_since(connection, keep_days), wait_s=wait))
        except AnotherPrunes as error:
            raise CommandFailure(str(error)) from error
    left = _tell(steps, dry_run=dry_run, as_json=as_json)
    if left:
        raise typer.Exit(Exit.NO)


def _follow_clock(connection: "Connection", said: "date | None") -> None:
    """Count days from today.

    Raises:
        CommandFailure: the clock leapt, and it was not said that it is right; it is not that day; or clocks disagree.
    """
    from adapters.retention import ClockLeapt, ClocksDisagree, believe_clock, calendar, follow_clock

    now = calendar(connection)
    if said is not None and said != now.clock:
        raise CommandFailure(f"the database's clock says that it is {now.clock}, UTC", Exit.USAGE)
    try:
        follow_clock(connection)
    except ClocksDisagree as error:
        raise CommandFailure(str(error)) from error
    except ClockLeapt as error:
        if said is None:
            raise CommandFailure(str(error)) from error
        believe_clock(connection)


def _kept_since(connection: "Connection", keep_days: Mapping[str, int]) -> "Mapping[str, date | None]":
    """Return the first day that stays, by table: as stored, or as the options say.

    Raises:
        CommandFailure: a sink may still store rows of a day that would go.
    """
    from datetime import timedelta

    from adapters.retention import calendar, first_days_kept
    from schemas.environment import read_settings
    from sinks.settings import SinkSettings

    stored = first_days_kept(connection)
    if not keep_days:
        return stored
    now = calendar(connection).counted_from
    oldest = read_settings(SinkSettings, os.environ, group="SINK").oldest_day
    for table, days in keep_days.items():
        since = stored[table]
        reach = oldest if since is None else min(oldest, (now - since).days)
        if days < reach:
            raise CommandFailure(
                f"sinks store rows of up to {reach} days back (TRACEFLOW_SINK_OLDEST_DAY): keep as many days, or keep "
                "fewer for good (traceflow partitions keep)",
                Exit.USAGE,
            )
    return {table: now - timedelta(days=days) for table, days in keep_days.items()}


def _tell(steps: Sequence["Step"], *, dry_run: bool, as_json: bool) -> bool:
    """Print what was done, or would be; return whether something is left."""
    from adapters.retention import Deleted, Dropped, Left
    from deploy.command.answer import print_json, print_table, shown

    dropped = [step.partition for step in steps if isinstance(step, Dropped)]
    left = [step.reason for step in steps if isinstance(step, Left)]
    deleted: Counter[str] = Counter()
    for step in steps:
        if isinstance(step, Deleted):
            deleted[step.table] += step.rows
    if as_json:
        print_json({"dry_run": dry_run, "dropped": dropped, "deleted": deleted, "left": left})
        return bool(left)
    rows = [[day.table, shown(day.day), day.rows, day.size_bytes] for day in dropped]
    print_table(["table", "day", "rows", "size_bytes"], rows)
    would = "would be " if dry_run else ""
    typer.echo(f"{len(dropped)} partitions {would}dropped")
    for table, count in deleted.items():
        typer.echo(f"{count} rows of {table} {would}deleted")
    for line in left:
        typer.echo(f"left: {line}; prune again")
    return bool(left)
