"""The commands of `traceflow offsets`."""

import os
from dataclasses import asdict
from typing import Annotated

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json


def offsets_list(data: Data = None, as_json: Json = False) -> None:
    """Show where each sink stands in each partition, beside what the broker has of it; `lost` says what is missing.

    Exit code 1 says that something is: a sink halts there.
    """
    from deploy.command.answer import print_rows
    from deploy.command.reach import database, kafka
    from deploy.offsets.run import offsets

    with offsets(*kafka(os.environ, data), database(os.environ, data)) as found:
        stand = found.places()
    rows = [
        {
            "sink": place.sink,
            "topic": place.topic,
            "part": place.part,
            "next_offset": place.next_offset,
            "log_begins": place.log_begins,
            "log_ends": place.log_ends,
            "moved_at": place.updated_at,
            "lost": str(place.gap) if place.gap else None,
        }
        for place in stand
    ]
    columns = ["sink", "topic", "part", "next_offset", "log_begins", "log_ends", "moved_at", "lost"]
    print_rows(rows, columns, as_json=as_json)
    if any(place.gap for place in stand):
        raise typer.Exit(Exit.NO)


def offsets_accept_loss(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only said what would be done.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let every sink go on whose log lost something, and say what was lost, by sink and partition.

    Nothing new is passed over: what may have been stored is read again, and stored once.
    """
    from deploy.command.answer import print_json
    from deploy.command.reach import database, kafka
    from deploy.offsets.run import offsets

    with offsets(*kafka(os.environ, data), database(os.environ, data)) as found:
        losses = found.losses()
        done = found.accept(losses) if yes else []
    if as_json:
        print_json([{**asdict(loss.gap), "lost": loss.gap.lost, "goes_on_at": loss.goes_on_at} for loss in losses])
    else:
        typer.echo("\n".join(map(str, losses)) or "the log has lost nothing of what the sinks read")
    if len(done) < len(losses):
        why = "a sink has moved meanwhile: run it again" if yes else "nothing was changed; to go on: --yes"
        raise CommandFailure(why)
