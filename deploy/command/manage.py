"""The commands of `traceflow projects`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json
from deploy.command.users import User, reaching_users

if TYPE_CHECKING:
    from adapters.postgres import Connection

Assignments = Annotated[
    list[str] | None, typer.Argument(metavar="FIELD=VALUE…", help="Settings; `FIELD=` is the default.")
]
ProjectId = Annotated[str, typer.Argument(metavar="PROJECT", help="The project's id, as `list` shows it.")]


class MemberRole(StrEnum):
    """Roles in a project."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


def projects_create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    settings: Assignments = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a project; its key is shown this once and only its hash is kept."""
    from deploy.command import projects
    from deploy.command.answer import print_json
    from deploy.command.reach import database

    made = projects.create(database(os.environ, data), name, settings or ())
    if as_json:
        print_json({"project_id": made.id, "project_key": made.key})
    else:
        typer.echo(f"project {made.id}\nkey     {made.key}   (shown this once)")


def projects_list(data: Data = None, as_json: Json = False) -> None:
    """Show every project: settings that differ from the defaults, beginnings of keys, owner, what is limited.

    Limited is what the gateway refuses because the plan of the owner is used up.
    """
    from deploy.command import projects
    from deploy.command.answer import print_rows
    from deploy.command.reach import database

    rows: list[dict[str, Any]] = [
        {
            "project_id": project.id,
            "name": project.name,
            "created_at": project.created_at,
            "settings_version": project.settings_version,
            "settings": project.settings.model_dump(mode="json", exclude_defaults=True),
            "key_prefixes": list(project.key_prefixes),
            "owner": project.owner,
            "limited": list(project.limited),
        }
        for project in projects.list_all(database(os.environ, data))
    ]
    columns = ["project_id", "name", "created_at", "settings_version", "settings", "key_prefixes", "owner", "limited"]
    print_rows(rows, columns, as_json=as_json)


def projects_rotate_key(
    project: ProjectId,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Let the other keys go on; they end now otherwise.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make another key for a project; it is shown this once."""
    from deploy.command import projects
    from deploy.command.answer import print_json
    from deploy.command.reach import database

    key = projects.rotate(database(os.environ, data), project, keep_old=keep_old)
    if as_json:
        print_json({"project_id": project, "project_key": key})
    else:
        typer.echo(f"key {key}   (shown this once; the others {'go on' if keep_old else 'have ended'})")


def projects_set(project: ProjectId, settings: Assignments = None, data: Data = None, as_json: Json = False) -> None:
    """Put a new version of a project's settings in force; open sessions keep the version they began with."""
    from deploy.command import projects
    from deploy.command.answer import print_json
    from deploy.command.reach import database

    if not settings:
        raise CommandFailure("nothing to set (example: session_gap_ms=600000)", Exit.USAGE)
    version = projects.change(database(os.environ, data), project, settings)
    if as_json:
        print_json({"project_id": project, "settings_version": version})
    else:
        typer.echo(f"version {version} of the settings is in force for new sessions")


def projects_owner(
    project: ProjectId,
    user: Annotated[str | None, typer.Argument(metavar="USER", help="E-mail address, or id.")] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="Let nobody pay: nothing is limited then.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let a user's subscription pay for a project; whoever sees it is a matter of its members."""
    from adapters import projects
    from adapters.users import find_user
    from deploy.command.answer import print_json

    if (user is None) is not nobody:
        raise CommandFailure("name a user, or --nobody", Exit.USAGE)
    with _reaching(data) as connection:
        owner = None if user is None else find_user(connection, user)
        projects.set_owner(connection, project, owner)
    if as_json:
        print_json({"project_id": project, "owner_id": owner})
    else:
        typer.echo(f"{'nobody' if user is None else user} pays for {project}")


def projects_members(project: ProjectId, data: Data = None, as_json: Json = False) -> None:
    """Show who sees a project."""
    from adapters import projects
    from deploy.command.answer import plain, print_rows

    with _reaching(data) as connection:
        rows = [plain(member) for member in projects.list_members(connection, project)]
    print_rows(rows, ["user_id", "email", "role", "since"], as_json=as_json)


def projects_member(
    project: ProjectId,
    user: User,
    role: Annotated[MemberRole, typer.Option(help="What the member is called in the project.")] = MemberRole.MEMBER,
    remove: Annotated[bool, typer.Option("--remove", help="End the membership.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let a user see a project, give a member another role, or end a membership."""
    from adapters import projects
    from adapters.users import find_user
    from deploy.command.answer import print_json

    with _reaching(data) as connection:
        found = find_user(connection, user)
        if remove and not projects.remove_member(connection, project, found):
            raise CommandFailure(f"{user} is no member")
        if not remove:
            projects.set_member(connection, project, found, role.value)
    if as_json:
        print_json({"project_id": project, "user_id": found, "role": None if remove else role.value})
    else:
        typer.echo(f"{user} is {'no member any more' if remove else role.value}")


@contextmanager
def _reaching(data: Path | None) -> Iterator["Connection"]:
    from adapters.projects import UnknownProject

    with reaching_users(data, "projects") as connection:
        try:
            yield connection
        except UnknownProject as error:
            raise CommandFailure(f"{error}: `traceflow projects list` shows them") from error
