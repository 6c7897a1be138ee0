"""`traceflow plans`: what can be subscribed to."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json

_LIMITS = ("sessions_limit", "recordings_limit", "ai_credits_limit")
_FIELDS = (*_LIMITS, "title", "features", "position", "available")


def plans_list(data: Data = None, as_json: Json = False) -> None:
    """Show every plan; a limit is for a billing period, an empty one is none."""
    from adapters.postgres import connect
    from adapters.subscriptions import list_plans
    from deploy.command.answer import plain, print_rows
    from deploy.command.reach import database

    with connect(database(os.environ, data), application_name="traceflow plans") as connection:
        rows = [plain(plan) for plan in list_plans(connection)]
    columns = ["plan", "title", *_LIMITS, "features", "position", "available", "subscriptions"]
    print_rows(rows, columns, as_json=as_json)


def plans_set(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name; a new one is made.")],
    fields: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE…", help="`sessions_limit=` is no limit.")],
    apply: Annotated[bool, typer.Option("--apply", help="Give its limits to those who have the plan, too.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make or change a plan: sessions_limit, recordings_limit, ai_credits_limit, title, features, position, available.

    Subscriptions keep the limits with which they were made, unless --apply is given. Features, and the limits of the
    plan `free` for those whose subscription has ended, hold at once.
    """
    from adapters.postgres import connect
    from adapters.subscriptions import set_plan
    from deploy.command.answer import print_json
    from deploy.command.reach import database

    changes = parse_plan(fields)
    with connect(database(os.environ, data), application_name="traceflow plans") as connection:
        applied = set_plan(connection, plan, changes, apply=apply)
    if as_json:
        print_json({"plan": plan, "changed": changes, "applied_to": applied})
    else:
        typer.echo(f"plan {plan} is set" + (f", and {applied} subscriptions with it" if apply else ""))


def parse_plan(fields: Sequence[str]) -> Mapping[str, Any]:
    """Read `field=value` as a plan has them.

    Raises:
        CommandFailure: a field is unknown, or its value is not of its kind.
    """
    changes: dict[str, Any] = {}
    for given in fields:
        name, equals, text = given.partition("=")
        if not equals or name not in _FIELDS:
            raise CommandFailure(f"{given!r} is none of {', '.join(_FIELDS)} with =VALUE", Exit.USAGE)
        changes[name] = _value(name, text.strip())
    return changes


def _value(name: str, text: str) -> Any:
    if name == "title":
        return text
    if name == "features":
        return [part.strip() for part in text.split(",") if part.strip()]
    if name == "available":
        if text not in ("true", "false"):
            raise CommandFailure("available is true or false", Exit.USAGE)
        return text == "true"
    if name in _LIMITS and not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise CommandFailure(f"{name} is a whole number, not {text!r}", Exit.USAGE) from None
    if name in _LIMITS and not 0 <= number < 2**31:
        raise CommandFailure(f"{name} is between 0 and {2**31 - 1}, or empty for no limit", Exit.USAGE)
    return number
