"""What a user may: each rule of deploy/docs/plans.md. Each test works in a transaction that is rolled back."""

import calendar
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.finding_docs import DOCS

Connection = psycopg.Connection[tuple[Any, ...]]

USER = "22222222-2222-4222-8222-222222222222"
OTHER = "22222222-2222-4222-8222-333333333333"

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
MADE = datetime(2026, 1, 5, tzinfo=UTC)
FIRST, LAST = datetime(2026, 5, 10, tzinfo=UTC), datetime(2026, 6, 10, tzinfo=UTC)
"""The period that holds NOW."""
HOUR = timedelta(hours=1)


@pytest.fixture
def connection(postgres_server: str, database_template: str) -> Iterator[Connection]:
    """Give a transaction in the migrated database, with two users; the server's time zone must not matter."""
    with psycopg.connect(make_conninfo(postgres_server, dbname=database_template)) as opened:
        opened.execute("SET LOCAL timezone = 'America/New_York'")
        opened.execute("INSERT INTO auth.users (id) VALUES (%s), (%s)", (USER, OTHER))
        opened.execute("UPDATE traceflow_plans SET sessions_limit = 7, recordings_limit = 6 WHERE plan = 'free'")
        yield opened
        opened.rollback()


def subscribe(connection: Connection, **values: object) -> str:
    """Make a subscription of the plan pro; return its id."""
    row = {"user_id": USER, "plan": "pro", "sessions_limit": 70, "recordings_limit": 60, "created_at": MADE, **values}
    insert = sql.SQL("INSERT INTO traceflow_subscriptions ({}) VALUES ({}) RETURNING id::text").format(
        sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
    )
    return str(connection.execute(insert, row).fetchall()[0][0])


def entitlements(connection: Connection, moment: datetime = NOW, user: str | None = USER) -> dict[str, Any] | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM traceflow_entitlements(%s, %s)", (user, moment)).fetchone()


class Allowed(NamedTuple):
    in_force: bool
    plan: str
    sessions: int | None
    period: tuple[datetime | None, datetime | None]


OWN = Allowed(True, "pro", 70, (FIRST, LAST))


def free(start: datetime, end: datetime) -> Allowed:
    return Allowed(False, "free", 7, (start, end))


def day(month: int, number: int) -> datetime:
    return datetime(2026, month, number, tzinfo=UTC)


PERIOD = {"current_period_start": FIRST, "current_period_end": LAST}
LAPSED = {"current_period_start": day(3, 10), "current_period_end": day(4, 10)}

RULES: dict[str, list[tuple[Mapping[str, object], Allowed]]] = {
    "`active`": [({"status": "active", **PERIOD}, OWN), ({"status": "active", **LAPSED}, OWN)],
    "`trial` without `trial_ends_at`": [({"status": "trial", **LAPSED}, OWN)],
    "`trial` before `trial_ends_at`": [({"status": "trial", "trial_ends_at": NOW + HOUR, **PERIOD}, OWN)],
    "`trial` from `trial_ends_at` on": [
        ({"status": "trial", "trial_ends_at": NOW, **PERIOD}, free(NOW, NOW.replace(month=6))),
        ({"status": "trial", "trial_ends_at": day(2, 15), **PERIOD}, free(day(5, 15), day(6, 15))),
    ],
    "`past_due`": [({"status": "past_due", **LAPSED}, OWN)],
    "`cancelled` before `current_period_end`": [({"status": "cancelled", **PERIOD}, OWN)],
    "`cancelled` from `current_period_end` on": [
        ({"status": "cancelled", "current_period_end": NOW}, free(NOW, NOW.replace(month=6))),
        ({"status": "cancelled", "billing_cycle": "annual", **LAPSED}, free(day(5, 10), day(6, 10))),
    ],
    "`cancelled` without a period": [({"status": "cancelled"}, free(day(5, 5), day(6, 5)))],
    "of any other status": [({"status": "unpaid", **PERIOD}, free(day(5, 5), day(6, 5)))],
}


@pytest.mark.parametrize("rule", RULES)
def test_what_a_subscription_allows(connection: Connection, rule: str) -> None:
    for values, expected in RULES[rule]:
        connection.execute("DELETE FROM traceflow_subscriptions")
        subscribe(connection, **values)
        found = entitlements(connection)
        assert found is not None
        period = (found["period_start"], found["period_end"])
        assert Allowed(found["in_force"], found["plan"], found["sessions_limit"], period) == expected


