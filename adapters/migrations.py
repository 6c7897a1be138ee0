"""Bring a database to the newest version of the schema: forward only, each SQL file once, in its own transaction.

Theory. The history (`traceflow_schema_migrations`) lies in the database and holds the checksum of each applied file.
Every file runs in one transaction, together with its row of the history:

1. take the advisory lock, so that two migrators work one after the other;
2. read the history again and compare it with the files;
3. run the file, unless the other migrator has;
4. write its row; commit.

The lock is one of the transaction, never of the session, so that a connection pooler in transaction mode is no danger.
A statement waits at most `LOCK_TIMEOUT` for a lock that ingestion or a query holds; then the file rolls back and is
tried again, or everybody who comes later would queue behind the waiting statement.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import errors
from psycopg.rows import class_row
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from schemas.migrations import Migration, load_migrations

MINIMUM_SERVER_VERSION = 150000
"""NULLS NOT DISTINCT, security_invoker views and MERGE came with 15."""

LOCK_TIMEOUT = "3s"
OTHER_MIGRATOR_TIMEOUT = "120s"
"""Longer than a whole migration takes on a slow machine (2 s on a fast one)."""

RETRY_FOR_S = 60.0

DAYS_BACK = 8
"""The gateway lets events in whose time lies up to 7 days back, wherever in the world the day began."""
DAYS_AHEAD = 7

_LOCK_KEY = 0x74726163_65666C6F  # "traceflo"

_HISTORY = b"""
CREATE TABLE IF NOT EXISTS public.traceflow_schema_migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  ms INTEGER NOT NULL
)"""


class MigrationError(RuntimeError):
    """The database cannot be migrated; the message says why and what to do."""


class UnsupportedServer(MigrationError):
    """The server is older than PostgreSQL 15."""


class EditedHistory(MigrationError):
    """A file that was applied has changed since, or its number was given to another one."""


class NewerDatabase(MigrationError):
    """The database was migrated by a newer version of TraceFlow than this one."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that was applied now, or would be (`dry_run`: then `ms` is 0)."""

    version: int
    name: str
    ms: int = 0
    warnings: tuple[str, ...] = ()
    """What the server warned of, for the operator to read."""


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """A migration as files and database know it."""

    version: int
    name: str
    state: Literal["applied", "pending", "edited", "unknown"]
    """unknown: the database has it, this version of TraceFlow has not."""
    applied_at: datetime | None = None
    ms: int | None = None


@dataclass(frozen=True, slots=True)
class _HistoryRow:
    version: int
    name: str
    sha256: str
    applied_at: datetime
    ms: int


Connection = psycopg.Connection[tuple[object, ...]]


def migrate(conninfo: str, *, dry_run: bool = False, migrations: Sequence[Migration] | None = None) -> list[Applied]:
    """Apply the pending files and make the partitions around today; return what was applied, in order.

    A dry run changes nothing. `migrations` names others than the packaged files.

    Raises:
        MigrationError: if the server is too old or the history does not fit the files; nothing was changed by then.
        psycopg.Error: if a file fails; the files before it stay applied, this one left nothing.
    """
    files = load_migrations() if migrations is None else tuple(migrations)
    with _connect(conninfo) as connection:
        pending = _pending(connection, files)
        if dry_run:
            return [Applied(version=file.version, name=file.name) for file in pending]
        retrying = _retrying()
        applied = [done for file in pending if (done := retrying(_apply, connection, files, file))]
        retrying(_ensure_partitions, connection)
        return applied


def status(conninfo: str) -> list[MigrationStatus]:
    """Return each file's state, and what the database has beyond the files, by version."""
    with _connect(conninfo) as connection:
        history = {row.version: row for row in _history(connection)}
    found = [_state(file, history.pop(file.version, None)) for file in load_migrations()]
    unknown = [MigrationStatus(row.version, row.name, "unknown", row.applied_at, row.ms) for row in history.values()]
    return found + unknown


