"""`traceflow sql`: one read-only statement, for people without psql."""

from collections.abc import Sequence
from typing import Any

from adapters.postgres import connect
from schemas.connections import DatabaseSettings


def run_query(database: DatabaseSettings, statement: str, *, timeout_s: int) -> tuple[list[str], list[Sequence[Any]]]:
    """Run one statement in a read-only transaction and return the names of its columns and its rows.

    Raises:
        psycopg.Error: the server refuses it, or cannot be reached.
    """
    session = {"statement_timeout": f"{timeout_s}s"}
    with (
        connect(database, application_name="traceflow sql", session=session, only_reads=True) as connection,
        # within a block no statement can end the transaction and go on in another one
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION READ ONLY")
        # once something was read, the server lets nobody make the transaction writable
        connection.execute("SELECT")
        # prepared: the server then refuses a second statement, which could end the block
        cursor = connection.execute(statement.encode(), prepare=True)
        if cursor.description is None:
            return [], []
        return unique([column.name for column in cursor.description]), list(cursor)


def unique(names: Sequence[str]) -> list[str]:
    """Tell columns of one name apart (`count`, `count_2`), so that none is lost in a JSON object."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


def as_objects(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return one object a row, by column name."""
    return [dict(zip(columns, row, strict=True)) for row in rows]