def test_every_rule_of_the_page_is_tried() -> None:
    page = (DOCS / "plans.md").read_text()
    table = page.partition("| the newest subscription |")[2].partition("\n\n")[0]
    rules = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
    assert rules == ["none, or the project has no owner", *RULES]


@pytest.mark.parametrize("user", [USER, None])
def test_without_a_subscription_or_an_owner_nothing_is_limited(connection: Connection, user: str | None) -> None:
    subscribe(connection, user_id=OTHER, sessions_limit=0)
    assert entitlements(connection, user=user) is None


def test_the_newest_subscription_in_force_pays(connection: Connection) -> None:
    old = subscribe(connection)
    newer = subscribe(connection, created_at=day(2, 1))
    subscribe(connection, created_at=day(3, 1), status="cancelled", current_period_end=day(4, 1))
    assert (entitlements(connection) or {})["subscription_id"].hex == newer.replace("-", "")
    connection.execute("UPDATE traceflow_subscriptions SET status = 'cancelled' WHERE id <> %s", (old,))
    assert (entitlements(connection) or {})["subscription_id"].hex == old.replace("-", "")


def test_without_a_plan_free_an_ended_subscription_may_nothing(connection: Connection) -> None:
    subscribe(connection, status="cancelled")
    connection.execute("DELETE FROM traceflow_plans WHERE plan = 'free'")
    found = entitlements(connection) or {}
    limits = [found[f"{what}_limit"] for what in ("sessions", "recordings", "ai_credits")]
    assert (limits, found["features"]) == ([0, 0, 0], [])


def test_no_limit_is_none(connection: Connection) -> None:
    subscribe(connection, sessions_limit=None)
    assert (entitlements(connection) or {})["sessions_limit"] is None


# The billing period


def period(connection: Connection, start: datetime | None, end: datetime | None, at: datetime, cycle: str) -> Any:
    return connection.execute(
        "SELECT * FROM traceflow_billing_period(%s, %s, %s, %s)", (start, end, cycle, at)
    ).fetchone()


