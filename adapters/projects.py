"""Make projects, give them keys, and change their settings; each function is one transaction.

A key is random and public: everyone who opens the page has it. It is stored as its SHA-256 only, and shown once.
Settings are versions that never change, because a session keeps the version of its first record.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from adapters.postgres import Connection, read_queries
from schemas.projects import NOTIFY_CHANNEL, IngestRoute, ProjectSettings

KEY_PREFIX = "tfk_"
_KEY_RANDOM_BYTES = 24
_SHOWN_PREFIX = 8


class UnknownProject(LookupError):
    """No project has this id."""


@dataclass(frozen=True, slots=True)
class NewProject:
    """A project just made; the key is shown this once."""

    id: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListedProject:
    """A project as `traceflow projects list` shows it."""

    id: str
    name: str
    created_at: datetime
    settings_version: int
    settings: ProjectSettings
    key_prefixes: Sequence[str]
    owner: str | None
    """E-mail address, or id, of the user whose subscription pays; None: nobody's, and nothing is limited."""
    limited: Sequence[IngestRoute]
    """What is refused because that subscription is used up."""


@dataclass(frozen=True, slots=True)
class Member:
    """A user who sees a project."""

    user_id: str
    email: str | None
    role: str
    """owner | admin | member | viewer"""
    since: datetime


def hash_key(key: str) -> bytes:
    """Return what is stored of a key. It is random, so one round without salt is enough and can be looked up."""
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def create_project(
    connection: Connection, *, name: str, settings: ProjectSettings | None = None, project_id: str | None = None
) -> NewProject:
    """Make a project with a key and the first version of its settings."""
    queries = read_queries("adapters", "projects.sql")
    with connection.transaction():
        (made,) = _one(connection, queries["add_project"], {"id": project_id, "name": name})
        key = _add_key(connection, queries, made)
        _add_settings(connection, queries, made, version=1, settings=settings or ProjectSettings())
        _notify(connection, queries, made)
    return NewProject(made, key)


def rotate_key(connection: Connection, project_id: str, *, revoke_others: bool) -> str:
    """Make another key for a project and return it this once; the others end now, or go on until they are revoked.

    Raises:
        UnknownProject: there is no such project.
    """
    queries = read_queries("adapters", "projects.sql")
    with connection.transaction():
        _lock(connection, queries, project_id)
        key = _add_key(connection, queries, project_id)
        if revoke_others:
            connection.execute(queries["revoke_other_keys"], {"id": project_id, "key_hash": hash_key(key)})
        _notify(connection, queries, project_id)
    return key


def set_settings(connection: Connection, project_id: str, changes: Mapping[str, Any]) -> int:
    """Put a new version of a project's settings in force and return its number; None sets a field to its default.

    Raises:
        UnknownProject: there is no such project.
        pydantic.ValidationError: a field is unknown or its value not allowed.
    """
    queries = read_queries("adapters", "projects.sql")
    with connection.transaction():
        _lock(connection, queries, project_id)
        row = connection.execute(queries["current_settings"], {"id": project_id}).fetchone()
        version, current = row if row is not None else (0, {})
        merged = {name: value for name, value in {**current, **changes}.items() if value is not None}
        _add_settings(
            connection, queries, project_id, version=version + 1, settings=ProjectSettings.model_validate(merged)
        )
        _notify(connection, queries, project_id)
    return int(version) + 1


def list_projects(connection: Connection) -> list[ListedProject]:
    """Return every project, oldest first; of its keys only their beginnings are known."""
    queries = read_queries("adapters", "projects.sql")
    return [
        ListedProject(
            row[0], row[1], row[2], row[3], read_stored_settings(row[4]), tuple(row[5]), row[6], tuple(row[7])
        )
        for row in connection.execute(queries["list"])
    ]


def set_owner(connection: Connection, project_id: str, user_id: str | None) -> None:
    """Let a user's subscription pay for a project; None: nobody's, and nothing is limited.

    Raises:
        UnknownProject: there is no such project.
    """
    queries = read_queries("adapters", "projects.sql")
    with connection.transaction():
        _lock(connection, queries, project_id)
        connection.execute(queries["set_owner"], {"id": project_id, "owner": user_id})


def list_members(connection: Connection, project_id: str) -> list[Member]:
    """Return the members of a project.

    Raises:
        UnknownProject: there is no such project.
    """
    queries = read_queries("adapters", "projects.sql")
    with connection.transaction():
        _lock(connection, queries, project_id)
        return [Member(*row) for row in connection.execute(queries["members"], {"id": project_id})]


def set_member(connection: Connection, project_id: str, user_id: str, role: str) -> None:
    """Make a user a member of a project, or give a member another role.

    Raises:
        UnknownProject: there is no such project.
    """
    queries = read_queries("adapters", "projects.sql")
    with connection.transaction():
        _lock(connection, queries, project_id)
        connection.execute(queries["set_member"], {"id": project_id, "user": user_id, "role": role})


def remove_member(connection: Connection, project_id: str, user_id: str) -> bool:
    """End a membership; False if there was none.

    Raises:
        UnknownProject: there is no such project.
    """
    queries = read_queries("adapters", "projects.sql")
    with connection.transaction():
        _lock(connection, queries, project_id)
        return connection.execute(queries["remove_member"], {"id": project_id, "user": user_id}).rowcount > 0


def read_stored_settings(stored: Mapping[str, Any]) -> ProjectSettings:
    """Read stored settings; a field of a newer version is passed over, so that versions can run side by side."""
    known = {name: value for name, value in stored.items() if name in ProjectSettings.model_fields}
    return ProjectSettings.model_validate(known)


def _one(connection: Connection, query: bytes, parameters: Mapping[str, Any]) -> TupleRow:
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise UnknownProject
    return row


def _lock(connection: Connection, queries: Mapping[str, bytes], project_id: str) -> None:
    try:
        _one(connection, queries["lock_project"], {"id": project_id})
    except (UnknownProject, psycopg.errors.InvalidTextRepresentation):
        raise UnknownProject(f"there is no project {project_id}") from None


def _add_key(connection: Connection, queries: Mapping[str, bytes], project_id: str) -> str:
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_RANDOM_BYTES)
    connection.execute(queries["add_key"], {"id": project_id, "key_hash": hash_key(key), "prefix": key[:_SHOWN_PREFIX]})
    return key


def _add_settings(
    connection: Connection, queries: Mapping[str, bytes], project_id: str, *, version: int, settings: ProjectSettings
) -> None:
    stored = Jsonb(settings.model_dump(mode="json", exclude_defaults=True))
    connection.execute(queries["add_settings"], {"id": project_id, "version": version, "settings": stored})


def _notify(connection: Connection, queries: Mapping[str, bytes], project_id: str) -> None:
    connection.execute(queries["notify"], {"channel": NOTIFY_CHANNEL, "id": project_id})
