"""`traceflow projects`: make projects and keys, change settings."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters import projects
from adapters.postgres import connect
from deploy.command.failure import CommandFailure, Exit
from deploy.command.project_settings import validated
from schemas.connections import DatabaseSettings

_APPLICATION = "traceflow projects"
_LISTS = frozenset({"origins"})


def create(database: DatabaseSettings, name: str, assignments: Sequence[str]) -> projects.NewProject:
    """Make a project with a key.

    Raises:
        CommandFailure: the name is empty, or a setting is wrong.
    """
    if not name.strip():
        raise CommandFailure("a project needs a name (example: shop)", Exit.USAGE)
    settings = validated({name: value for name, value in parse_assignments(assignments).items() if value is not None})
    with connect(database, application_name=_APPLICATION) as connection:
        return projects.create_project(connection, name=name, settings=settings)


def list_all(database: DatabaseSettings) -> list[projects.ListedProject]:
    """Return every project."""
    with connect(database, application_name=_APPLICATION) as connection:
        return projects.list_projects(connection)


def rotate(database: DatabaseSettings, project_id: str, *, keep_old: bool) -> str:
    """Make another key and return it.

    Raises:
        CommandFailure: there is no such project.
    """
    with connect(database, application_name=_APPLICATION) as connection:
        try:
            return projects.rotate_key(connection, project_id, revoke_others=not keep_old)
        except projects.UnknownProject as error:
            raise CommandFailure(f"{error}: `traceflow projects list` shows them") from error


def change(database: DatabaseSettings, project_id: str, assignments: Sequence[str]) -> int:
    """Put a new version of the settings in force and return its number.

    Raises:
        CommandFailure: there is no such project, or a setting is wrong.
    """
    with connect(database, application_name=_APPLICATION) as connection:
        listed = next((p for p in projects.list_projects(connection) if p.id == project_id), None)
        if listed is None:
            raise CommandFailure(f"there is no project {project_id}: `traceflow projects list` shows them")
        changes = parse_assignments(assignments, current=listed.settings.model_dump())
        current = listed.settings.model_dump(exclude_defaults=True)
        validated({name: value for name, value in {**current, **changes}.items() if value is not None})
        return projects.set_settings(connection, project_id, changes)


def parse_assignments(assignments: Sequence[str], *, current: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read `field=value`: JSON where it is JSON, else text; `origins=a,b` is a list; `field=` sets the default.

    A dotted name reaches into a field that holds an object (`detectors.rage_click.min_clicks=4`) and leaves its other
    parts, those of `current`, as they are.

    Raises:
        CommandFailure: one of them has no `=`.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise CommandFailure(f"{assignment!r} is no field=value (example: session_gap_ms=600000)", Exit.USAGE)
        field, *inner = path.strip().split(".")
        value = _value(field, text)
        if inner:
            base = changes.get(field, (current or {}).get(field)) or {}
            changes[field] = _placed(base, inner, value)
        else:
            changes[field] = value
    return changes


def _value(field: str, text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return [part.strip() for part in text.split(",")] if field in _LISTS else text


def _placed(base: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    out = dict(base) if isinstance(base, Mapping) else {}
    head, *rest = path
    placed = _placed(out.get(head), rest, value) if rest else value
    if placed is None or placed == {}:
        out.pop(head, None)
    else:
        out[head] = placed
    return out
