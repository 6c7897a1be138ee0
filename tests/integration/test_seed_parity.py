"""The migrated database against its contract, `tests/data/database-schema.md`.

The contract's SQL blocks are executed as they stand in a scratch database, so that PostgreSQL itself reads them; then
both catalogs are compared, row by row of `tests/data/catalog.sql`. Its tables "Schema Overview", "Database Triggers"
and "RLS Policies Summary" are read as tables. What differs must be listed, with its reason, in
`schemas/migrations/deviations.toml`, and what is listed must differ.
"""

import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "tests/data/database-schema.md").read_text()
CATALOG = (ROOT / "tests/data/catalog.sql").read_bytes()
DEVIATIONS = ROOT / "schemas/migrations/deviations.toml"

ABSENT = "absent"

# What the contract's SQL refers to without making it.
SURROUNDINGS = """
CREATE SCHEMA auth;
CREATE TABLE auth.users (id UUID PRIMARY KEY);
CREATE FUNCTION auth.uid() RETURNS UUID LANGUAGE sql STABLE RETURN NULL::uuid;
CREATE TABLE public.traceflow_projects (id UUID PRIMARY KEY);
CREATE TABLE public.traceflow_project_members (project_id UUID, user_id UUID);
CREATE TABLE public.user_roles (user_id UUID, role TEXT);
CREATE PUBLICATION supabase_realtime;
"""
SURROUNDING_TABLES = {"traceflow_projects", "traceflow_project_members", "user_roles"}

OVERVIEW = {
    "Core": [
        "traceflow_sessions",
        "traceflow_events",
        "session_recordings",
        "traceflow_projects",
        "traceflow_project_members",
    ],
    "Intelligence": ["traceflow_ux_issues", "traceflow_ai_queue", "neurorouter_logs", "neurorouter_routes"],
    "Subscriptions": ["traceflow_subscriptions", "traceflow_user_features", "traceflow_plans"],
    "Admin": ["user_roles", "traceflow_audit_logs"],
}


@dataclass(frozen=True, slots=True)
class Difference:
    """An object of the contract's tables that the database has otherwise, or that only one of them has."""

    object: str
    contract: str
    database: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a database promises, by object; and to which table each object belongs, if to one."""

    values: Mapping[str, str]
    tables: Mapping[str, str | None]


def read_catalog(connection: "psycopg.Connection[tuple[object, ...]]") -> Catalog:
    connection.execute("SET search_path = public")
    rows = connection.execute(CATALOG).fetchall()
    values: dict[str, str] = {}
    for name, _table, value in rows:
        # several checks of a table have one name
        values[str(name)] = f"{values[str(name)]}; {value}" if name in values else str(value)
    return Catalog(values, {str(name): None if table is None else str(table) for name, table, _value in rows})


def differences(contract: Catalog, database: Catalog) -> list[Difference]:
    """Compare what the contract has, and what the database adds to the contract's tables."""
    tables = {table for table in contract.tables.values() if table is not None}
    added = {name for name, table in database.tables.items() if table in tables} - promised_by_summaries()
    return [
        Difference(name, contract.values.get(name, ABSENT), database.values.get(name, ABSENT))
        for name in sorted(contract.values.keys() | added)
        if contract.values.get(name) != database.values.get(name)
    ]


def promised_by_summaries() -> set[str]:
    """Return what only the contract's summaries name; tests of their own look for it."""
    triggers = {f"trigger {row[0]} on {row[1]}" for row in contract_table("Database Triggers")}
    policies = {f'policy "{row[1]}" on {row[0]}' for row in contract_table("RLS Policies Summary")}
    return triggers | policies | {f"row security of {row[0]}" for row in contract_table("RLS Policies Summary")}


def listed_deviations() -> list[Difference]:
    groups = tomllib.loads(DEVIATIONS.read_text())["deviation"]
    assert all(group["reason"].strip() for group in groups)
    listed = [Difference(*difference) for group in groups for difference in group["differences"]]
    return sorted(listed, key=lambda difference: difference.object)


