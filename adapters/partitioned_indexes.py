"""Give an index to a partitioned table that sinks are writing to: built one partition at a time, beside the writers.

Theory. `CREATE INDEX` on a partitioned table keeps every writer out until the index of the last partition is built, and
CONCURRENTLY is refused there. So a migration makes the index ON ONLY the parent, which is done at once and leaves it
invalid. Then, outside any transaction, for each partition that lacks its part:

1. drop what a build that was interrupted has left;
2. build the part with CREATE INDEX CONCURRENTLY, which waits for open transactions and keeps nobody waiting;
3. attach it to the parent's index, which is valid with the last one.

What is missing is read from the catalog, so it can be repeated after any end. A partition that is made meanwhile has
its part from the beginning.
"""

from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import class_row
from tenacity import Retrying

from adapters.postgres import Connection, read_queries


@dataclass(frozen=True, slots=True)
class MissingPart:
    """A partition's part of an index, not attached to it yet."""

    parent_schema: str
    parent_index: str
    leaf_schema: str
    leaf: str
    part: str
    """The name that the part has or gets."""
    is_unique: bool
    definition: str
    """Method, columns and all that follows in CREATE INDEX, as the server prints it."""
    is_valid: bool | None
    """None: there is no index of that name; False: its build was interrupted."""


def missing(connection: Connection) -> list[MissingPart]:
    """Return what the partitions still lack, in order."""
    queries = read_queries("adapters", "partitioned_indexes.sql")
    with connection.cursor(row_factory=class_row(MissingPart)) as cursor:
        return cursor.execute(queries["missing"]).fetchall()


def complete(connection: Connection, *, attach: Retrying, lock_timeout: str) -> None:
    """Build and attach what is missing; one caller at a time, on a connection in autocommit mode.

    `attach` repeats the only step that waits for a lock with others behind it, `lock_timeout` long each time.
    """
    queries = read_queries("adapters", "partitioned_indexes.sql")
    connection.execute(queries["patient"])
    for part in missing(connection):
        if part.is_valid is False:
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(_part(part)))
        if not part.is_valid:
            unique = sql.SQL("UNIQUE " if part.is_unique else "")
            leaf = sql.Identifier(part.leaf_schema, part.leaf)
            printed = sql.SQL(part.definition)  # by the server, for it to read again
            connection.execute(
                sql.SQL("CREATE {}INDEX CONCURRENTLY {} ON {} {}").format(
                    unique, sql.Identifier(part.part), leaf, printed
                )
            )
        attach(_attach, connection, part, lock_timeout)


def _attach(connection: Connection, part: MissingPart, lock_timeout: str) -> None:
    queries = read_queries("adapters", "partitioned_indexes.sql")
    whole = sql.Identifier(part.parent_schema, part.parent_index)
    with connection.transaction():
        connection.execute(queries["set_lock_timeout"], {"value": lock_timeout})
        connection.execute(sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(whole, _part(part)))


def _part(part: MissingPart) -> sql.Identifier:
    return sql.Identifier(part.leaf_schema, part.part)