def _state(file: Migration, row: _HistoryRow | None) -> MigrationStatus:
    if row is None:
        return MigrationStatus(file.version, file.name, "pending")
    same = (file.name, file.sha256) == (row.name, row.sha256)
    return MigrationStatus(file.version, file.name, "applied" if same else "edited", row.applied_at, row.ms)


def _connect(conninfo: str) -> Connection:
    connection = psycopg.connect(
        conninfo, autocommit=True, prepare_threshold=None, application_name="traceflow migrate"
    )
    number = connection.info.server_version
    if number < MINIMUM_SERVER_VERSION:
        connection.close()
        raise UnsupportedServer(f"the server is PostgreSQL {number // 10000}; 15 or newer is needed")
    return connection


def _history(connection: Connection) -> list[_HistoryRow]:
    found = connection.execute("SELECT to_regclass('public.traceflow_schema_migrations')").fetchone()
    if found == (None,):
        return []
    with connection.cursor(row_factory=class_row(_HistoryRow)) as cursor:
        cursor.execute(
            "SELECT version, name, sha256, applied_at, ms FROM public.traceflow_schema_migrations ORDER BY version"
        )
        return cursor.fetchall()


def _pending(connection: Connection, files: Sequence[Migration]) -> list[Migration]:
    """Return the files that the database lacks, once the history is known to fit the others."""
    known = {file.version: file for file in files}
    history = _history(connection)
    for row in history:
        file = known.get(row.version)
        if file is None:
            raise NewerDatabase(
                f"the database has migration {row.name}, which this version does not know: update TraceFlow"
            )
        if (file.name, file.sha256) != (row.name, row.sha256):
            raise EditedHistory(
                f"{file.name} is not what was applied as {row.name} on {row.applied_at:%Y-%m-%d}: "
                "restore the file and put the change into a new one"
            )
    done = {row.version for row in history}
    return [file for file in files if file.version not in done]


def _apply(connection: Connection, files: Sequence[Migration], file: Migration) -> Applied | None:
    """Apply one file as the module's theory says; None if another migrator was first."""
    with _warnings(connection) as warnings, connection.transaction():
        _begin(connection)
        if file not in _pending(connection, files):
            return None
        started = time.monotonic()
        connection.execute(file.sql.encode())
        ms = round((time.monotonic() - started) * 1000)
        connection.execute(
            "INSERT INTO public.traceflow_schema_migrations (version, name, sha256, ms) VALUES (%s, %s, %s, %s)",
            (file.version, file.name, file.sha256, ms),
        )
    return Applied(version=file.version, name=file.name, ms=ms, warnings=tuple(warnings))


@contextmanager
def _warnings(connection: Connection) -> Iterator[list[str]]:
    """Collect what the server warns of within the block."""
    collected: list[str] = []

    def note(diagnostic: errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING" and diagnostic.message_primary:
            collected.append(diagnostic.message_primary)

    connection.add_notice_handler(note)
    try:
        yield collected
    finally:
        connection.remove_notice_handler(note)


def _begin(connection: Connection) -> None:
    """Take the lock and fix what a role's or a database's own settings could change under a file."""
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (OTHER_MIGRATOR_TIMEOUT,))
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute("SET LOCAL search_path = public")
    connection.execute("SET LOCAL client_min_messages = warning")
    connection.execute(_HISTORY)


def _ensure_partitions(connection: Connection) -> None:
    with connection.transaction():
        connection.execute(
            "SELECT traceflow_parts.ensure_days(today - %s::integer, today + %s::integer)"
            " FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock",
            (DAYS_BACK, DAYS_AHEAD),
        )


def _retrying() -> Retrying:
    return Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_after_delay(RETRY_FOR_S),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    )


def _is_transient(error: BaseException) -> bool:
    """Tell what passes by itself: a lock held too long, roles that another database's migration makes just now."""
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected | errors.SerializationFailure):
        return True
    if isinstance(error, errors.UniqueViolation):
        return error.diag.schema_name == "pg_catalog"
    return isinstance(error, errors.InternalError_) and "concurrently" in str(error)
