"""Who may see and change what: each rule from both sides, as the API layer sets role and claims."""

# ruff: noqa: S608 (statements are put together from this file's own constants)

import io
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from deploy.command.export import export_recording
from deploy.command.query import run_query
from schemas.connections import DatabaseSettings
from schemas.migrations import load_migrations

Connection = psycopg.Connection[tuple[object, ...]]

SHOP = "11111111-1111-4111-8111-111111111111"
BANK = "11111111-1111-4111-8111-222222222222"
MEMBER = "22222222-2222-4222-8222-111111111111"
STRANGER = "22222222-2222-4222-8222-222222222222"
ADMIN = "22222222-2222-4222-8222-333333333333"

ROWS = f"""
INSERT INTO auth.users (id) VALUES ('{MEMBER}'), ('{STRANGER}'), ('{ADMIN}');
INSERT INTO traceflow_projects (id, name) VALUES ('{SHOP}', 'Shop'), ('{BANK}', 'Bank');
INSERT INTO traceflow_project_members (project_id, user_id) VALUES ('{SHOP}', '{MEMBER}'), ('{BANK}', '{STRANGER}');
INSERT INTO user_roles (user_id, role) VALUES ('{ADMIN}', 'admin');
INSERT INTO traceflow_project_keys (project_id, key_hash, key_prefix) VALUES ('{SHOP}', sha256('k'), 'tfk_k');
INSERT INTO traceflow_project_settings (project_id) VALUES ('{SHOP}');
INSERT INTO traceflow_sessions (session_id, project_id) VALUES ('shop-1', '{SHOP}'), ('bank-1', '{BANK}');
INSERT INTO traceflow_events (session_id, event_type) VALUES ('shop-1', 'click'), ('bank-1', 'click');
INSERT INTO session_recordings (session_id, project_id) VALUES ('shop-1', '{SHOP}');
INSERT INTO session_recording_chunks (session_id, seq, chunk_day, codec, events, raw_size_bytes)
  SELECT 'shop-1', 0, (now() AT TIME ZONE 'UTC')::date, 'json', '[{{"type": 4}}]', 13;
INSERT INTO traceflow_ux_issues (project_id, session_id, issue_type, element_selector)
  VALUES ('{SHOP}', 'shop-1', 'dead_click', '#buy'), ('{BANK}', 'bank-1', 'error', '#pay');
INSERT INTO traceflow_ux_issue_findings (finding_id, issue_id, project_id, session_id, detected_at)
  SELECT gen_random_uuid(), id, project_id, session_id, now() FROM traceflow_ux_issues;
INSERT INTO traceflow_ux_issue_sessions (issue_id, session_id) SELECT id, session_id FROM traceflow_ux_issues;
INSERT INTO traceflow_ux_issue_visitors (issue_id, visitor_id) SELECT id, 'v' FROM traceflow_ux_issues;
INSERT INTO traceflow_ai_queue (project_id, session_id, task_type)
  VALUES ('{SHOP}', 'shop-1', 'root_cause'), ('{BANK}', 'bank-1', 'root_cause');
INSERT INTO traceflow_subscriptions (user_id) VALUES ('{MEMBER}'), ('{STRANGER}');
INSERT INTO traceflow_user_features (user_id, feature_id) VALUES ('{MEMBER}', 'heatmaps'), ('{STRANGER}', 'heatmaps');
INSERT INTO neurorouter_logs (task_type, model_selected, provider) VALUES ('root_cause', 'rules', 'offline');
INSERT INTO neurorouter_routes (task_type, model, provider) VALUES ('root_cause', 'rules', 'offline');
"""

TABLES = (
    "traceflow_projects",
    "traceflow_project_members",
    "traceflow_project_settings",
    "traceflow_sessions",
    "traceflow_events",
    "session_recordings",
    "session_recording_chunks",
    "session_recordings_full",
    "traceflow_ux_issues",
    "traceflow_ux_issue_findings",
    "traceflow_ux_issue_sessions",
    "traceflow_ux_issue_visitors",
    "traceflow_ai_queue",
    "traceflow_subscriptions",
    "traceflow_user_features",
    "traceflow_plans",
    "user_roles",
    "neurorouter_logs",
    "neurorouter_routes",
    "traceflow_audit_logs",
    "traceflow_session_overview",
    "traceflow_session_timeline",
    "traceflow_painful_elements",
    "traceflow_sink_offsets",
    "traceflow_dead_letter_marks",
    "traceflow_schema_migrations",
)


