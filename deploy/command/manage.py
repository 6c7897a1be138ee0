"""The commands of `traceflow projects`."""

import os
from typing import Annotated, Any

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json

Assignments = Annotated[
    list[str] | None, typer.Argument(metavar="FIELD=VALUE…", help="Settings; `FIELD=` is the default.")
]
ProjectId = Annotated[str, typer.Argument(metavar="PROJECT", help="The project's id, as `list` shows it.")]


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
    """Show every project, the settings that differ from the defaults, and the beginnings of its keys."""
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
        }
        for project in projects.list_all(database(os.environ, data))
    ]
    columns = ["project_id", "name", "created_at", "settings_version", "settings", "key_prefixes"]
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
