"""Partitions by day of events and recording chunks: list them, make them, drop those that are older than is kept.

Dropping blocks nobody. In this order, each step a transaction of its own, so that a prune that ends half-way is taken
up by the next one:

1. `DETACH … CONCURRENTLY` marks the partition (new queries leave it out), then waits for the transactions that began
   before, and lets it go. Inserts into other days and new queries run meanwhile.
2. If a transaction is still open when the wait is over, the partition stays marked, and the next prune finishes it with
   `DETACH … FINALIZE`. A table has at most one such, so its others wait too.
3. `DROP TABLE`: it is a table of its own by now, and nobody reads it.

What a prune began is ended by the next one, whatever is kept by then. No row is stored in a day meanwhile: whoever asks
for its partition is told that it can have none (`traceflow_parts.ensure_day`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from psycopg import errors, sql
from psycopg.rows import class_row

from adapters.postgres import Connection, read_queries

PACKAGE, FILE = "adapters", "day_partitions.sql"


@dataclass(frozen=True, slots=True)
class DayPartition:
    """One day of one table."""

    table: str
    """Its parent, in the schema public."""
    name: str
    """Its own, in the schema traceflow_parts."""
    day: date
    """In UTC."""
    state: Literal["attached", "detaching", "detached"]
    """detaching, detached: a prune ended half-way."""
    rows: int
    """As the planner believes; -1: never analysed."""
    size_bytes: int
    """With indexes and TOAST."""


class StillRead(Exception):
    """A transaction that began before has the partition in use; the message names it."""


class AnotherPrunes(Exception):
    """Somebody else prunes this database now."""


def list_partitions(connection: Connection) -> list[DayPartition]:
    """Return the partitions by table and day."""
    with connection.cursor(row_factory=class_row(DayPartition)) as cursor:
        return cursor.execute(read_queries(PACKAGE, FILE)["list"]).fetchall()


def ensure_partitions(connection: Connection, *, behind: int, ahead: int) -> int:
    """Make the missing partitions from so many days before today to so many after it; return how many."""
    (row,) = connection.execute(read_queries(PACKAGE, FILE)["ensure"], {"behind": behind, "ahead": ahead}).fetchall()
    return int(row[0] or 0)


def expired(
    partitions: Iterable[DayPartition], *, kept_since: Mapping[str, date | None]
) -> dict[str, list[DayPartition]]:
    """Return the partitions of days before the first one that their table keeps, by table, in the order to drop them.

    None keeps all of a table, and a table that is not named has nothing to do with it. What an earlier prune left
    half-way comes first, or nothing else of its table can be detached.
    """
    found: dict[str, list[DayPartition]] = {table: [] for table in kept_since}
    for partition in partitions:
        if partition.table in found:
            since = kept_since[partition.table]
            if partition.state != "attached" or (since is not None and partition.day < since):
                found[partition.table].append(partition)
    return {
        table: sorted(old, key=lambda partition: (partition.state == "attached", partition.day))
        for table, old in found.items()
    }


class Pruner:
    """Drops partitions, one process at a time; the connection is in autocommit mode and the tables' owner's."""

    def __init__(self, connection: Connection, *, wait_s: float) -> None:
        """Take the lock.

        Raises:
            AnotherPrunes: it is held.
        """
        self._connection = connection
        self._queries = read_queries(PACKAGE, FILE)
        if connection.execute(self._queries["lock"]).fetchone() != (True,):
            raise AnotherPrunes("another process prunes this database now")
        connection.execute(self._queries["set_wait"], {"wait_ms": round(wait_s * 1000)})

    def expired(self, kept_since: Mapping[str, date | None]) -> dict[str, list[DayPartition]]:
        """Return what is to be dropped."""
        return expired(list_partitions(self._connection), kept_since=kept_since)

    def drop(self, partition: DayPartition) -> None:
        """Do the steps of the module's theory.

        Raises:
            StillRead: the wait is over; drop the same again later.
        """
        table, leaf = sql.Identifier("public", partition.table), sql.Identifier("traceflow_parts", partition.name)
        how = {"attached": sql.SQL("CONCURRENTLY"), "detaching": sql.SQL("FINALIZE")}.get(partition.state)
        try:
            if how is not None:
                self._connection.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(table, leaf, how))
            self._connection.execute(sql.SQL("DROP TABLE {}").format(leaf))
        except errors.LockNotAvailable as error:
            raise StillRead(f"{partition.name} is in use by a transaction that began before") from error
