"""The runner: history, order, concurrency, refusals."""

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from adapters import migrations
from adapters.migrations import (
    Applied,
    EditedHistory,
    HiddenHistory,
    MigrationFailed,
    MigrationStatus,
    NewerDatabase,
    UnsupportedServer,
    migrate,
    status,
)
from adapters.postgres import Connection
from schemas.migrations import Migration, load_migrations
from tests.integration.sink_bench import execute

FILES = load_migrations()


def another(statements: str) -> Migration:
    """Return the next file."""
    version = FILES[-1].version + 1
    digest = sha256(statements.encode()).hexdigest()
    return Migration(version=version, name=f"{version:04d}_another.sql", sql=statements, sha256=digest)


def one(conninfo: str, query: str) -> object:
    """Return the only value of a query's only row."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def make_database(server: str, *, options: str = "ENCODING 'UTF8'") -> str:
    name = f"empty_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}".encode())
    return make_conninfo(server, dbname=name)


def drop_database(server: str, conninfo: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[str]:
    conninfo = make_database(postgres_server)
    yield conninfo
    drop_database(postgres_server, conninfo)


def test_an_empty_database_gets_every_file_once_in_order(empty_database: str) -> None:
    assert [(done.version, done.name) for done in migrate(empty_database)] == [
        (file.version, file.name) for file in FILES
    ]
    assert migrate(empty_database) == []
    assert [(row.version, row.name, row.state) for row in status(empty_database)] == [
        (file.version, file.name, "applied") for file in FILES
    ]


def test_a_dry_run_tells_what_is_pending_and_changes_nothing(empty_database: str) -> None:
    assert migrate(empty_database, dry_run=True) == [Applied(version=file.version, name=file.name) for file in FILES]
    assert status(empty_database) == [MigrationStatus(file.version, file.name, "pending") for file in FILES]
    assert one(empty_database, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


def test_the_days_around_today_have_partitions(database: str) -> None:
    with psycopg.connect(database) as connection:
        for parent in ("traceflow_events", "session_recording_chunks"):
            row = connection.execute(
                "SELECT min(relname), max(relname), count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
                " WHERE inhparent = %s::regclass",
                (parent,),
            ).fetchone()
            expected = connection.execute(
                "SELECT %(p)s || to_char(today - 8, '\"_\"YYYYMMDD'), %(p)s || to_char(today + 7, '\"_\"YYYYMMDD'), 16"
                " FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock",
                {"p": parent},
            ).fetchone()
            assert row == expected


def test_two_migrators_of_one_database_apply_each_file_once(empty_database: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(migrate, [empty_database] * 2)
    assert sorted(done.version for done in first + second) == [file.version for file in FILES]


def test_databases_of_one_server_can_be_migrated_at_once(postgres_server: str) -> None:
    targets = [make_database(postgres_server) for _ in range(2)]
    try:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(migrate, targets))
        assert [[done.version for done in applied] for applied in results] == [[f.version for f in FILES]] * 2
    finally:
        for target in targets:
            drop_database(postgres_server, target)


def test_an_edited_file_is_refused_by_name_and_nothing_is_applied(database: str) -> None:
    edited = replace(FILES[2], sha256=sha256(b"edited").hexdigest())
    files = [*FILES[:2], edited, *FILES[3:], another("CREATE TABLE public.made_anyway ()")]
    with pytest.raises(EditedHistory, match=r"0003_recordings\.sql is not what was applied"):
        migrate(database, files=files)
    assert one(database, "SELECT to_regclass('public.made_anyway')") is None


def test_a_renumbered_file_is_refused(database: str) -> None:
    with pytest.raises(EditedHistory, match=r"0001_other\.sql is not what was applied as 0001_compatibility\.sql"):
        migrate(database, files=[replace(FILES[0], name="0001_other.sql"), *FILES[1:]])


def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    migrate(database, files=[*FILES, another("SELECT 1")])
    with pytest.raises(NewerDatabase, match=r"_another\.sql.*update TraceFlow"):
        migrate(database)
    assert status(database)[-1].state == "unknown"


def test_status_names_an_edited_file(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE traceflow_schema_migrations SET sha256 = 'other' WHERE version = 1")
    assert [row.state for row in status(database)] == ["edited"] + ["applied"] * (len(FILES) - 1)


@pytest.fixture
def login(database: str) -> Iterator[str]:
    """Give a login without rights."""
    name = f"login_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(sql.Identifier(name)))
        yield make_conninfo(database, user=name, password="p")
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def user(conninfo: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(conninfo)["user"])


def test_an_analyst_may_ask_what_was_applied_and_what_would_be(database: str, login: str) -> None:
    execute(database, "SELECT make_traceflow_analyst(%s)", user(login))
    assert {row.state for row in status(login)} == {"applied"}
    assert migrate(login, dry_run=True) == []
    coming = another("SELECT 1")
    assert [done.name for done in migrate(login, dry_run=True, files=[*FILES, coming])] == [coming.name]


def test_who_sees_no_history_is_not_told_that_there_is_none(database: str, login: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        status(login)
    execute(database, f"GRANT pg_read_all_data TO {user(login)}")
    with pytest.raises(HiddenHistory, match=f"row-level security hides .* from {user(login)}"):
        status(login)
    with pytest.raises(HiddenHistory):
        migrate(login, dry_run=True)


def test_a_file_that_fails_leaves_nothing_and_is_named(database: str) -> None:
    broken = another("CREATE TABLE public.half_done (); SELECT 1 FROM public.no_such_table")
    with pytest.raises(MigrationFailed, match=rf'^{broken.name}: relation "public.no_such_table" does not exist'):
        migrate(database, files=[*FILES, broken])
    assert one(database, "SELECT to_regclass('public.half_done')") is None
    assert len(status(database)) == len(FILES)


def test_what_the_server_warns_of_is_handed_on(database: str) -> None:
    warning = another("DO $$ BEGIN RAISE WARNING 'mind the gap'; RAISE NOTICE 'not this'; END $$")
    (applied,) = migrate(database, files=[*FILES, warning])
    assert applied.warnings == ("mind the gap",)


def test_a_lock_that_is_held_too_long_is_tried_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    change = another("ALTER TABLE public.traceflow_plans ADD COLUMN note TEXT")
    waited = threading.Event()
    begin = migrations._begin

    def counted(connection: Connection, queries: migrations.Queries) -> None:
        if begun:
            waited.set()
        begun.append(None)
        begin(connection, queries)

    begun: list[None] = []
    monkeypatch.setattr(migrations, "_begin", counted)
    with psycopg.connect(database) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT FROM traceflow_plans")
        running = pool.submit(migrate, database, files=[*FILES, change])
        assert waited.wait(20), "the file was not tried again"
        holder.rollback()
        assert [applied.name for applied in running.result(timeout=30)] == [change.name]


def test_an_old_server_is_refused(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MINIMUM_SERVER_VERSION", 990000)
    with pytest.raises(UnsupportedServer, match=r"the server is PostgreSQL \d+; 15 or newer is needed"):
        migrate(empty_database)


def test_a_database_in_another_encoding_is_refused(postgres_server: str) -> None:
    conninfo = make_database(postgres_server, options="ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(UnsupportedServer, match="the database is in LATIN1"):
            migrate(conninfo)
    finally:
        drop_database(postgres_server, conninfo)


def test_settings_of_the_role_do_not_reach_the_files(empty_database: str) -> None:
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(empty_database)["dbname"]))
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
        connection.execute(sql.SQL("ALTER DATABASE {} SET search_path = elsewhere").format(name))
        connection.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = '20s'").format(name))
        connection.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'Pacific/Kiritimati'").format(name))
    migrate(empty_database)
    assert one(empty_database, "SELECT count(*) FROM pg_class WHERE relnamespace = 'elsewhere'::regnamespace") == 0
    assert (
        one(
            empty_database,
            "SELECT count(DISTINCT pg_get_expr(relpartbound, oid)) FROM pg_class"
            " WHERE relnamespace = 'traceflow_parts'::regnamespace AND relname LIKE 'traceflow_events_2%'",
        )
        == 16
    )