@dataclass(frozen=True, slots=True)
class Database:
    """A transaction over the rows above, in which one acts as different people."""

    connection: Connection

    def act(self, role: str, user: str | None = None) -> None:
        self.connection.execute("RESET ROLE")
        claims = orjson.dumps({"role": role, **({"sub": user} if user else {})}).decode()
        self.connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
        self.connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))

    def do(self, statement: str) -> int:
        """Run a statement and return how many rows it touched; what is refused undoes itself."""
        with self.connection.transaction():
            return self.connection.execute(statement.encode()).rowcount

    def visible(self) -> dict[str, int]:
        """Count the rows of every table that the present role may read."""
        counts = {}
        for name in TABLES:
            try:
                counts[name] = self.do(f"SELECT FROM {name}")
            except errors.InsufficientPrivilege:
                continue
        return counts


@pytest.fixture
def rows(postgres_server: str, database_template: str) -> Iterator[Database]:
    with psycopg.connect(make_conninfo(postgres_server, dbname=database_template)) as connection:
        connection.execute(ROWS.encode())
        yield Database(connection)
        connection.rollback()


def test_a_member_sees_the_own_project_and_nothing_else(rows: Database) -> None:
    rows.act("authenticated", MEMBER)
    assert rows.visible() == {
        "traceflow_projects": 1,
        "traceflow_project_members": 1,
        "traceflow_project_settings": 1,
        "traceflow_sessions": 1,
        "traceflow_events": 1,
        "session_recordings": 0,
        "session_recording_chunks": 0,
        "session_recordings_full": 0,
        "traceflow_ux_issues": 1,
        "traceflow_ux_issue_findings": 1,
        "traceflow_ux_issue_sessions": 1,
        "traceflow_ux_issue_visitors": 1,
        "traceflow_ai_queue": 1,
        "traceflow_subscriptions": 1,
        "traceflow_user_features": 1,
        "traceflow_plans": 4,
        "user_roles": 0,
        "neurorouter_logs": 0,
        "neurorouter_routes": 0,
        "traceflow_audit_logs": 0,
        "traceflow_session_overview": 1,
        "traceflow_session_timeline": 1,
        "traceflow_painful_elements": 1,
    }
    assert rows.connection.execute("SELECT session_id FROM traceflow_events").fetchall() == [("shop-1",)]


def test_an_admin_sees_all_recordings_and_logs_but_no_foreign_sessions(rows: Database) -> None:
    rows.act("authenticated", ADMIN)
    seen = rows.visible()
    assert {name for name, count in seen.items() if count} == {
        "session_recordings",
        "session_recording_chunks",
        "session_recordings_full",
        "user_roles",
        "neurorouter_logs",
        "neurorouter_routes",
        "traceflow_audit_logs",
        "traceflow_plans",
    }
    (events,) = rows.connection.execute("SELECT events FROM session_recordings_full").fetchall()
    assert events == ([{"type": 4}],)


def test_someone_without_a_login_sees_the_plans_only(rows: Database) -> None:
    rows.act("anon")
    assert rows.visible() == {"traceflow_plans": 4}


def test_someone_without_a_claim_sees_no_rows(rows: Database) -> None:
    rows.act("authenticated")
    assert {name: count for name, count in rows.visible().items() if count} == {"traceflow_plans": 4}


def test_an_analyst_sees_sessions_events_and_issues_of_all_projects_and_no_recordings(rows: Database) -> None:
    rows.act("traceflow_analyst")
    assert rows.visible() == {
        "traceflow_schema_migrations": len(load_migrations()),
        "traceflow_projects": 2,
        "traceflow_sessions": 2,
        "traceflow_events": 2,
        "traceflow_ux_issues": 2,
        "traceflow_ux_issue_findings": 2,
        "traceflow_ux_issue_sessions": 2,
        "traceflow_ux_issue_visitors": 2,
        "traceflow_ai_queue": 2,
        "traceflow_session_overview": 2,
        "traceflow_session_timeline": 2,
        "traceflow_painful_elements": 2,
    }


