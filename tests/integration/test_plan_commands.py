"""Users, plans, subscriptions, owners and members by command; what each change leaves in the audit log, and only it."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from adapters.subscriptions import Held, Terms, agreed
from deploy.command.application import run
from tests.access_matrix import ROLES
from tests.integration.sink_bench import copied_database, execute, query

Run = Callable[..., Any]

ANN = "22222222-2222-4222-8222-111111111111"
NOW = datetime(2026, 5, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


TABLES = (
    "traceflow_subscriptions",
    "traceflow_user_features",
    "traceflow_projects",
    "auth.users",
    "traceflow_audit_logs",
)


@pytest.fixture
def database(module_database: str) -> str:
    for table in TABLES:
        with psycopg.connect(module_database) as connection:
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table.split("."))))
    return module_database


@pytest.fixture
def command(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with --json; give its answer, or exit code and line of an error."""
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", database)

    def call(*arguments: str) -> Any:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*arguments, "--json"])
        return json.loads(out.getvalue()) if code == 0 else (code, err.getvalue())

    return call


def audited(database: str) -> list[tuple[Any, ...]]:
    """Return and forget what the audit log has: table, action, who, and for a change what changed."""
    rows = query(
        database,
        "SELECT target_table, action, actor_id IS NULL AND actor_role = session_user,"
        " CASE action WHEN 'update' THEN details END"
        " FROM traceflow_audit_logs ORDER BY created_at, target_table, action",
    )
    execute(database, "DELETE FROM traceflow_audit_logs")
    return rows


def changed(table: str, **columns: tuple[object, object]) -> list[tuple[Any, ...]]:
    """Return the one row that a change of these columns leaves."""
    told = {column: {"old": old, "new": new} for column, (old, new) in columns.items()}
    return [(f"traceflow_{table}", "update", True, told)]


def added(table: str) -> list[tuple[Any, ...]]:
    return [(table, "insert", True, None)]


def removed(table: str) -> list[tuple[Any, ...]]:
    return [(table, "delete", True, None)]


def test_users_get_roles_and_features_and_go(command: Run, database: str) -> None:
    ann = command("users", "add", "ann@shop.example", "--id", ANN, "--role", "admin")
    assert (ann, audited(database)) == ({"user_id": ANN}, added("user_roles"))
    code, told = command("users", "add", "ann@shop.example")
    assert (code, "already exists" in told) == (1, True)
    assert command("users", "list") == [
        {"id": ANN, "email": "ann@shop.example", "roles": ["admin"], "owns": [], "plan": None}
    ]
    assert command("users", "role", "Ann@shop.example", "admin")["changed"] is False
    assert audited(database) == []
    assert command("users", "role", ANN, "admin", "--take")["changed"] is True
    assert audited(database) == removed("user_roles")

    for arguments, left in (
        (("on", "--limit", "3", "--days", "9"), added("traceflow_user_features")),
        (("on", "--limit", "5", "--days", "9"), None),
        (("plan",), removed("traceflow_user_features")),
    ):
        command("users", "feature", ANN, "heatmaps", *arguments)
        found = audited(database)
        if left is None:
            ((table, action, _, details),) = found
            assert (table, action) == ("traceflow_user_features", "update")
            assert (details.keys(), details["usage_limit"]) == ({"usage_limit", "expires_at"}, {"old": 3, "new": 5})
        else:
            assert found == left

    assert command("users", "remove", ANN)[0] == 1
    assert command("users", "remove", ANN, "--yes") == {"removed": ANN}
    code, told = command("users", "role", ANN, "admin")
    assert (code, "`traceflow users list` shows them" in told) == (1, True)


def test_where_users_are_kept_elsewhere_they_are_not_made_here(command: Run, database: str) -> None:
    command("users", "add", "ann@shop.example", "--id", ANN)
    execute(database, "ALTER TABLE auth.users ADD aud TEXT")
    try:
        for arguments in (["add", "bob@shop.example"], ["remove", ANN, "--yes"]):
            code, told = command("users", *arguments)
            assert (code, "on Supabase: under Authentication" in told) == (1, True)
        assert command("users", "role", ANN, "moderator")["changed"] is True
        assert command("users", "list")[0]["roles"] == ["moderator"]
    finally:
        execute(database, "ALTER TABLE auth.users DROP aud")


