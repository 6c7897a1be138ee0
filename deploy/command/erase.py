"""`traceflow erase`: remove a visitor or a session everywhere, for good."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command.options import Data, Json

if TYPE_CHECKING:
    from adapters.erasures import Subject


def erase(
    project: Annotated[str, typer.Option(help="The project's id: another's visitor of the same name stays.")],
    visitor: Annotated[str | None, typer.Option(metavar="ID", help="All there is of a visitor until now.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="One session.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Remove a visitor or a session from every table, and let nothing of it come back from Kafka.

    Counted again afterwards. Kafka's own copies go with its retention; deploy/docs/erasure.md says what stays where.
    """
    from contextlib import closing

    from adapters.postgres import connect
    from deploy.command import reach
    from deploy.command.answer import print_json, print_table
    from deploy.command.failure import CommandFailure, Exit
    from deploy.erasure.run import Erasure, LocksHeld, RowsLeft

    subject = _subject(project, visitor, session)
    database, waits = reach.database(os.environ, data), {"lock_timeout": "5s"}
    with closing(connect(database, application_name="traceflow erase", session=waits)) as connection:
        erasure = Erasure(connection, subject)
        if not erasure.knows_project():
            raise CommandFailure(f"there is no project {project}: `traceflow projects list` shows them")
        planned = erasure.planned()
        if dry_run:
            if as_json:
                print_json({"dry_run": True, "planned": planned})
            else:
                print_table(["table", "rows to remove"], list(planned.items()))
            return
        if not yes:
            if not as_json:
                print_table(["table", "rows to remove"], list(planned.items()))
            try:
                typer.confirm(f"erase this {subject.kind} for good?", abort=True, err=True)
            except typer.Abort as error:
                raise CommandFailure("nothing was erased: where nobody can be asked, say --yes") from error
        try:
            erased = erasure.run()
        except LocksHeld as error:
            raise CommandFailure(f"{error}: run it again, it goes on from there", Exit.UNAVAILABLE) from error
        except RowsLeft as error:
            raise CommandFailure(f"rows are left: {error}; run it again") from error
    if as_json:
        print_json({"dry_run": False, "removed": erased.removed, "left": erased.left})
        return
    rows = [[table, erased.removed.get(table, 0), left] for table, left in erased.left.items()]
    print_table(["table", "removed", "left"], rows)
    if not any(erased.removed.values()):
        typer.echo(f"nothing was stored of this {subject.kind}: is {subject.id} the whole id?", err=True)
    typer.echo(f"the {subject.kind} is erased, and blocked")


def _subject(project: str, visitor: str | None, session: str | None) -> "Subject":
    """Return what is to be erased.

    Raises:
        CommandFailure: that is not said, or cannot be.
    """
    from adapters.erasures import Subject
    from deploy.command.failure import CommandFailure, Exit
    from deploy.command.parked import parse_project

    name = visitor or session
    if name is None or (visitor and session):
        raise CommandFailure("say either --visitor or --session", Exit.USAGE)
    return Subject(str(parse_project(project)), "visitor" if visitor else "session", name)
