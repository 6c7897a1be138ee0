"""A database that climbs from the first version to the newest with rows in every table, and what becomes of them.

The rows are those with which the access matrix is tried: it needs some in every table, so a table of a later file has
some as well. At each version they are put in once more, under other ids, in the shape that the tables have then; where
a row leaves a column empty, a value of the column's type is put in as far as the constraints let it. So every file
meets rows of every version before it.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import orjson
import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from adapters.migrations import migrate
from adapters.postgres import Connection
from schemas.migrations import Migration, load_migrations
from tests.integration.test_database_policies import ROWS

FILES = load_migrations()
RELEASED = 12
"""Files up to this one were in the first release: no sink was writing when they were applied."""
HISTORY = "public.traceflow_schema_migrations"

_DATA = Path(__file__).parents[1] / "data"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WHOLE_CATALOG = (_DATA / "whole_catalog.sql").read_bytes()
_TABLES = """
SELECT c.oid::regclass::text FROM pg_class AS c
WHERE c.relnamespace IN ('public'::regnamespace, 'auth'::regnamespace) AND c.relkind IN ('r', 'p')
ORDER BY 1
"""
_COLUMNS = """
SELECT a.attname::text, t.typname::text, t.typcategory::text,
  EXISTS (SELECT FROM pg_constraint AS f
          WHERE f.conrelid = a.attrelid AND f.contype = 'f' AND a.attnum = ANY (f.conkey))
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum
"""
_CONSTRAINED = """
SELECT a.attname::text
FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
WHERE c.conname = %s AND c.conrelid = %s::regclass
"""

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]
"""By table, as JSON has them."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the files say that they do to rows that are there: `-- Changes rows: table, other_table.column`."""

    tables: frozenset[str]
    columns: frozenset[str]
    """Each as `table.column`."""


def declared(files: Sequence[Migration]) -> Declared:
    """Read what files declare."""
    lines = itertools.chain.from_iterable(
        re.findall(r"^-- Changes rows: (.+?)\.?$", f.sql, re.MULTILINE) for f in files
    )
    names = {name.strip() for line in lines for name in line.split(",")}
    return Declared(frozenset(n for n in names if "." not in n), frozenset(n for n in names if "." in n))


def migrate_to(conninfo: str, version: int) -> None:
    """Apply the files up to this one. Before the seventh there is nothing yet that makes partitions."""
    with suppress(errors.UndefinedFunction):
        migrate(conninfo, files=[file for file in FILES if file.version <= version])