def shifted(day_of_first: datetime, months: int) -> datetime:
    """Say the rule in Python: the same day some months later, or the month's last."""
    year, month = divmod(day_of_first.year * 12 + day_of_first.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return day_of_first.replace(year=year, month=month + 1, day=min(day_of_first.day, last))


@pytest.mark.parametrize("number", [1, 15, 28, 29, 30, 31])
def test_periods_go_on_by_calendar_months_one_by_one_or_many_at_once(connection: Connection, number: int) -> None:
    first = datetime(2027, 1, number, 13, 30, tzinfo=UTC)  # over the leap day of 2028
    here = first, shifted(first, 1)
    for month in range(1, 16):
        expected = shifted(first, month), shifted(first, month + 1)
        for moment in (expected[0], expected[1] - timedelta(microseconds=1)):
            assert period(connection, first, shifted(first, 1), moment, "monthly") == expected
            assert period(connection, *here, moment, "monthly") == expected
        here = expected


def test_a_year_is_a_year_and_an_unknown_cycle_a_month(connection: Connection) -> None:
    start, end = datetime(2024, 2, 29, tzinfo=UTC), datetime(2025, 2, 28, tzinfo=UTC)
    found = period(connection, start, end, datetime(2028, 2, 29, tzinfo=UTC), "annual")
    assert found == (datetime(2028, 2, 29, tzinfo=UTC), datetime(2029, 2, 28, tzinfo=UTC))
    assert period(connection, None, LAST, LAST, "weekly") == (LAST, day(7, 10))


def test_a_period_by_hand_goes_on_from_its_end(connection: Connection) -> None:
    assert period(connection, day(1, 31), day(2, 15), day(2, 20), "monthly") == (day(2, 15), day(3, 15))
    assert period(connection, day(9, 1), day(2, 15), day(2, 20), "monthly") == (day(2, 15), day(3, 15))


def test_without_an_end_a_period_lasts(connection: Connection) -> None:
    assert period(connection, MADE, None, NOW, "monthly") == (MADE, None)
    connection.execute("SET LOCAL timezone = 'UTC'")
    found = connection.execute("SELECT (traceflow_billing_period(NULL, '-infinity', 'monthly', now())).ends::text")
    assert found.fetchone() == ("-infinity",)


# What is used


def use(connection: Connection, sessions: int = 0, recordings: int = 0, user: str = USER) -> None:
    connection.execute("SELECT traceflow_use_plan(%s, %s, %s, 0)", (user, sessions, recordings))


def used(connection: Connection) -> Any:
    """Return what the entitlements say now: sessions, recordings, AI credits."""
    asked = "SELECT sessions_used, recordings_used, ai_credits_used FROM traceflow_entitlements(%s)"
    return connection.execute(asked, (USER,)).fetchone()


def today(days: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def test_counters_start_anew_with_the_period_which_the_first_use_moves_on(connection: Connection) -> None:
    start, end = today(-40), today(-10)
    subscribe(connection, current_period_start=start, current_period_end=end, sessions_used=69, ai_credits_used=3)
    assert used(connection) == (0, 0, 0)
    use(connection, sessions=2, recordings=1)
    use(connection, sessions=1)
    assert used(connection) == (3, 1, 0)
    stored = connection.execute(
        "SELECT current_period_start, usage_since, sessions_used, recordings_used, ai_credits_used"
        " FROM traceflow_subscriptions"
    ).fetchone()
    assert stored == (end, end, 3, 1, 0)


def test_a_payment_provider_that_moves_the_period_before_any_use_starts_the_counters_anew(
    connection: Connection,
) -> None:
    subscribe(connection, current_period_start=today(-30), current_period_end=today(1), sessions_used=50)
    assert used(connection) == (50, 0, 0)
    connection.execute(
        "UPDATE traceflow_subscriptions SET current_period_start = %s, current_period_end = %s", (today(-1), today(29))
    )
    assert used(connection) == (0, 0, 0)
    use(connection, sessions=1)
    assert used(connection) == (1, 0, 0)


def test_an_ended_subscription_counts_on_the_months_of_the_free_plan_and_keeps_its_dates(
    connection: Connection,
) -> None:
    start, end = today(-60), today(-3)
    subscribe(connection, status="cancelled", current_period_start=start, current_period_end=end, sessions_used=60)
    assert used(connection) == (0, 0, 0)
    use(connection, sessions=6)
    found = connection.execute("SELECT plan, in_force, sessions_limit FROM traceflow_entitlements(%s)", (USER,))
    assert (used(connection), found.fetchone()) == ((6, 0, 0), ("free", False, 7))
    dates = connection.execute(
        "SELECT current_period_start, current_period_end FROM traceflow_subscriptions"
    ).fetchone()
    assert dates == (start, end)


def test_a_transaction_that_began_in_the_period_before_does_not_count_in_this_one(connection: Connection) -> None:
    subscribe(connection, current_period_start=today(1), current_period_end=today(31))
    use(connection, sessions=5)
    assert connection.execute("SELECT sessions_used FROM traceflow_subscriptions").fetchone() == (0,)


def test_usage_without_a_period_counts_for_ever(connection: Connection) -> None:
    subscribe(connection, sessions_used=4)
    use(connection, sessions=2)
    assert used(connection) == (6, 0, 0)


# AI credits and features


def test_credits_are_spent_all_or_none(connection: Connection) -> None:
    subscribe(connection, ai_credits_limit=5)
    spent = [connection.execute("SELECT traceflow_use_ai_credits(%s, %s)", (USER, n)).fetchone() for n in (3, 3, 2, 1)]
    assert (spent, used(connection)) == ([(True,), (False,), (True,), (False,)], (0, 0, 5))


def test_credits_of_whom_nobody_limits_are_given(connection: Connection) -> None:
    assert connection.execute(
        "SELECT traceflow_use_ai_credits(NULL), traceflow_use_ai_credits(%s)", (USER,)
    ).fetchone() == (
        True,
        True,
    )


@pytest.mark.parametrize("credits", [0, -1, None])
def test_less_than_one_credit_is_a_mistake(connection: Connection, credits: int | None) -> None:
    with pytest.raises(errors.InvalidParameterValue):
        connection.execute("SELECT traceflow_use_ai_credits(%s, %s)", (USER, credits))


FEATURES: dict[tuple[str, str], Mapping[str, object] | None] = {
    ("none", "yes"): None,
    ("none", "no"): None,
    ("none", "nobody limits the user"): None,
    ("enabled", "no"): {},
    ("enabled, expired", "no"): {"expires_at": today(-1)},
    ("enabled, used up", "yes"): {"usage_limit": 3, "current_usage": 3},
    ("disabled", "yes"): {"enabled": False},
    ("disabled, expired", "yes"): {"enabled": False, "expires_at": today(-1)},
}


def feature_rows() -> list[tuple[str, str, bool]]:
    """Return the rules of the page."""
    table = (DOCS / "plans.md").read_text().partition("| own row |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (true|false) \|$", table, re.MULTILINE)
    return [(own, plan, answer == "true") for own, plan, answer in rows]


def test_every_rule_of_features_is_tried() -> None:
    assert [(own, plan) for own, plan, _ in feature_rows()] == list(FEATURES)


@pytest.mark.parametrize(("own", "plan", "expected"), feature_rows())
def test_whether_a_user_has_a_feature(connection: Connection, own: str, plan: str, expected: bool) -> None:
    if plan != "nobody limits the user":
        subscribe(connection, plan="pro" if plan == "yes" else "free")
    if (values := FEATURES[own, plan]) is not None:
        give(connection, **values)
    asked = "SELECT traceflow_has_feature(%s, 'heatmaps'), traceflow_use_feature(%s, 'heatmaps')"
    assert connection.execute(asked, (USER, USER)).fetchone() == (expected, expected)


def give(connection: Connection, **values: object) -> None:
    """Give the user a row for heatmaps."""
    row = {"enabled": True, "usage_limit": None, "current_usage": 0, "expires_at": None, **values}
    connection.execute(
        "INSERT INTO traceflow_user_features (user_id, feature_id, enabled, usage_limit, current_usage, expires_at)"
        " VALUES (%(user)s, 'heatmaps', %(enabled)s, %(usage_limit)s, %(current_usage)s, %(expires_at)s)",
        {"user": USER, **row},
    )


def test_a_feature_is_used_up_exactly(connection: Connection) -> None:
    give(connection, usage_limit=4)
    asked = "SELECT traceflow_use_feature(%s, 'heatmaps', %s)"
    answers = [connection.execute(asked, (USER, times)).fetchone() for times in (3, 2, 1, 1)]
    assert answers == [(True,), (False,), (True,), (False,)]
    assert connection.execute("SELECT current_usage FROM traceflow_user_features").fetchone() == (4,)


# Who may ask and use


def act(connection: Connection, role: str, user: str | None = None) -> None:
    claims = orjson.dumps({"sub": user} if user else {}).decode()
    connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))


