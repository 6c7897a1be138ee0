"""`traceflow users`: who there is, their roles in the installation, features of their own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json

if TYPE_CHECKING:
    from adapters.postgres import Connection

User = Annotated[str, typer.Argument(metavar="USER", help="E-mail address, or id.")]


class Role(StrEnum):
    """Roles in the whole installation."""

    ADMIN = "admin"
    MODERATOR = "moderator"
    USER = "user"


class Has(StrEnum):
    """Who decides about a feature."""

    ON = "on"
    OFF = "off"
    PLAN = "plan"


@contextmanager
def reaching_users(data: Path | None, command: str) -> Iterator["Connection"]:
    """Connect, and tell what is refused in one line."""
    from adapters.postgres import connect
    from adapters.users import UnknownUser, UserRefused, UsersKeptElsewhere
    from deploy.command.reach import database

    with connect(database(os.environ, data), application_name=f"traceflow {command}") as connection:
        try:
            yield connection
        except UnknownUser as error:
            raise CommandFailure(f"{error}: `traceflow users list` shows them") from error
        except (UserRefused, UsersKeptElsewhere) as error:
            raise CommandFailure(str(error)) from error


def users_list(data: Data = None, as_json: Json = False) -> None:
    """Show every user: roles in the installation, projects that the user owns, the plan that pays for them."""
    from adapters.users import list_users
    from deploy.command.answer import plain, print_rows

    with reaching_users(data, "users") as connection:
        rows = [plain(user) for user in list_users(connection)]
    print_rows(rows, ["id", "email", "roles", "owns", "plan"], as_json=as_json)


def users_add(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")],
    role: Annotated[Role | None, typer.Option(help="A role in the whole installation.")] = None,
    user_id: Annotated[str | None, typer.Option("--id", metavar="UUID", help="The user's id elsewhere.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a user, where TraceFlow keeps them itself; on Supabase they are made there (Authentication).

    A user is who owns projects and pays, or sees them as a member. How a user logs in is the business of the API layer
    in front of the database.
    """
    from adapters.users import add_user
    from deploy.command.answer import print_json

    with reaching_users(data, "users") as connection:
        made = add_user(connection, email, user_id=user_id, role=role.value if role else None)
    if as_json:
        print_json({"user_id": made})
    else:
        typer.echo(f"user {made}")


def users_role(
    user: User,
    role: Role,
    take: Annotated[bool, typer.Option("--take", help="Take the role away.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Give a user a role in the whole installation: an admin sees all recordings, logs of AI calls, the audit log."""
    from adapters.users import find_user, give_role, take_role
    from deploy.command.answer import print_json

    with reaching_users(data, "users") as connection:
        found = find_user(connection, user)
        changed = (take_role if take else give_role)(connection, found, role.value)
    if as_json:
        print_json({"user_id": found, "role": role.value, "has_it": not take, "changed": changed})
    else:
        typer.echo(f"{user} is {'no longer ' if take else ''}{role.value}" + ("" if changed else ", as before"))


def users_feature(
    user: User,
    feature: Annotated[str, typer.Argument(help="session_replay, heatmaps, ai_analysis, or your own.")],
    has: Annotated[Has, typer.Argument(help="on, off, or what the plan says.")],
    limit: Annotated[int | None, typer.Option(metavar="TIMES", min=0, help="How often at most; else no limit.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="For how long; then the plan decides. Else for ever.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Give a user a feature, or take it away, whatever the plan says; how often it was used so far is kept."""
    from adapters.users import Feature, find_user, set_feature, unset_feature
    from deploy.command.answer import print_json

    with reaching_users(data, "users") as connection:
        found = find_user(connection, user)
        if has is Has.PLAN:
            unset_feature(connection, found, feature)
        else:
            set_feature(connection, found, Feature(feature, enabled=has is Has.ON, usage_limit=limit, days=days))
    if as_json:
        print_json({"user_id": found, "feature": feature, "has": has.value})
    else:
        typer.echo(f"{feature} of {user}: {'as the plan says' if has is Has.PLAN else has.value}")


def users_remove(
    user: User,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it nothing is changed.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Remove a user with memberships, roles, features and subscriptions; projects need another owner first."""
    from adapters.users import find_user, remove_user
    from deploy.command.answer import print_json

    with reaching_users(data, "users") as connection:
        found = find_user(connection, user)
        if not yes:
            raise CommandFailure(
                f"nothing was changed: --yes removes {user} with subscriptions and memberships", Exit.NO
            )
        remove_user(connection, found)
    if as_json:
        print_json({"removed": found})
    else:
        typer.echo(f"removed {found}")
