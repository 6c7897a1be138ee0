"""Plans and subscriptions; each function is one transaction.

The rules of what a subscription allows are the database's (`traceflow_entitlements`, deploy/docs/plans.md); here its
terms are set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from adapters.postgres import Connection, read_queries

Status = Literal["active", "trial", "past_due", "cancelled"]
BillingCycle = Literal["monthly", "annual"]

LIMITS = ("sessions_limit", "recordings_limit", "ai_credits_limit")


class UnknownPlan(LookupError):
    """No plan has this name."""


class NothingToCancel(LookupError):
    """The user has no subscription in force."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be subscribed to. A limit is for a billing period; None: no limit."""

    plan: str
    title: str
    sessions_limit: int | None = None
    recordings_limit: int | None = None
    ai_credits_limit: int | None = None
    features: Sequence[str] = ()
    position: int = 0
    """Order in which plans are shown."""
    available: bool = True
    """Whether users may see it."""
    subscriptions: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user may and has used; limits and what is used are of the present billing period."""

    user_id: str
    email: str | None
    plan: str
    status: str
    in_force: bool
    """If not, the subscription has ended, and the plan `free` gives the limits."""
    period_start: datetime | None
    period_end: datetime | None
    sessions_limit: int | None
    sessions_used: int
    recordings_limit: int | None
    recordings_used: int
    ai_credits_limit: int | None
    ai_credits_used: int
    limited: Sequence[str]
    """What the gateway refuses now: events | recordings."""
    features: Sequence[str]
    projects: Sequence[str]


@dataclass(frozen=True, slots=True)
class Terms:
    """What changes about a subscription; None stays as it is."""

    plan: str | None = None
    """Its limits come with it."""
    status: Status | None = None
    trial_days: int | None = None
    """A trial that ends so many days from now."""
    billing_cycle: BillingCycle | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)
    """By the names of LIMITS; None is no limit."""


@dataclass(frozen=True, slots=True)
class Held:
    """The terms of a subscription; those of a new one before anything is agreed."""

    id: str | None = None
    in_force: bool = False
    plan: str = "free"
    status: str = "active"
    billing_cycle: str | None = "monthly"
    trial_ends_at: datetime | None = None
    sessions_limit: int | None = None
    recordings_limit: int | None = None
    ai_credits_limit: int | None = None


def list_plans(connection: Connection) -> list[Plan]:
    """Return every plan."""
    with connection.cursor(row_factory=class_row(Plan)) as cursor:
        return cursor.execute(_queries()["plans"]).fetchall()


def set_plan(connection: Connection, plan: str, changes: Mapping[str, Any], *, apply: bool = False) -> int:
    """Make a plan, or change it; return how many subscriptions took its limits, which is none unless asked to apply.

    Raises:
        TypeError: a field is unknown.
    """
    queries = _queries()
    with connection.transaction(), connection.cursor(row_factory=class_row(Plan)) as cursor:
        stored = cursor.execute(queries["plan"], {"plan": plan}).fetchone() or Plan(plan, title=plan.capitalize())
        changed = asdict(replace(stored, **changes))
        cursor.execute(queries["store_plan"], {**changed, "features": Jsonb(list(changed["features"]))})
        return cursor.execute(queries["apply_plan"], {"plan": plan}).rowcount if apply else 0


def list_usage(connection: Connection, user_id: str | None = None) -> list[Usage]:
    """Return what users who have a subscription may and have used, of one user or of all."""
    with connection.cursor(row_factory=class_row(Usage)) as cursor:
        return cursor.execute(_queries()["usage"], {"user_id": user_id}).fetchall()


def set_subscription(connection: Connection, user_id: str, terms: Terms) -> None:
    """Change the terms of the subscription that pays for a user, or make one.

    A new one, and one that had ended, begins its first period now, as active unless a status is named; else the period
    goes on.

    Raises:
        UnknownPlan: there is no such plan.
    """
    queries = _queries()
    with connection.transaction(), connection.cursor(row_factory=class_row(Held)) as cursor:
        held = cursor.execute(queries["paying"], {"user_id": user_id}).fetchone()
        plan = terms.plan if held else terms.plan or Held().plan
        limits = {} if plan is None else _limits(connection, plan)
        wanted = agreed(held or Held(), terms, limits, now=datetime.now(UTC))
        told = asdict(wanted) | {"user_id": user_id, "begins": not wanted.in_force}
        cursor.execute(queries["change" if held else "add"], told)


def agreed(held: Held, terms: Terms, limits: Mapping[str, int | None], *, now: datetime) -> Held:
    """Return the terms of a subscription after a change; `limits` are those of the plan, if it changes.

    What had ended, and what was cancelled and gets a plan, is active again unless a status or a trial is named.
    """
    changes: dict[str, Any] = dict(limits)
    if not held.in_force or (terms.plan is not None and held.status == "cancelled"):
        changes["status"] = "active"
    if terms.trial_days is not None:
        changes |= {"status": "trial", "trial_ends_at": now + timedelta(days=terms.trial_days)}
    named = {"plan": terms.plan, "status": terms.status, "billing_cycle": terms.billing_cycle}
    changes |= {name: value for name, value in named.items() if value is not None}
    return replace(held, **(changes | dict(terms.limits)))


def cancel_subscription(connection: Connection, user_id: str, *, at_once: bool) -> datetime:
    """Let a user's subscription end with its period, or at once; return when.

    Raises:
        NothingToCancel: there is none in force.
    """
    named = {"user_id": user_id, "at_once": at_once}
    row = connection.execute(_queries()["cancel"], named).fetchone()
    if row is None:
        raise NothingToCancel("the user has no subscription in force")
    ends: datetime = row[0]
    return ends


def _limits(connection: Connection, plan: str) -> dict[str, int | None]:
    row = connection.execute(_queries()["limits"], {"plan": plan}).fetchone()
    if row is None:
        raise UnknownPlan(f"there is no plan {plan}")
    return dict(zip(LIMITS, row, strict=True))


def _queries() -> dict[str, bytes]:
    return read_queries("adapters", "subscriptions.sql")
