"""Make the partitions that `days` allows: those around today hourly, an older one when a row needs it."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime

from adapters.postgres import Connection, read_queries
from sinks.contract.days import NOT_KEPT, DayWindow, date_day, day_date, epoch_day
from sinks.contract.verdicts import Refusal
from sinks.metrics import SinkMetrics

PARTITIONED_TABLES = ("public.traceflow_events", "public.session_recording_chunks")


@dataclass(slots=True)
class DayPartitions:
    """Knows which days of one table have a partition, and makes those that may have one."""

    window: DayWindow = field(default_factory=DayWindow)
    today: Callable[[], int] = lambda: epoch_day(int(datetime.now(UTC).timestamp() * 1000))
    closed: dict[int, Refusal] = field(default_factory=dict)
    """Days that were asked for last and can have no partition."""
    _ready: set[int] = field(default_factory=set)
    _asked_on: int = 0
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.lifecycle", "partitions.sql"))

    def open(self, connection: Connection, table: str, days: AbstractSet[int]) -> None:
        """Make the partitions of these days that are missing, outside any transaction."""
        today = self.today()
        if today != self._asked_on:  # the oldest day is kept no longer
            self._asked_on = today
            self.forget()
        unknown = days - self._ready
        self.closed = {}
        if not unknown:
            return
        kept_since = self._kept_since(connection, table)
        for day in sorted(unknown):
            refusal = self.window.refusal(day, today=today, kept_since=kept_since)
            if refusal is None and self._has_none(connection, table, day):
                refusal = NOT_KEPT
            if refusal is None:
                self._ready.add(day)
            else:
                self.closed[day] = refusal

    def _kept_since(self, connection: Connection, table: str) -> int | None:
        row = connection.execute(self._queries["kept_since"], {"parent": table}).fetchone()
        return None if row is None or row[0] is None else date_day(row[0])

    def _has_none(self, connection: Connection, table: str, day: int) -> bool:
        """Make the day's partition if it is missing; return whether it can have none."""
        row = connection.execute(self._queries["ensure_day"], {"parent": table, "day": day_date(day)}).fetchone()
        return row is None or row[0] is None

    def forget(self) -> None:
        """Ask again: a partition that was there may be gone."""
        self._ready.clear()


@dataclass(slots=True)
class MakeDaysAhead:
    """The chore that makes the days around today and measures how far they reach; see `housekeeping.Work`."""

    metrics: SinkMetrics
    window: DayWindow = field(default_factory=DayWindow)

    def __call__(self, connection: Connection, *, may_go_on: Callable[[], bool]) -> None:  # noqa: ARG002 — it is short
        """Make what is missing now."""
        queries = read_queries("sinks.lifecycle", "partitions.sql")
        connection.execute(queries["ensure_days"], {"behind": self.window.behind, "ahead": self.window.ahead})
        for table in PARTITIONED_TABLES:
            row = connection.execute(queries["days_ahead"], {"parent": table}).fetchone()
            if row is not None:
                self.metrics.days_ahead.labels(table.removeprefix("public.")).set(row[0])
        for table, days in connection.execute(queries["oldest_days"]):
            self.metrics.oldest_days.labels(table).set(days)