@pytest.mark.parametrize("role", ["traceflow_analyst", "traceflow_gateway", "anon"])
def test_a_reader_changes_nothing(rows: Database, role: str) -> None:
    rows.act(role)
    for name in TABLES:
        with pytest.raises((errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState)):
            rows.do(f"DELETE FROM {name}")


def test_the_gateway_reads_what_it_answers_from_and_nothing_else(rows: Database) -> None:
    rows.act("traceflow_gateway")
    assert rows.visible() == {
        "traceflow_projects": 2,
        "traceflow_project_settings": 1,
        "traceflow_subscriptions": 2,
        "traceflow_plans": 4,
    }
    assert rows.connection.execute("SELECT key_hash FROM traceflow_project_keys").rowcount == 1


def test_a_member_sees_which_keys_there_are_but_not_their_hashes(rows: Database) -> None:
    rows.act("authenticated", MEMBER)
    assert rows.do("SELECT id, key_prefix, revoked_at FROM traceflow_project_keys") == 1
    with pytest.raises(errors.InsufficientPrivilege):
        rows.do("SELECT key_hash FROM traceflow_project_keys")
    rows.act("authenticated", STRANGER)
    assert rows.do("SELECT id FROM traceflow_project_keys") == 0


def test_a_member_manages_the_issues_of_the_own_project_and_no_others(rows: Database) -> None:
    rows.act("authenticated", MEMBER)
    assert rows.do("UPDATE traceflow_ux_issues SET status = 'ignored'") == 1
    with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
        rows.do(f"UPDATE traceflow_ux_issues SET project_id = '{BANK}'")
    with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
        rows.do(f"INSERT INTO traceflow_ux_issues (project_id, issue_type) VALUES ('{BANK}', 'error')")
    assert rows.do(f"INSERT INTO traceflow_ux_issues (project_id, issue_type) VALUES ('{SHOP}', 'error')") == 1
    assert rows.do("DELETE FROM traceflow_ux_issues") == 2
    rows.connection.execute("RESET ROLE")
    assert rows.connection.execute("SELECT status FROM traceflow_ux_issues").fetchall() == [("open",)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO traceflow_events (session_id, event_type) VALUES ('shop-1', 'click')",
        "UPDATE traceflow_sessions SET frustration_score = 0",
        f"INSERT INTO traceflow_project_members VALUES ('{BANK}', '{MEMBER}')",
        f"INSERT INTO user_roles VALUES ('{MEMBER}', 'admin')",
        "UPDATE traceflow_subscriptions SET plan = 'enterprise'",
        "DELETE FROM traceflow_audit_logs",
        "INSERT INTO session_recordings (session_id) VALUES ('shop-2')",
    ],
)
def test_a_member_cannot_give_themselves_more(rows: Database, statement: str) -> None:
    rows.act("authenticated", MEMBER)
    with pytest.raises(errors.InsufficientPrivilege):
        rows.do(statement)


@pytest.mark.parametrize("role", ["authenticated", "anon", "traceflow_analyst", "traceflow_gateway"])
def test_partitions_cannot_be_read_past_their_parents_policies(rows: Database, role: str) -> None:
    leaf = rows.connection.execute("SELECT tableoid::regclass::text FROM traceflow_events LIMIT 1").fetchone()
    assert leaf is not None
    assert str(leaf[0]).startswith("traceflow_parts.traceflow_events_")
    rows.act(role, MEMBER)
    with pytest.raises(errors.InsufficientPrivilege, match="schema traceflow_parts"):
        rows.do(f"SELECT FROM {leaf[0]}")
    with pytest.raises(errors.InsufficientPrivilege, match="schema traceflow_parts"):
        rows.do("SELECT traceflow_parts.ensure_day('traceflow_events', '2020-01-01')")


def test_every_table_and_every_partition_has_row_level_security(rows: Database) -> None:
    without = rows.connection.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relrowsecurity"
        " AND relnamespace IN ('public'::regnamespace, 'traceflow_parts'::regnamespace)"
    ).fetchall()
    assert without == []