def contract_statements(available_extensions: set[str]) -> list[str]:
    """Return the contract's SQL blocks without the extensions that this server does not have."""

    def kept(statement: re.Match[str]) -> str:
        return statement[0] if statement[1] in available_extensions else ""

    blocks = re.findall(r"^```sql\n(.*?)^```", CONTRACT, re.DOTALL | re.MULTILINE)
    return [re.sub(r'CREATE EXTENSION IF NOT EXISTS "(.*?)";', kept, block) for block in blocks]


def contract_table(heading: str) -> list[list[str]]:
    """Return the cells of a Markdown table of the contract, without its heading."""
    section = CONTRACT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in row] for row in rows[2:]]


@pytest.fixture(scope="session")
def contract(postgres_server: str) -> Iterator[Catalog]:
    """Give the catalog of a scratch database in which the contract's SQL was executed."""
    name = sql.Identifier(f"contract_{secrets.token_hex(4)}")
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(name))
        try:
            with psycopg.connect(postgres_server, dbname=name._obj[0], autocommit=True) as connection:
                extensions = {str(row[0]) for row in connection.execute("SELECT name FROM pg_available_extensions")}
                connection.execute("SET client_min_messages = error")
                for statements in [SURROUNDINGS, *contract_statements(extensions)]:
                    connection.execute(statements.encode())
                found = read_catalog(connection)
            without = {name for name, table in found.tables.items() if table in SURROUNDING_TABLES}
            yield Catalog(
                {name: value for name, value in found.values.items() if name not in without},
                {name: table for name, table in found.tables.items() if name not in without},
            )
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_the_contract_is_read_whole(contract: Catalog) -> None:
    def written(pattern: str) -> int:
        return len(re.findall(pattern, CONTRACT, re.MULTILINE))

    kinds = [name.split()[0] for name in contract.values]
    assert kinds.count("table") == written("^CREATE TABLE ") == 8
    assert kinds.count("column") == written("^  [a-z_]+ [A-Z]+") == 149
    assert kinds.count("index") == written("^CREATE INDEX ") == 24
    assert kinds.count("foreign") == written(r"\bREFERENCES ") == 7
    assert kinds.count("primary") == written("PRIMARY KEY") == 8
    assert kinds.count("unique") == written(r"\bUNIQUE\b") == 3
    assert kinds.count("function") == written("^CREATE OR REPLACE FUNCTION ") == 2
    assert kinds.count("trigger") == written("^CREATE TRIGGER ") == 1
    assert kinds.count("policy") == written("^CREATE POLICY ") == 3
    assert kinds.count("publication") == written("^ALTER PUBLICATION ") == 3
    assert len(contract_table("Database Triggers")) == 2
    assert len(contract_table("RLS Policies Summary")) == 5


def test_every_difference_from_the_contract_is_listed_and_every_listed_one_is_real(
    contract: Catalog, database: str
) -> None:
    with psycopg.connect(database) as connection:
        found = differences(contract, read_catalog(connection))
    assert found == listed_deviations()


