"""Bring a database to the newest version of the schema: forward only, each SQL file once, in its own transaction.

Theory. The history (`traceflow_schema_migrations`) lies in the database and holds the checksum of each applied file.
Every file runs in one transaction, together with its row of the history:

1. take the advisory lock, so that two migrators work one after the other;
2. read the history again and compare it with the files;
3. run the file, unless the other migrator has;
4. write its row; commit.

The lock is one of the transaction, never of the session, so that a connection pooler in transaction mode is no danger.
A statement waits at most `LOCK_TIMEOUT` for a lock that ingestion or a query holds, because everybody who comes later
queues behind it; then the file rolls back and is tried again after a pause in which they catch up.

Last, outside any file: the partitions around today, and the partitions' parts of indexes that a file made on the
parent only (`adapters.partitioned_indexes`). Both look for what is missing, so after any end the next run goes on.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import errors
from psycopg.rows import class_row
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from adapters import partitioned_indexes
from adapters.postgres import Connection, read_queries, readable
from schemas.migrations import Migration, load_migrations

MINIMUM_SERVER_VERSION = 150000
"""NULLS NOT DISTINCT and views with security_invoker came with 15."""

LOCK_TIMEOUT = "500ms"
"""Ingestion stands still so long at the most while a file waits. Below `deadlock_timeout` (1 s unless the server says
otherwise): where a file and a sink wait for each other, the file gives way before the server picks one of them."""
OTHER_MIGRATOR_TIMEOUT = "120s"
"""Longer than one file takes anywhere: 0.1 s on an idle machine."""

PAUSE_S = (1.0, 3.0)
"""Shortest and longest pause between two tries; by chance, so as not to meet what comes at fixed times for ever."""
RETRY_FOR_S = 180.0
"""Three times what a statement of an analyst may take."""

DAYS_BACK = 8
"""The gateway lets events in whose time lies up to 7 days back, and the oldest of those days began before that."""
DAYS_AHEAD = 7

_LOCK_KEY = 0x74726163_65666C6F  # "traceflo"

Queries = Mapping[str, bytes]


class MigrationError(RuntimeError):
    """The database cannot be migrated; the message says why and what to do."""


class UnsupportedServer(MigrationError):
    """The server is older than PostgreSQL 15, or the database is not in UTF-8."""


class EditedHistory(MigrationError):
    """A file that was applied has changed since, or its number was given to another one."""


class NewerDatabase(MigrationError):
    """The database was migrated by a newer version of TraceFlow than this one."""


class HiddenHistory(MigrationError):
    """The login may not see what was applied, which is not the same as nothing."""


class MigrationFailed(MigrationError):
    """The server refused a file, which left nothing; the message names it and says what the server says."""


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


def migrate(conninfo: str, *, dry_run: bool = False, files: Sequence[Migration] | None = None) -> list[Applied]:
    """Apply the pending files and make the partitions around today; return what was applied, in order.

    A dry run changes nothing. `files` are the packaged ones unless others are given.

    Raises:
        UnsupportedServer, EditedHistory, NewerDatabase, HiddenHistory: nothing was changed.
        MigrationFailed: the files before that one stay applied.
        psycopg.OperationalError: the server cannot be reached.
    """
    wanted = load_migrations() if files is None else tuple(files)
    queries = read_queries("adapters", "migrations.sql")
    with _connect(conninfo) as connection:
        pending = _pending(connection, queries, wanted)
        if dry_run:
            return [Applied(version=file.version, name=file.name) for file in pending]
        applied = [done for file in pending if (done := _apply(connection, queries, wanted, file))]
        _retrying()(connection.execute, queries["ensure_days"], {"back": DAYS_BACK, "ahead": DAYS_AHEAD})
        _complete_indexes(conninfo, connection, queries)
        return applied


def status(conninfo: str) -> list[MigrationStatus]:
    """Return each file's state, and what the database has beyond the files, by version; an analyst's login does.

    Raises:
        UnsupportedServer, HiddenHistory: the database does not tell.
        psycopg.OperationalError: the server cannot be reached.
    """
    with _connect(conninfo) as connection:
        history = {row.version: row for row in _history(connection, read_queries("adapters", "migrations.sql"))}
    found = [_state(file, history.pop(file.version, None)) for file in load_migrations()]
    unknown = [MigrationStatus(row.version, row.name, "unknown", row.applied_at, row.ms) for row in history.values()]
    return found + unknown


def unfinished_indexes(conninfo: str) -> list[str]:
    """Return the indexes that some partitions lack: somebody is building them, or was ended meanwhile."""
    with _connect(conninfo) as connection:
        return sorted({part.parent_index for part in partitioned_indexes.missing(connection)})


def _state(file: Migration, row: _HistoryRow | None) -> MigrationStatus:
    if row is None:
        return MigrationStatus(file.version, file.name, "pending")
    same = (file.name, file.sha256) == (row.name, row.sha256)
    return MigrationStatus(file.version, file.name, "applied" if same else "edited", row.applied_at, row.ms)


@contextmanager
def _connect(conninfo: str) -> Iterator[Connection]:
    with psycopg.connect(
        readable(conninfo),
        autocommit=True,
        prepare_threshold=None,
        application_name="traceflow-migrate",
        client_encoding="UTF8",
    ) as connection:
        number = connection.info.server_version
        if number < MINIMUM_SERVER_VERSION:
            raise UnsupportedServer(f"the server is PostgreSQL {number // 10000}; 15 or newer is needed")
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise UnsupportedServer(f"the database is in {encoding}; make one WITH ENCODING 'UTF8' TEMPLATE template0")
        yield connection


def _history(connection: Connection, queries: Queries) -> list[_HistoryRow]:
    if connection.execute(queries["known"]).fetchone() != (True,):
        return []
    with connection.cursor(row_factory=class_row(_HistoryRow)) as cursor:
        history = cursor.execute(queries["history"]).fetchall()
    # its first row came with it, in one transaction
    if not history and connection.execute(queries["restricted"]).fetchone() == (True,):
        raise HiddenHistory(
            f"row-level security hides traceflow_schema_migrations from {connection.info.user}: "
            "ask as a member of traceflow_analyst, or as the owner"
        )
    return history


def _pending(connection: Connection, queries: Queries, files: Sequence[Migration]) -> list[Migration]:
    """Return the files that the database lacks, once its history is known to fit the others."""
    known = {file.version: file for file in files}
    history = _history(connection, queries)
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


def _apply(connection: Connection, queries: Queries, files: Sequence[Migration], file: Migration) -> Applied | None:
    """Apply one file, again if a lock was held too long; None if another migrator was first."""
    try:
        return _retrying()(_apply_once, connection, queries, files, file)
    except psycopg.Error as error:
        said = [error.diag.message_primary or str(error), error.diag.message_detail, error.diag.message_hint]
        if isinstance(error, errors.LockNotAvailable):
            said.append(_longest_transaction(connection, queries))
        raise MigrationFailed(f"{file.name}: " + ". ".join(part for part in said if part)) from error


def _apply_once(
    connection: Connection, queries: Queries, files: Sequence[Migration], file: Migration
) -> Applied | None:
    """Do the steps of the module's theory."""
    with _warnings(connection) as warnings, connection.transaction():
        _begin(connection, queries)
        if file not in _pending(connection, queries, files):
            return None
        started_s = time.monotonic()
        connection.execute(file.sql.encode())
        ms = round((time.monotonic() - started_s) * 1000)
        row = {"version": file.version, "name": file.name, "sha256": file.sha256, "ms": ms}
        connection.execute(queries["record"], row)
    return Applied(version=file.version, name=file.name, ms=ms, warnings=tuple(warnings))