def test_a_plan_is_changed_for_those_to_come_or_for_all(command: Run, database: str) -> None:
    command("users", "add", "ann@shop.example")
    command("subscriptions", "set", "ann@shop.example", "--plan", "starter")
    audited(database)
    told = command("plans", "set", "starter", "sessions_limit=20000", "recordings_limit=")
    assert told["applied_to"] == 0
    assert audited(database) == changed("plans", sessions_limit=(10000, 20000), recordings_limit=(1000, None))
    assert command("subscriptions", "usage", "ann@shop.example")["sessions_limit"] == 10000
    assert command("plans", "set", "starter", "title=Starter", "--apply")["applied_to"] == 1
    assert audited(database) == changed("subscriptions", sessions_limit=(10000, 20000), recordings_limit=(1000, None))

    command("plans", "set", "team", "sessions_limit=5", "features=a,b", "available=false", "position=9")
    assert audited(database) == added("traceflow_plans")
    assert command("plans", "list")[-1] == {
        "plan": "team",
        "title": "Team",
        "sessions_limit": 5,
        "recordings_limit": None,
        "ai_credits_limit": None,
        "features": ["a", "b"],
        "position": 9,
        "available": False,
        "subscriptions": 0,
    }
    execute(database, "DELETE FROM traceflow_plans WHERE plan = 'team'")
    execute(
        database, "UPDATE traceflow_plans SET sessions_limit = 10000, recordings_limit = 1000 WHERE plan = 'starter'"
    )
    for wrong in ("sessions_limit=many", "sessions_limit=-1", "sessions=5", "available=yes"):
        assert command("plans", "set", "starter", wrong)[0] == 2


def test_a_subscription_is_made_changed_cancelled_and_taken_up_again(command: Run, database: str) -> None:
    command("users", "add", "ann@shop.example", "--id", ANN)
    code, told = command("subscriptions", "usage", ANN)
    assert (code, "no subscription, and so no limits" in told) == (1, True)
    made = command("subscriptions", "set", ANN, "--plan", "starter", "--cycle", "annual")
    assert (made["plan"], made["sessions_limit"], made["sessions_used"]) == ("starter", 10000, 0)
    begins, ends = (datetime.fromisoformat(made[name]) for name in ("period_start", "period_end"))
    assert ends.astimezone(UTC).replace(year=begins.year) - begins < timedelta(days=2)
    assert audited(database) == added("traceflow_subscriptions")

    execute(database, "UPDATE traceflow_subscriptions SET sessions_used = 7")
    command("subscriptions", "set", ANN, "--sessions", "unlimited", "--ai-credits", "9")
    assert audited(database) == changed("subscriptions", sessions_limit=(10000, None), ai_credits_limit=(500, 9))
    command("subscriptions", "set", ANN, "--status", "past_due")
    assert audited(database) == changed("subscriptions", status=("active", "past_due"))
    assert command("subscriptions", "list")[0]["sessions_used"] == 7

    kept = command("subscriptions", "cancel", ANN)
    assert datetime.fromisoformat(kept["ends"]) == ends
    assert audited(database) == changed("subscriptions", status=("past_due", "cancelled"))
    assert command("subscriptions", "usage", ANN)["in_force"] is True
    command("subscriptions", "cancel", ANN, "--at-once")
    ((_, _, _, details),) = audited(database)
    assert details.keys() == {"current_period_end"}
    ended = command("subscriptions", "usage", ANN)
    assert (ended["plan"], ended["in_force"], ended["sessions_limit"]) == ("free", False, 1000)
    assert command("subscriptions", "cancel", ANN) == (1, f"traceflow: {ANN}: the user has no subscription in force\n")

    again = command("subscriptions", "set", ANN, "--plan", "pro", "--trial-days", "14")
    assert (again["status"], again["plan"], again["sessions_used"], again["in_force"]) == ("trial", "pro", 0, True)
    assert query(database, "SELECT count(*) FROM traceflow_subscriptions") == [(1,)]
    assert command("subscriptions", "set", ANN, "--plan", "gold")[0] == 1
    assert command("subscriptions", "set", ANN)[0] == 2
    assert command("subscriptions", "set", ANN, "--sessions", "many")[0] == 2


def test_a_cancelled_trial_ends_with_the_trial(command: Run, database: str) -> None:
    command("users", "add", "ann@shop.example")
    command("subscriptions", "set", "ann@shop.example", "--plan", "pro", "--trial-days", "3")
    command("subscriptions", "cancel", "ann@shop.example")
    assert query(database, "SELECT current_period_end = trial_ends_at FROM traceflow_subscriptions") == [(True,)]


def test_a_period_that_has_gone_by_is_not_what_a_cancelled_subscription_ends_with(command: Run, database: str) -> None:
    command("users", "add", "ann@shop.example")
    command("subscriptions", "set", "ann@shop.example", "--plan", "pro")
    for column in ("current_period_start", "current_period_end"):
        execute(database, f"UPDATE traceflow_subscriptions SET {column} = {column} - interval '70 days'")  # noqa: S608
    ends = datetime.fromisoformat(command("subscriptions", "cancel", "ann@shop.example")["ends"])
    assert ends > datetime.now(UTC)
    assert command("subscriptions", "usage", "ann@shop.example")["in_force"] is True