BREAKAGES = [
    (
        "ALTER TABLE traceflow_events ALTER scroll_depth TYPE BIGINT",
        Difference("column traceflow_events.scroll_depth", "integer", "bigint"),
    ),
    (
        "ALTER TABLE traceflow_ux_issues ALTER severity DROP NOT NULL",
        Difference(
            "column traceflow_ux_issues.severity",
            "text not null default 'medium'::text",
            "text default 'medium'::text",
        ),
    ),
    (
        "ALTER TABLE traceflow_ai_queue ALTER priority SET DEFAULT 6",
        Difference("column traceflow_ai_queue.priority", "integer default 5", "integer default 6"),
    ),
    (
        "DROP INDEX idx_neurorouter_logs_task",
        Difference("index idx_neurorouter_logs_task", "on neurorouter_logs (task_type)", ABSENT),
    ),
    (
        "DROP INDEX idx_traceflow_sessions_started_at;"
        "CREATE INDEX idx_traceflow_sessions_started_at ON traceflow_sessions(started_at)",
        Difference(
            "index idx_traceflow_sessions_started_at",
            "on traceflow_sessions (started_at DESC)",
            "on traceflow_sessions (started_at)",
        ),
    ),
    (
        "ALTER FUNCTION is_traceflow_admin(uuid) VOLATILE",
        Difference(
            "function is_traceflow_admin(check_user_id uuid)",
            "returns boolean, sql, stable, security definer, search_path=public",
            "returns boolean, sql, volatile, security definer, search_path=public",
        ),
    ),
    (
        'DROP POLICY "Allow anonymous insert for recording" ON session_recordings',
        Difference(
            'policy "Allow anonymous insert for recording" on session_recordings',
            "INSERT to public check true",
            ABSENT,
        ),
    ),
    (
        "ALTER TABLE traceflow_sessions DISABLE ROW LEVEL SECURITY",
        Difference("row security of traceflow_sessions", "on", ABSENT),
    ),
    (
        "ALTER PUBLICATION supabase_realtime DROP TABLE traceflow_ux_issues",
        Difference("publication supabase_realtime of traceflow_ux_issues", "published", ABSENT),
    ),
    (
        "ALTER TABLE traceflow_user_features ADD COLUMN note TEXT",
        Difference("column traceflow_user_features.note", ABSENT, "text"),
    ),
]


def test_a_database_that_breaks_the_contract_is_found_out(contract: Catalog, database: str) -> None:
    listed = listed_deviations()
    found = {}
    with psycopg.connect(database) as connection:
        for change, _ in BREAKAGES:
            connection.execute(change.encode())
            found[change] = [d for d in differences(contract, read_catalog(connection)) if d not in listed]
            connection.rollback()
    assert found == {change: [expected] for change, expected in BREAKAGES}


def test_the_overview_counts_the_tables_that_exist(database: str) -> None:
    assert {row[0]: int(row[1]) for row in contract_table("Schema Overview")} == {
        category: len(tables) for category, tables in OVERVIEW.items()
    }
    with psycopg.connect(database) as connection:
        existing = read_catalog(connection).values
    missing = [name for tables in OVERVIEW.values() for name in tables if f"table {name}" not in existing]
    assert missing == []


def test_the_triggers_of_the_summary_exist(database: str) -> None:
    with psycopg.connect(database) as connection:
        existing = read_catalog(connection).values
    for trigger, table, event, function in contract_table("Database Triggers"):
        found = existing[f"trigger {trigger} on {table}"]
        assert found.startswith(f"{event} FOR EACH ROW")
        assert found.endswith(f"EXECUTE FUNCTION {function}")


def test_the_policies_of_the_summary_exist(contract: Catalog, database: str) -> None:
    """A policy that the contract also writes as SQL has that one's name, another the name of the summary."""
    with psycopg.connect(database) as connection:
        existing = read_catalog(connection).values
    for table, policy, access in contract_table("RLS Policies Summary"):
        commands = {
            name: value.split()[0] for name, value in existing.items() if re.fullmatch(f'policy ".*" on {table}', name)
        }
        written = {name for name in contract.values if name in commands}
        named = written or {f'policy "{policy}" on {table}'}
        assert {commands.get(name) for name in named} == set(access.split(", "))


def test_the_anonymous_insert_of_the_summary_is_a_policy_without_its_privilege(database: str) -> None:
    """Whoever wants anonymous inserts grants the privilege; the policy is there."""
    assert ["session_recordings", "Anonymous insert, admin view", "INSERT, SELECT"] in contract_table(
        "RLS Policies Summary"
    )
    with psycopg.connect(database) as connection:
        granted = connection.execute("SELECT has_table_privilege('anon', 'session_recordings', 'INSERT')").fetchone()
        assert granted == (False,)
        connection.execute("GRANT INSERT ON session_recordings TO anon")
        connection.execute("SET LOCAL ROLE anon")
        connection.execute("INSERT INTO session_recordings (session_id) VALUES ('s-1')")
