"""The commands of `traceflow dead-letters`: look at what was parked, put it back, or mark it as dealt with."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.options import Data, Json

if TYPE_CHECKING:
    from adapters.dead_letter_reader import LetterFilter
    from deploy.redrive.plan import Letter

Stage = Annotated[str | None, typer.Option(help="Only of this stage: gateway, digest, analyze, sink-events …")]
ReasonCode = Annotated[str | None, typer.Option(help="Only of this reason code.")]
Project = Annotated[str | None, typer.Option(help="Only of this project.")]
Since = Annotated[str | None, typer.Option(help="Only parked since: 90s, 15m, 2h, 7d ago, or an ISO 8601 time.")]
Until = Annotated[str | None, typer.Option(help="Only parked before; as --since.")]
Places = Annotated[list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]…", help="Only these, as `list` shows.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them: needed where nothing else is said.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")]


def dead_letters_list(
    stage: Stage = None,
    reason: ReasonCode = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    state: Annotated[
        str | None, typer.Option(help="Only these: waiting (nothing was done), sending, redriven, dropped.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most this many, the latest.", min=1)] = 100,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List what was parked: when, where, why, and what was done about it."""
    from deploy.command import parked
    from deploy.command.reach import kafka
    from deploy.command.repair import known_marks

    wanted = _filter(stage, reason, project, since, until)
    state = parked.one_of(state, parked.STATES, option="--state")
    settings, log = kafka(os.environ, data)
    marks = known_marks(os.environ, data)
    letters = parked.latest(settings, prefix=log.topic_prefix, wanted=wanted, limit=limit, state=state, marks=marks)
    rows = [parked.summary(stored, marks) for stored in letters]
    _list(rows, ["place", "at", "stage", "reason", "state", "from", "session_id", "detail"], as_json=as_json)


def dead_letters_show(
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `list` shows it.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter whole: its origin, reason, headers and value."""
    from deploy.command import parked
    from deploy.command.answer import print_json, shown
    from deploy.command.reach import kafka
    from deploy.command.repair import known_marks

    settings, log = kafka(os.environ, data)
    found = parked.whole(parked.show(settings, prefix=log.topic_prefix, place=place), known_marks(os.environ, data))
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<12} {shown(value)}")


def dead_letters_stats(
    stage: Stage = None,
    reason: ReasonCode = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Count what was parked by stage, reason and project, and what was done about it."""
    from deploy.command import parked
    from deploy.command.reach import kafka
    from deploy.command.repair import known_marks

    wanted = _filter(stage, reason, project, since, until)
    settings, log = kafka(os.environ, data)
    found = parked.scan(settings, prefix=log.topic_prefix, wanted=wanted)
    rows = parked.statistics(found.letters.values(), known_marks(os.environ, data))
    _list(rows, list(rows[0]) if rows else (), as_json=as_json)


def dead_letters_redrive(
    places: Places = None,
    stage: Stage = None,
    reason: ReasonCode = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Put what waits back for the stage that parked it, in order per session, each with one effect.

    Safe to interrupt or kill, and to run again: it goes on where it stood. What a sink refuses again waits on.
    """
    from deploy.command import repair

    letters = _asked_for(places, _filter(stage, reason, project, since, until), everything=everything, data=data)
    answer = repair.redrive(repair.environment(os.environ, data), letters, dry_run=dry_run)
    _tell(answer, as_json=as_json)
    if answer["refused"]:
        from deploy.command.failure import Exit

        raise typer.Exit(Exit.NO)


def dead_letters_drop(
    places: Places = None,
    stage: Stage = None,
    reason: ReasonCode = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let dropped ones wait again.")] = False,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Mark what waits as dealt with: it stays in the topic until retention, and no redrive touches it."""
    from deploy.command import repair

    letters = _asked_for(places, _filter(stage, reason, project, since, until), everything=everything, data=data)
    _tell(repair.drop(repair.environment(os.environ, data), letters, undo=undo, dry_run=dry_run), as_json=as_json)


def _filter(
    stage: str | None, reason: str | None, project: str | None, since: str | None, until: str | None
) -> "LetterFilter":
    from datetime import datetime

    from adapters.dead_letter_reader import LetterFilter
    from deploy.command.parked import REASONS, STAGES, one_of, parse_begin, parse_project, parse_time

    now = datetime.now(UTC)
    return LetterFilter(
        stage=one_of(stage, STAGES, option="--stage"),
        reason=one_of(reason, REASONS, option="--reason"),
        project_id=parse_project(project),
        since=parse_begin(since, option="--since", now=now) if since else None,
        until=parse_time(until, option="--until", now=now) if until else None,
    )


def _asked_for(
    places: list[str] | None, wanted: "LetterFilter", *, everything: bool, data: Path | None
) -> "list[Letter]":
    """Return the letters that are meant; nothing is meant by saying nothing."""
    from adapters.dead_letter_reader import LetterFilter
    from deploy.command.failure import CommandFailure, Exit
    from deploy.command.parked import scan
    from deploy.command.reach import kafka

    if not places and not everything and wanted == LetterFilter():
        raise CommandFailure("say which: places, --stage, --reason, --project, --since, --until or --all", Exit.USAGE)
    settings, log = kafka(os.environ, data)
    found = scan(settings, prefix=log.topic_prefix, wanted=wanted)
    return found.named(places) if places else list(found.letters.values())


def _list(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    from deploy.command.answer import print_rows

    if rows or as_json:
        print_rows(rows, columns, as_json=as_json)
    else:
        typer.echo("no dead letters")


def _tell(answer: dict[str, Any], *, as_json: bool) -> None:
    from deploy.command.answer import print_json

    lines = answer.pop("lines")
    if as_json:
        print_json(answer)
    else:
        typer.echo("\n".join(lines))