@contextmanager
def new_database(server: str, name: str, *, template: str = "template0") -> Iterator[str]:
    """Make a database for the time of a block."""
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(make.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def name_of(conninfo: str) -> str:
    """Return the database's name."""
    return str(conninfo_to_dict(conninfo)["dbname"])


def whole_catalog(conninfo: str) -> set[tuple[str, str]]:
    """Return everything that the database is, but for its rows."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL search_path = public")
        return {(str(name), str(said)) for name, said in connection.execute(_WHOLE_CATALOG)}


def tables_of(connection: Connection) -> list[str]:
    """Return the tables that analysts know, without partitions."""
    return [str(table) for (table,) in connection.execute(_TABLES)]


def rows_of(connection: Connection) -> Rows:
    """Return every row of every table."""
    return {table: _read(connection, table) for table in tables_of(connection)}


def _read(connection: Connection, table: str) -> list[Row]:
    return [row for (row,) in connection.execute(f"SELECT to_jsonb(t) FROM {table} AS t".encode())]  # noqa: S608


def sample_rows(newest: str) -> Rows:
    """Return the rows with which access is tried, as the newest version has them; the database stays without."""
    with psycopg.connect(newest) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        before = set(tables_of(connection))
        connection.execute(ROWS.encode())
        found = rows_of(connection)
        connection.rollback()
    return {table: rows for table, rows in found.items() if table in before}


def fill(conninfo: str, samples: Rows) -> Rows:
    """Put the samples into each table that exists, in its present shape; return what every table then holds."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        for table in tables_of(connection):
            if f"public.{table}" != HISTORY:
                for number, row in enumerate(samples.get(table, [])):
                    _insert(connection, table, row, number)
        found = rows_of(connection)
        connection.commit()
    return found


def renamed(samples: Rows, version: int) -> Rows:
    """Return the samples under ids of a version's own, the same wherever an id occurs."""
    text = _UUID.sub(lambda id_: str(uuid5(UUID(id_[0]), str(version))), orjson.dumps(samples).decode())
    made: Rows = orjson.loads(text)
    return made


@dataclass(frozen=True, slots=True)
class Hold:
    """What a file does to tables that sinks write, in its transaction; partitions go by the name of their parent."""

    closed: frozenset[str]
    """Kept from writers, from some statement to the end: by a lock on the table, or on rows that were changed."""
    read: frozenset[str]
    """Of which rows were read or changed while any was closed: that takes as long as there are rows."""


def hold_of(conninfo: str, script: str) -> Hold:
    """Run a file's statements one by one, look after each, and undo them."""
    closed: set[str] = set()
    read: set[str] = set()
    with psycopg.connect(conninfo) as connection:
        connection.execute(_BUSY.encode())
        before: dict[str, int] = {}
        for statement in statements_of(script):
            connection.execute(statement.encode())
            rows = {str(name): int(count) for name, count in connection.execute(_ROWS_READ.encode())}
            closed = {str(name) for (name,) in connection.execute(_CLOSED.encode())}
            read |= {name for name, count in rows.items() if closed and count != before.get(name, 0)}
            before = rows
        connection.rollback()
    return Hold(frozenset(closed), frozenset(read))


def statements_of(script: str) -> list[str]:
    """Split a file into its statements: quoted texts, and bodies of functions, may hold a semicolon."""
    return [found[0] for found in _STATEMENT.finditer(script) if found[0].strip(" \n;")]


_STATEMENT = re.compile(
    r"(?:--[^\n]*|'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|BEGIN ATOMIC\b.*?^END\b|[^;])+", re.DOTALL | re.MULTILINE
)
_BUSY = """
CREATE TEMPORARY TABLE busy ON COMMIT DROP AS
SELECT c.oid, coalesce(i.inhparent, c.oid)::regclass::text AS name
FROM pg_class AS c LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND has_table_privilege('traceflow_sink', coalesce(i.inhparent, c.oid), 'INSERT')
"""
_CLOSED = """
SELECT name FROM busy JOIN pg_locks ON relation = oid WHERE pid = pg_backend_pid()
AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
UNION
SELECT name FROM busy JOIN pg_stat_xact_user_tables ON relid = oid WHERE n_tup_upd + n_tup_del > 0
"""
_ROWS_READ = """
SELECT name, sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) + n_tup_upd + n_tup_del)::bigint
FROM busy JOIN pg_stat_xact_user_tables ON relid = oid GROUP BY name
"""


def _insert(connection: Connection, table: str, sample: Row, number: int) -> None:
    columns = connection.execute(_COLUMNS, (table,)).fetchall()
    given = {name: sample[name] for name, *_ in columns if sample.get(name) is not None}
    added = {
        name: _value(str(kind), str(category), f"{name} {number}", number)
        for name, kind, category, refers in columns
        if name not in given and not refers
    }
    while True:
        row = {**added, **given}
        names = sql.SQL(", ").join(map(sql.Identifier, row))
        head = sql.SQL(
            "INSERT INTO {0} ({1}) SELECT {1} FROM jsonb_populate_record(NULL::{0}, %s) ON CONFLICT DO NOTHING"
        )
        try:
            with connection.transaction():
                connection.execute(head.format(sql.SQL(table), names), (orjson.dumps(row).decode(),))
            return
        except errors.CheckViolation as error:
            if error.diag.constraint_name is None:  # no partition, so no row can be there at this version
                return
            blamed = connection.execute(_CONSTRAINED, (error.diag.constraint_name, table)).fetchall()
            without = {str(name) for (name,) in blamed} & set(added)
            if not without:
                raise
            added = {name: value for name, value in added.items() if name not in without}


def _value(kind: str, category: str, text: str, number: int) -> Any:
    """Return a value of a type; None where none is safe to make up."""
    made = {"S": text, "N": number + 1, "B": number % 2 == 0, "D": f"2020-02-29T12:00:{number:02}Z"}
    return {"json": {"of": text}, "jsonb": {"of": text}, "bytea": "\\x" + text.encode().hex()}.get(
        kind, made.get(category)
    )


def changed(before: Rows, after: Rows, allowed: Declared) -> dict[str, str]:
    """Say of each table that holds other rows than before what is so; columns that were added do not count."""
    return {
        table: said
        for table, rows in before.items()
        if f"public.{table}" != HISTORY
        and table not in allowed.tables
        and (said := _difference(table, rows, after.get(table), allowed.columns))
    }


def _difference(table: str, before: Sequence[Row], after: Sequence[Row] | None, excepted: frozenset[str]) -> str:
    if after is None:
        return "is gone"
    columns = {name for row in before for name in row if f"{table}.{name}" not in excepted}
    old, new = (Counter(_text(row, columns) for row in rows) for rows in (before, after))
    lost, added = list((old - new).elements()), list((new - old).elements())
    return f"lost {lost[:2]}, has beyond {added[:2]}" if lost or added else ""


def _text(row: Row, columns: set[str]) -> str:
    kept = {name: value for name, value in row.items() if name in columns}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()
