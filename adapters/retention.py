"""Retention: for how long events, recordings and sessions stay, and letting go of what is older.

Theory. A table keeps so many days before today, in UTC; what lies before the first of them is expired.

- Today is what the server's clock says, as long as it goes as clocks do: the day that is counted from is stored, and
  follows the clock while that of the machine that prunes agrees, and by at most a week at once (`follow_clock`). A
  longer leap is a wrong clock, or a system that stood still; only a person can tell (`believe_clock`), and nothing more
  expires until one does. So a clock that is wrong by a year deletes nothing, also where there is only one machine, and
  one that is wrong by days lets go of so many days too early there.
- Days of events and of recording chunks are partitions, which go whole (`adapters.day_partitions`): no row is touched.
- Sessions and the rows of recordings expire by their last activity, so that one that goes on is kept with its counters.
  They go in batches by the index of their start, each a transaction of its own. A sink waits for one batch at most, and
  only if a row comes just then for a session that nothing was heard of for all the days that are kept.
- With a session go its AI jobs and the links of UX issues to it and its findings. Counters of issues stay as they are,
  and so do their links to visitors, by which affected users are counted.
- A session outlives its events and recordings (a constraint of the table), so no row is left whose session is gone.

Whoever prunes holds one lock. Everything may end anywhere: the next prune goes on.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime
from typing import Literal

from psycopg.rows import class_row

from adapters.day_partitions import DayPartition, Pruner, StillRead, expired, list_partitions
from adapters.postgres import Connection, read_queries

PACKAGE, FILE = "adapters", "retention.sql"

BY_DAY = ("traceflow_events", "session_recording_chunks")
BY_ROW: Mapping[str, Literal["sessions", "recordings"]] = {
    "session_recordings": "recordings",
    "traceflow_sessions": "sessions",
}
"""Tables whose rows are deleted one by one, and how the queries call them."""

FEWEST_DAYS = 15
"""As the table's constraint: 7 days until an event arrives, 7 in the log, and the day within which it began."""

MAX_CLOCK_GAP_S = 3_600.0
"""Clocks that are right are seconds apart, a slow answer included; a smaller error only moves the end of a day."""

BATCH_ROWS = 200
"""A batch of sessions takes 10 ms, so a sink that waits for one does not notice."""

GOES_WITH_SESSION = ("lock_issues", "delete_findings", "delete_links", "delete_jobs", "delete_recordings")
"""In the order in which sinks lock: sessions, which are locked before, then issues, then what hangs on them."""


class ClocksDisagree(Exception):
    """The server's clock and this machine's are apart: the days that go would be those of a wrong one."""


class ClockLeapt(Exception):
    """The server's clock is more than a week after the day that retention counted from last."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days before today each is kept; None: for ever."""

    events: int | None = None
    recordings: int | None = None
    """Chunks and the rows of recordings."""
    sessions: int | None = None

    def objection(self) -> str | None:
        """Return what the table's constraints would say, None if nothing."""
        if any(days is not None and days < FEWEST_DAYS for days in astuple(self)):
            return f"an event may arrive 7 days old, and lies in the log for 7: keep {FEWEST_DAYS} days at least"
        if self.sessions is not None and not all(
            days is not None and days <= self.sessions for days in (self.events, self.recordings)
        ):
            return "a session's counters are about its rows: keep sessions at least as long as events and recordings"
        return None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A partition that went, or would go."""

    partition: DayPartition


@dataclass(frozen=True, slots=True)
class Deleted:
    """Rows of a table that went, or would go."""

    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class Left:
    """What could not go yet."""

    reason: str


Step = Dropped | Deleted | Left


def read_retention(connection: Connection) -> Retention:
    """Return what is kept."""
    with connection.cursor(row_factory=class_row(Retention)) as cursor:
        (found,) = cursor.execute(read_queries(PACKAGE, FILE)["read"]).fetchall()
    return found


def keep(connection: Connection, retention: Retention) -> None:
    """Keep that from now on; it is applied by the next prune.

    Raises:
        CheckViolation: see `Retention.objection`.
    """
    wanted = {"events": retention.events, "recordings": retention.recordings, "sessions": retention.sessions}
    connection.execute(read_queries(PACKAGE, FILE)["keep"], wanted)


def first_days_kept(connection: Connection) -> dict[str, date | None]:
    """Return for each table the first day that is kept, None if all are."""
    tables = [*BY_DAY, *BY_ROW]
    return dict(connection.execute(read_queries(PACKAGE, FILE)["kept_since"], {"tables": tables}).fetchall())


@dataclass(frozen=True, slots=True)
class Calendar:
    """Two days in UTC that are one, unless the clock leapt."""

    counted_from: date
    """From which retention counts back."""
    clock: date
    """As the server's clock says."""

    def leap(self) -> str:
        """Say that the clock leapt, and who may do what."""
        return (
            f"the database's clock says {self.clock}, and retention counts from {self.counted_from}: it follows a week "
            "at most, so nothing more goes until somebody says that it is that day: "
            "traceflow partitions prune --today YYYY-MM-DD"
        )