def test_users_ask_about_themselves_alone(connection: Connection) -> None:
    subscribe(connection)
    give(connection)
    asked = "SELECT (SELECT sessions_limit FROM traceflow_my_entitlements()), traceflow_my_feature('heatmaps')"
    for user, expected in ((USER, (70, True)), (OTHER, (None, True)), (None, (None, False))):
        act(connection, "authenticated", user)
        assert connection.execute(asked).fetchone() == expected


ASKED = [
    f"SELECT * FROM traceflow_entitlements('{OTHER}')",  # noqa: S608 - a constant of this file
    f"SELECT traceflow_has_feature('{OTHER}', 'heatmaps')",
    f"SELECT traceflow_use_feature('{OTHER}', 'heatmaps')",
    f"SELECT traceflow_use_ai_credits('{OTHER}')",
    f"SELECT traceflow_use_plan('{OTHER}', 1, 1, 1)",
    "SELECT traceflow_count_usage('{}', '{}', '{}')",
]
MAY = {
    "authenticated": [],
    "anon": [],
    "traceflow_analyst": [],
    "traceflow_gateway": [0],
    "traceflow_sink": [5],
    "service_role": [0, 1, 2, 3],
}


@pytest.mark.parametrize("role", MAY)
def test_who_may_ask_about_others_and_use_what_is_theirs(connection: Connection, role: str) -> None:
    act(connection, role, USER)
    allowed = []
    for number, statement in enumerate(ASKED):
        try:
            with connection.transaction():
                connection.execute(statement.encode())
            allowed.append(number)
        except errors.InsufficientPrivilege:
            continue
    assert allowed == MAY[role]


def test_a_plan_that_is_not_offered_counts_for_a_gateway_as_well(connection: Connection) -> None:
    subscribe(connection, status="cancelled")
    connection.execute("UPDATE traceflow_plans SET available = false, features = %s", (Jsonb(["x"]),))
    act(connection, "traceflow_gateway")
    found = entitlements(connection) or {}
    assert (found["sessions_limit"], found["features"]) == (7, ["x"])
