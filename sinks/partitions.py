"""Make the partitions that `days` allows: those around today hourly, an older one when a row needs it."""

import threading
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
import structlog

from adapters.postgres import Connection, DatabaseRefused, read_queries
from sinks.days import DayWindow, day_date, epoch_day
from sinks.metrics import SinkMetrics

PARTITIONED_TABLES = ("public.traceflow_events", "public.session_recording_chunks")

log = structlog.get_logger()


@dataclass(slots=True)
class DayPartitions:
    """Knows which days of one table have a partition, and makes those that may have one."""

    window: DayWindow = field(default_factory=DayWindow)
    today: Callable[[], int] = lambda: epoch_day(int(datetime.now(UTC).timestamp() * 1000))
    closed: set[int] = field(default_factory=set)
    """Days that were asked for and can have no partition."""
    _ready: set[int] = field(default_factory=set)
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks", "partitions.sql"))

    def open(self, connection: Connection, table: str, days: AbstractSet[int]) -> None:
        """Make the partitions of these days that are missing, outside any transaction."""
        unknown = days - self._ready
        if not unknown:
            return
        allowed = self.window.open_days(unknown, today=self.today())
        for day in sorted(allowed):
            connection.execute(self._queries["ensure_day"], {"parent": table, "day": day_date(day)})
        self._ready |= allowed
        self.closed = (self.closed | unknown) - self._ready

    def forget(self) -> None:
        """Ask again: a partition that was there is gone."""
        self._ready.clear()


class PartitionKeeper:
    """Makes the days around today at the start and hourly, on a thread and connection of its own."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        metrics: SinkMetrics,
        window: DayWindow | None = None,
        interval_s: float = 3_600.0,
        retry_s: float = 10.0,
    ) -> None:
        self._connect = connect
        self._metrics = metrics
        self._window = window or DayWindow()
        self._interval_s = interval_s
        self._retry_s = retry_s
        self._queries = read_queries("sinks", "partitions.sql")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="partitions", daemon=True)

    def start(self) -> None:
        """Begin; the first round runs at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the round that is running."""
        self._stop.set()
        self._thread.join()

    def keep(self, tables: Iterable[str] = PARTITIONED_TABLES) -> None:
        """Make what is missing now, and measure how far ahead the partitions reach."""
        with self._connect() as connection:
            connection.execute(
                self._queries["ensure_days"], {"behind": self._window.behind, "ahead": self._window.ahead}
            )
            for table in tables:
                row = connection.execute(self._queries["days_ahead"], {"parent": table}).fetchone()
                if row is not None:
                    self._metrics.days_ahead.labels(table.removeprefix("public.")).set(row[0])

    def _run(self) -> None:
        delay_s = 0.0
        while not self._stop.wait(delay_s):
            try:
                self.keep()
                delay_s = self._interval_s
            except (psycopg.Error, DatabaseRefused) as error:
                log.warning("partitions_not_kept", error=str(error))
                delay_s = self._retry_s