def test_a_project_has_an_owner_who_pays_and_members_who_see_it(command: Run, database: str) -> None:
    command("users", "add", "ann@shop.example", "--id", ANN)
    project = command("projects", "create", "shop")["project_id"]
    assert [row[:2] for row in audited(database)] == [
        ("traceflow_project_keys", "insert"),
        ("traceflow_project_settings", "insert"),
        ("traceflow_projects", "insert"),
    ]
    command("projects", "set", project, "session_gap_ms=60000")
    assert audited(database) == added("traceflow_project_settings")
    command("projects", "rotate-key", project, "--keep-old")
    assert audited(database) == added("traceflow_project_keys")
    command("projects", "rotate-key", project)
    made, *ended = audited(database)
    assert (made[:2], {row[:2] for row in ended}, len(ended)) == (
        ("traceflow_project_keys", "insert"),
        {("traceflow_project_keys", "update")},
        2,
    )
    assert {tuple(details) for _, _, _, details in ended} == {("revoked_at",)}

    command("projects", "owner", project, "ann@shop.example")
    assert audited(database) == changed("projects", owner_id=(None, ANN))
    assert command("projects", "list")[0]["owner"] == "ann@shop.example"
    command("projects", "owner", project, ANN)
    assert audited(database) == []
    code, told = command("users", "remove", ANN, "--yes")
    assert (code, "the user owns shop" in told) == (1, True)

    command("projects", "member", project, ANN, "--role", "admin")
    assert audited(database) == added("traceflow_project_members")
    command("projects", "member", project, ANN, "--role", "viewer")
    assert audited(database) == changed("project_members", role=("admin", "viewer"))
    assert [(m["email"], m["role"]) for m in command("projects", "members", project)] == [
        ("ann@shop.example", "viewer")
    ]
    command("projects", "member", project, ANN, "--remove")
    assert audited(database) == removed("traceflow_project_members")
    assert command("projects", "member", project, ANN, "--remove")[0] == 1

    command("projects", "owner", project, "--nobody")
    assert audited(database) == changed("projects", owner_id=(ANN, None))
    assert command("projects", "owner", project)[0] == 2
    assert command("projects", "members", "3f0c")[0] == 1


def test_what_is_used_and_a_period_that_goes_on_is_no_change_of_terms(command: Run, database: str) -> None:
    command("users", "add", "ann@shop.example", "--id", ANN)
    command("subscriptions", "set", ANN, "--plan", "pro")
    command("users", "feature", ANN, "heatmaps", "on")
    execute(database, "UPDATE traceflow_subscriptions SET current_period_end = now() - interval '1 day'")
    audited(database)
    execute(database, "SELECT traceflow_use_plan(%s, 1, 1, 1), traceflow_use_feature(%s, 'heatmaps')", ANN, ANN)
    assert query(database, "SELECT current_period_end > now(), sessions_used FROM traceflow_subscriptions") == [
        (True, 1)
    ]
    assert audited(database) == []
    execute(database, "UPDATE traceflow_subscriptions SET current_period_end = current_period_end + interval '1 day'")
    assert len(audited(database)) == 1


@pytest.mark.parametrize("role", ROLES)
def test_nobody_but_the_owner_of_the_table_changes_what_was_audited(database: str, role: str) -> None:
    for change in ("UPDATE traceflow_audit_logs SET action = 'x'", "DELETE FROM traceflow_audit_logs"):
        with psycopg.connect(database) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(change.encode())


LIMITS = {"sessions_limit": 9, "recordings_limit": None, "ai_credits_limit": 5}
HELD = Held("x", in_force=True, sessions_limit=1000, recordings_limit=100, ai_credits_limit=50)
ON_PLAN = Held("x", in_force=True, sessions_limit=9, recordings_limit=None, ai_credits_limit=5)
CANCELLED = replace(HELD, status="cancelled")


@pytest.mark.parametrize(
    ("held", "terms", "expected"),
    [
        (HELD, Terms(limits={"sessions_limit": None}), replace(HELD, sessions_limit=None)),
        (HELD, Terms(plan="pro"), replace(ON_PLAN, plan="pro")),
        (
            Held(),
            Terms(plan="pro", trial_days=2, billing_cycle="annual", limits={"ai_credits_limit": 0}),
            Held(None, False, "pro", "trial", "annual", NOW + timedelta(days=2), 9, None, 0),
        ),
        (CANCELLED, Terms(billing_cycle="annual"), replace(CANCELLED, billing_cycle="annual")),
        (CANCELLED, Terms(plan="free"), ON_PLAN),
        (Held("x", status="trial"), Terms(limits={"ai_credits_limit": 7}), Held("x", ai_credits_limit=7)),
        (Held("x", status="trial"), Terms(status="past_due"), Held("x", status="past_due")),
    ],
)
def test_what_is_agreed(held: Held, terms: Terms, expected: Held) -> None:
    assert agreed(held, terms, LIMITS if terms.plan else {}, now=NOW) == expected