def _longest_transaction(connection: Connection, queries: Queries) -> str | None:
    """Say who is most likely in the way."""
    row = connection.execute(queries["longest_transaction"]).fetchone()
    if row is None:
        return None
    pid, application, user, seconds = row
    return (
        f"The longest open transaction is that of process {pid} ({application or 'unnamed'}, {user}), {seconds} s old"
    )


def _complete_indexes(conninfo: str, connection: Connection, queries: Queries) -> None:
    """Build the missing parts of indexes while other migrators wait.

    The lock is held by a transaction of a connection of its own, since the builds cannot be in one. A build waits for
    every transaction that keeps a snapshot, so this one must not: a statement with parameters keeps its own until the
    next one comes, hence the last one has none.
    """
    if not partitioned_indexes.missing(connection):
        return
    with _connect(conninfo) as guard, guard.transaction():
        guard.execute(queries["read_committed"])
        guard.execute(queries["set"], {"name": "lock_timeout", "value": "0"})
        guard.execute(queries["lock"], {"key": _LOCK_KEY})
        guard.execute(queries["may_idle"])
        partitioned_indexes.complete(connection, attach=_retrying(), lock_timeout=LOCK_TIMEOUT)


def _begin(connection: Connection, queries: Queries) -> None:
    """Take the lock, and fix what settings of a role or a database could change under a file."""
    for name, value in (
        ("statement_timeout", "0"),
        ("search_path", "public"),
        ("client_min_messages", "warning"),
        ("lock_timeout", OTHER_MIGRATOR_TIMEOUT),
    ):
        connection.execute(queries["set"], {"name": name, "value": value})
    connection.execute(queries["lock"], {"key": _LOCK_KEY})
    connection.execute(queries["set"], {"name": "lock_timeout", "value": LOCK_TIMEOUT})
    connection.execute(queries["create_history"])


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


def _retrying() -> Retrying:
    return Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_after_delay(RETRY_FOR_S),
        wait=wait_random(*PAUSE_S),
        reraise=True,
    )


def _is_transient(error: BaseException) -> bool:
    """Tell what passes by itself: a lock held too long, roles that another database's migration makes just now."""
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected | errors.SerializationFailure):
        return True
    if isinstance(error, errors.UniqueViolation):
        return error.diag.schema_name == "pg_catalog"
    return isinstance(error, errors.InternalError_) and "concurrently" in str(error)
