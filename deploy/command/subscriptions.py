"""`traceflow subscriptions`: who has which plan, and how much of it is used."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.command.failure import CommandFailure, Exit
from deploy.command.options import Data, Json
from deploy.command.users import User, reaching_users

if TYPE_CHECKING:
    from adapters.subscriptions import Usage

Limit = Annotated[
    str | None, typer.Option(metavar="N|unlimited", help="A limit of a billing period, beside the plan's.")
]


class Status(StrEnum):
    """What a subscription may be."""

    ACTIVE = "active"
    TRIAL = "trial"
    PAST_DUE = "past_due"
    CANCELLED = "cancelled"


class Cycle(StrEnum):
    """How long a billing period is."""

    MONTHLY = "monthly"
    ANNUAL = "annual"


def subscriptions_list(data: Data = None, as_json: Json = False) -> None:
    """Show what each user with a subscription may and has used in the present billing period; who has none, may all."""
    from adapters.subscriptions import list_usage
    from deploy.command.answer import plain, print_json, print_table

    with reaching_users(data, "subscriptions") as connection:
        found = list_usage(connection)
    if as_json:
        print_json([plain(usage) for usage in found])
        return
    columns = ["user", "plan", "status", "sessions", "recordings", "AI credits", "period ends", "limited"]
    print_table(columns, [[_name(usage), *_terms(usage)] for usage in found])


def subscriptions_usage(user: User, data: Data = None, as_json: Json = False) -> None:
    """Show what a user may and has used in the present billing period."""
    from adapters.subscriptions import list_usage
    from adapters.users import find_user
    from deploy.command.answer import plain, print_json, print_table

    with reaching_users(data, "subscriptions") as connection:
        found = list_usage(connection, find_user(connection, user))
    if not found:
        raise CommandFailure(f"{user} has no subscription, and so no limits")
    (usage,) = found
    if as_json:
        print_json(plain(usage))
        return
    told = ("plan", "status", "sessions", "recordings", "AI credits", "period ends", "limited")
    rows = [
        *zip(told, _terms(usage), strict=True),
        ("features", list(usage.features)),
        ("projects", list(usage.projects)),
    ]
    print_table(["", _name(usage)], rows)


def subscriptions_set(
    user: User,
    plan: Annotated[str | None, typer.Option(help="Its limits come with it.")] = None,
    status: Annotated[Status | None, typer.Option(help="To end one, `cancel` is meant.")] = None,
    trial_days: Annotated[int | None, typer.Option(min=1, max=3650, help="A trial that ends in so many days.")] = None,
    cycle: Annotated[Cycle | None, typer.Option(help="Length of the billing periods, from the next one on.")] = None,
    sessions: Limit = None,
    recordings: Limit = None,
    ai_credits: Limit = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Give a user a subscription, or change it; a new one, or one that had ended, begins its period now.

    What the user has used in the present period stays used.
    """
    from adapters.subscriptions import Terms, UnknownPlan, list_usage, set_subscription
    from adapters.users import find_user
    from deploy.command.answer import plain, print_json

    asked = {"sessions_limit": sessions, "recordings_limit": recordings, "ai_credits_limit": ai_credits}
    terms = Terms(
        plan=plan,
        status=status.value if status else None,
        trial_days=trial_days,
        billing_cycle=cycle.value if cycle else None,
        limits={name: parse_limit(text) for name, text in asked.items() if text is not None},
    )
    if terms == Terms():
        raise CommandFailure("nothing to set (example: --plan starter)", Exit.USAGE)
    with reaching_users(data, "subscriptions") as connection:
        found = find_user(connection, user)
        try:
            set_subscription(connection, found, terms)
        except UnknownPlan as error:
            raise CommandFailure(f"{error}: `traceflow plans list` shows them") from error
        (usage,) = list_usage(connection, found)
    if as_json:
        print_json(plain(usage))
    else:
        sessions = _share(usage.sessions_used, usage.sessions_limit)
        typer.echo(f"{_name(usage)}: {usage.plan}, {usage.status}, {sessions} sessions")


def subscriptions_cancel(
    user: User,
    at_once: Annotated[bool, typer.Option("--at-once", help="End it now, not with its period.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Let a user's subscription end with its billing period; then the plan `free` holds."""
    from adapters.subscriptions import NothingToCancel, cancel_subscription
    from adapters.users import find_user
    from deploy.command.answer import print_json, shown

    with reaching_users(data, "subscriptions") as connection:
        try:
            ends = cancel_subscription(connection, find_user(connection, user), at_once=at_once)
        except NothingToCancel as error:
            raise CommandFailure(f"{user}: {error}") from error
    if as_json:
        print_json({"user": user, "ends": ends})
    else:
        typer.echo(f"the subscription of {user} ends {shown(ends)}; then the plan `free` holds")


def parse_limit(text: str) -> int | None:
    """Read a limit: a number, or `unlimited`.

    Raises:
        CommandFailure: it is neither.
    """
    if text == "unlimited":
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= 2**31:
        raise CommandFailure(f"a limit is a number below {2**31}, or unlimited, not {text!r}", Exit.USAGE)
    return int(text)


def _name(usage: "Usage") -> str:
    return usage.email or usage.user_id


def _terms(usage: "Usage") -> list[object]:
    return [
        usage.plan,
        usage.status if usage.in_force else f"{usage.status}, ended",
        _share(usage.sessions_used, usage.sessions_limit),
        _share(usage.recordings_used, usage.recordings_limit),
        _share(usage.ai_credits_used, usage.ai_credits_limit),
        usage.period_end,
        ", ".join(usage.limited),
    ]


def _share(used: int, limit: int | None) -> str:
    return f"{used} of {'any' if limit is None else limit}"
