"""Users: who they are, their roles in the installation, and features of their own; each function is one transaction.

On Supabase users are made and removed by Supabase Auth, which keeps far more of them than TraceFlow knows: there they
are looked up and given roles, never made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from adapters.postgres import Connection, read_queries


class UnknownUser(LookupError):
    """No user has this id or e-mail address."""


class UsersKeptElsewhere(Exception):
    """auth.users is not TraceFlow's own: users are made and removed where they are kept."""


class UserRefused(Exception):
    """The user cannot be made, changed or removed; the message says why."""


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user as `traceflow users list` shows it."""

    id: str
    email: str | None
    roles: Sequence[str]
    """Of the whole installation."""
    owns: Sequence[str]
    """Names of projects."""
    plan: str | None
    """The plan that pays; None: nobody limits this user."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature that a user has, or has not, whatever the plan says."""

    name: str
    enabled: bool = True
    usage_limit: int | None = None
    days: int | None = None
    """How long; None: without end."""


def find_user(connection: Connection, user: str) -> str:
    """Return the id of the user with this id or e-mail address.

    Raises:
        UnknownUser: there is none.
        UserRefused: several have this address.
    """
    found = connection.execute(_queries()["find"], {"user": user}).fetchall()
    if not found:
        raise UnknownUser(f"there is no user {user}")
    if len(found) > 1:
        raise UserRefused(f"{len(found)} users have the address {user}: name one by id")
    return str(found[0][0])


def list_users(connection: Connection) -> list[ListedUser]:
    """Return every user, by e-mail address."""
    return [
        ListedUser(row[0], row[1], tuple(row[2]), tuple(row[3]), row[4])
        for row in connection.execute(_queries()["list"])
    ]


def add_user(connection: Connection, email: str, *, user_id: str | None = None, role: str | None = None) -> str:
    """Make a user, with a role if one is named, and return the id.

    Raises:
        UsersKeptElsewhere: users are made elsewhere.
        UserRefused: the address or the id is taken, or no UUID.
    """
    with connection.transaction():
        _check_ours(connection)
        try:
            row = connection.execute(_queries()["add"], {"id": user_id, "email": email}).fetchone()
        except (psycopg.errors.UniqueViolation, psycopg.errors.InvalidTextRepresentation) as error:
            raise UserRefused(error.diag.message_detail or error.diag.message_primary or "refused") from error
        made = str(row[0]) if row else ""
        if role is not None:
            give_role(connection, made, role)
    return made


def remove_user(connection: Connection, user_id: str) -> None:
    """Remove a user with memberships, roles, features and subscriptions.

    Raises:
        UsersKeptElsewhere: users are removed elsewhere.
        UserRefused: the user owns projects, which nothing would limit without an owner.
    """
    queries = _queries()
    with connection.transaction():
        _check_ours(connection)
        if owned := [str(row[0]) for row in connection.execute(queries["owned"], {"id": user_id})]:
            raise UserRefused(
                f"the user owns {', '.join(owned)}: `traceflow projects owner` gives them to another first"
            )
        for step in ("forget_resolutions", "remove_features", "remove_subscriptions", "remove"):
            connection.execute(queries[step], {"id": user_id})


def give_role(connection: Connection, user_id: str, role: str) -> bool:
    """Give a role in the installation; False if the user has it already.

    Raises:
        UserRefused: the installation's user_roles does not know this role.
    """
    named = {"id": user_id, "role": role}
    with connection.transaction():
        row = connection.execute(_queries()["has_role"], named).fetchone()
        if row is not None and row[0]:
            return False
        try:
            connection.execute(_queries()["give_role"], named)
        except psycopg.errors.InvalidTextRepresentation as error:
            raise UserRefused(f"user_roles has no role {role}") from error
    return True


def take_role(connection: Connection, user_id: str, role: str) -> bool:
    """Take a role away; False if the user has it not."""
    return connection.execute(_queries()["take_role"], {"id": user_id, "role": role}).rowcount > 0


def set_feature(connection: Connection, user_id: str, feature: Feature) -> None:
    """Give a user a feature, or take it away, whatever the plan says."""
    row = {
        "id": user_id,
        "feature": feature.name,
        "enabled": feature.enabled,
        "usage_limit": feature.usage_limit,
        "days": feature.days,
    }
    connection.execute(_queries()["set_feature"], row)


def unset_feature(connection: Connection, user_id: str, feature: str) -> bool:
    """Let the plan decide about a feature again; False if it does already."""
    return connection.execute(_queries()["unset_feature"], {"id": user_id, "feature": feature}).rowcount > 0


def _check_ours(connection: Connection) -> None:
    row = connection.execute(_queries()["is_ours"]).fetchone()
    if row is None or not row[0]:
        raise UsersKeptElsewhere(
            "auth.users is not TraceFlow's own: make and remove users where they are kept (on Supabase: under "
            "Authentication, or by its admin API)"
        )


def _queries() -> dict[str, bytes]:
    return read_queries("adapters", "users.sql")