def follow_clock(connection: Connection, *, clock: Callable[[], float] = time.time) -> None:
    """Count from today; `clock` is this machine's.

    Raises:
        ClocksDisagree: the two clocks are apart.
        ClockLeapt: today is more than a week after the day that was counted from.
    """
    _require_one_time(connection, clock)
    connection.execute(read_queries(PACKAGE, FILE)["follow_clock"])
    now = calendar(connection)
    if now.counted_from < now.clock:
        raise ClockLeapt(now.leap())


def believe_clock(connection: Connection) -> None:
    """Count from today however far the clock leapt: somebody says that it is right. For the tables' owner."""
    connection.execute(read_queries(PACKAGE, FILE)["believe_clock"])


def calendar(connection: Connection) -> Calendar:
    """Return from which day is counted, and which one the clock says."""
    (row,) = connection.execute(read_queries(PACKAGE, FILE)["calendar"]).fetchall()
    return Calendar(*row)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns the tables: detaching a partition takes the owner, deleting a row at least a right."""

    owner: str
    is_ours: bool
    """Whether the login is the owner, or a member."""


def ownership(connection: Connection) -> Ownership:
    """Return who may prune."""
    (row,) = connection.execute(read_queries(PACKAGE, FILE)["owner"]).fetchall()
    return Ownership(*row)


def would_prune(connection: Connection, kept_since: Mapping[str, date | None]) -> Iterator[Step]:
    """Yield what `prune` would do, and change nothing."""
    for old in expired(list_partitions(connection), kept_since=_by_day(kept_since)).values():
        yield from map(Dropped, old)
    for table, name in BY_ROW.items():
        if (since := kept_since.get(table)) is not None:
            (row,) = connection.execute(read_queries(PACKAGE, FILE)[f"expired_{name}"], {"since": since}).fetchall()
            if row[0]:
                yield Deleted(table, row[0])


def prune(connection: Connection, kept_since: Mapping[str, date | None], *, wait_s: float) -> Iterator[Step]:
    """Drop partitions and delete rows of days before the first one that their table keeps; yield each step done.

    The connection is in autocommit mode and the owner's. `wait_s` is waited for transactions that began before. Whoever
    reads no further step stops it there; the lock is held until the connection ends.

    Raises:
        AnotherPrunes: somebody else does.
    """
    pruner = Pruner(connection, wait_s=wait_s)
    for old in pruner.expired(_by_day(kept_since)).values():
        try:
            for partition in old:
                pruner.drop(partition)
                yield Dropped(partition)
        except StillRead as error:
            yield Left(str(error))
    for table in BY_ROW:
        if (since := kept_since.get(table)) is not None:
            for rows in _delete_batches(connection, table, since):
                yield Deleted(table, rows)


def _require_one_time(connection: Connection, clock: Callable[[], float]) -> None:
    ours_s = clock()
    (row,) = connection.execute(read_queries(PACKAGE, FILE)["now"]).fetchall()
    if abs(row[0] - ours_s) > MAX_CLOCK_GAP_S:
        server, ours = (datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M") for at_s in (row[0], ours_s))
        raise ClocksDisagree(
            f"it is {server} UTC for the database server and {ours} here: nothing is dropped by a clock that is wrong; "
            "set it right"
        )


def _by_day(kept_since: Mapping[str, date | None]) -> dict[str, date | None]:
    return {table: kept_since.get(table) for table in BY_DAY}


def _delete_batches(connection: Connection, table: str, since: date) -> Iterator[int]:
    """Delete the expired rows of a table batch by batch; yield how many rows each one had.

    Each batch begins where the last one ended: the index still holds what was deleted, for as long as any transaction
    might see it, and would have to be read again.
    """
    queries = read_queries(PACKAGE, FILE)
    name = BY_ROW[table]
    with_it = GOES_WITH_SESSION if name == "sessions" else ()
    after, after_id = "-infinity", ""
    while True:
        with connection.transaction():
            place = {"since": since, "after": after, "after_id": after_id, "rows": BATCH_ROWS}
            found = connection.execute(queries[f"next_{name}"], place).fetchall()
            session_ids = [session_id for session_id, _ in found]
            if found:
                for query in (*with_it, f"delete_{name}"):
                    connection.execute(queries[query], {"session_ids": session_ids})
        if found:
            after_id, after = found[-1]
            yield len(found)
        if len(found) < BATCH_ROWS:
            return
