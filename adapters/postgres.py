"""Reach Postgres with psycopg: connections that say who they are and never hang, and SQL that lies in files.

A connection needs a session of its own: settings, temporary tables and the name by which a new owner ends a frozen one
live there, so a pooler in transaction mode cannot stand between.
"""

import re
from collections.abc import Mapping
from importlib import resources

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from schemas.connections import DatabaseSettings

MAX_APPLICATION_NAME = 63
"""PostgreSQL cuts longer names off, and a cut name does not find its connection."""

Connection = psycopg.Connection[TupleRow]
Cursor = psycopg.Cursor[TupleRow]

_NAME = re.compile(r"^-- ([a-z0-9_]+) --$", re.MULTILINE)
_REFUSED_FOR_GOOD = re.compile(r"authentication failed|no password supplied|no pg_hba.conf entry|does not exist")


class DatabaseRefused(Exception):
    """The server answers, but not to us, or cannot be found by its URL: a setting is wrong, waiting will not help."""


def connect(
    database: DatabaseSettings,
    *,
    application_name: str,
    session: Mapping[str, str] | None = None,
    only_reads: bool = False,
) -> Connection:
    """Open a connection in autocommit mode with the settings of `session` (`SET name = value`).

    Who only reads is content with a replica, and with a login whose transactions are read-only, as an analyst's are.

    Raises:
        DatabaseRefused: password, role or database are wrong, or the URL is none.
        psycopg.OperationalError: the server cannot be reached now.
    """
    if len(application_name.encode()) > MAX_APPLICATION_NAME:
        raise ValueError(f"application_name longer than {MAX_APPLICATION_NAME} bytes: {application_name}")
    try:
        connection = psycopg.connect(
            readable(database.url.get_secret_value()),
            autocommit=True,
            application_name=application_name,
            connect_timeout=10,
            # read-write: after a failover not the old primary
            target_session_attrs="any" if only_reads else "read-write",
            keepalives=1,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=30_000,
            client_encoding="UTF8",
        )
    except psycopg.OperationalError as error:
        # A refused connection carries no SQLSTATE, only the server's sentence.
        if _REFUSED_FOR_GOOD.search(str(error)):
            raise DatabaseRefused(" ".join(str(error).split())) from error
        raise
    try:
        for name, value in (session or {}).items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    except BaseException:
        connection.close()
        raise
    return connection


def readable(conninfo: str) -> str:
    """Return how to reach a server, if libpq can read it; what libpq says of a text that it cannot, quotes passwords.

    Raises:
        DatabaseRefused: it cannot.
    """
    try:
        conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise DatabaseRefused(
            "TRACEFLOW_DATABASE_URL cannot be read: it has to be like postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    return conninfo


def read_queries(package: str, name: str) -> dict[str, bytes]:
    """Read the named queries of a file that lies in a package; see `parse_queries`."""
    return parse_queries(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def parse_queries(text: str) -> dict[str, bytes]:
    """Split SQL into its queries: each has a line `-- its_name --`, a sentence as comment, and one statement.

    Raises:
        ValueError: a query lacks its name or sentence, or a name is used twice.
    """
    preamble, *parts = _NAME.split(text)
    if any(not row.startswith("--") for row in preamble.splitlines() if row.strip()) or not parts:
        raise ValueError("SQL before the first name")
    queries = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        statement = body.lstrip()
        if not statement.startswith("-- ") or name in queries:
            raise ValueError(f"query {name} has no sentence, or is named twice")
        queries[name] = statement.strip().removesuffix(";").encode()
    return queries