def test_the_sinks_role_writes_what_the_sinks_write(rows: Database) -> None:
    rows.act("traceflow_sink")
    rows.do("SET LOCAL traceflow.sink = 'on'")
    assert rows.do("INSERT INTO traceflow_sessions (session_id) VALUES ('shop-2')") == 1
    with rows.connection.cursor().copy("COPY traceflow_events (session_id, event_type) FROM STDIN") as copy:
        copy.write_row(("shop-2", "click"))
    assert rows.do("CREATE TEMPORARY TABLE staged (LIKE traceflow_events) ON COMMIT DROP") == -1
    assert rows.do("UPDATE traceflow_subscriptions SET sessions_used = sessions_used + 1") == 2
    rows.do("SELECT traceflow_parts.ensure_day('traceflow_events', '2020-01-01')")
    for statement in (
        "UPDATE traceflow_subscriptions SET plan = 'enterprise'",
        "SELECT key_hash FROM traceflow_project_keys",
        "DELETE FROM traceflow_events",
        "TRUNCATE traceflow_sessions",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            rows.do(statement)


def test_the_policies_look_memberships_up_once_a_statement(rows: Database) -> None:
    rows.act("authenticated", MEMBER)
    plan = "\n".join(str(row[0]) for row in rows.connection.execute("EXPLAIN SELECT * FROM traceflow_events"))
    assert "InitPlan" in plan
    assert "SubPlan" not in plan.replace("InitPlan", "")


def test_is_traceflow_admin_knows_admins_and_owners_of_subscriptions(rows: Database) -> None:
    rows.do(f"UPDATE traceflow_subscriptions SET role = 'owner' WHERE user_id = '{STRANGER}'")
    answers = {
        user: rows.connection.execute("SELECT is_traceflow_admin(%s)", (user,)).fetchone()
        for user in (ADMIN, STRANGER, MEMBER)
    }
    assert answers == {ADMIN: (True,), STRANGER: (True,), MEMBER: (False,)}
    rows.act("anon")
    with pytest.raises(errors.InsufficientPrivilege):
        rows.do(f"SELECT is_traceflow_admin('{ADMIN}')")


# Logins of analysts


@pytest.fixture
def alice(database: str) -> Iterator[tuple[str, str]]:
    """Give the superuser's URL of a database, and that of a login that may nothing by itself."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(ROWS.encode())
        name, password = f"alice_{secrets.token_hex(4)}", secrets.token_hex(8)
        role = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
        yield database, make_conninfo(database, user=name, password=password)
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def make_analyst(database: str, login: str, *, recordings: bool) -> None:
    name = psycopg.conninfo.conninfo_to_dict(login)["user"]
    with psycopg.connect(database) as connection:
        connection.execute("SELECT make_traceflow_analyst(%s, recordings => %s)", (name, recordings))


def test_a_login_that_is_made_an_analyst_reads_for_a_minute_and_writes_nothing(alice: tuple[str, str]) -> None:
    database, login = alice
    make_analyst(database, login, recordings=False)
    with psycopg.connect(login, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM traceflow_events").fetchone() == (2,)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("1min",)
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("5min",)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMPORARY TABLE mine (n INTEGER)")
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("DELETE FROM traceflow_events")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT FROM session_recordings")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT make_traceflow_analyst(current_user, true)")


def test_an_analyst_who_may_sees_recordings_as_well(alice: tuple[str, str]) -> None:
    database, login = alice
    make_analyst(database, login, recordings=True)
    with psycopg.connect(login, autocommit=True) as connection:
        assert connection.execute("SELECT events FROM session_recordings_full").fetchall() == [([{"type": 4}],)]
        assert connection.execute("SELECT count(*) FROM traceflow_sessions").fetchone() == (2,)


def test_the_commands_that_only_ask_work_with_an_analysts_login(alice: tuple[str, str]) -> None:
    database, login = alice
    make_analyst(database, login, recordings=True)
    settings, exported = DatabaseSettings(url=SecretStr(login)), io.BytesIO()
    assert run_query(settings, "SELECT count(*) FROM traceflow_sessions", timeout_s=9) == (["count"], [(2,)])
    export_recording(settings, "shop-1", exported)
    assert orjson.loads(exported.getvalue()) == [{"type": 4}]
