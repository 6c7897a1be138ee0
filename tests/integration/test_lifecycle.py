"""A year, day by day: ingestion runs, late data comes, somebody reads for weeks, and old days go all the same.

Today is what `traceflow_parts.today()` says, which here reads it from a table; rows go through the sinks' own writers,
and what sinks do hourly is done once a day.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date

import orjson
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, connect
from schemas.connections import DatabaseSettings
from schemas.ids import session_row_id
from schemas.messages import SessionSnapshot
from sinks.contract.days import DAY_MS, date_day, day_date
from sinks.lifecycle.partitions import MakeDaysAhead
from sinks.lifecycle.retention import ApplyRetention
from sinks.metrics import declare_metrics
from tests.integration.sink_bench import PROJECT, SinkBench, add_project, event, execute, query

FIRST, DAYS = date_day(date(2031, 1, 1)), 365
EVENTS, RECORDINGS, SESSIONS = 40, 20, 60
"""Days that are kept."""
READS = range(FIRST + 100, FIRST + 115)
"""The days on which somebody holds a snapshot of all rows, taken on the first of them."""
WATCHED = FIRST + 110
"""The day on which a round waits for the reader for longer than a batch takes."""

BATCHES_WHILE_WATCHED = 10
LONGEST_STALL_S = 5.0
"""A batch takes some 10 ms; a machine that does other things besides may take a second."""

NOON_MS = DAY_MS // 2
LIVES_ON = "lives on"

INJECT = """
CREATE TABLE public.simulated (day DATE NOT NULL);
INSERT INTO public.simulated VALUES ('2031-01-01');
UPDATE public.traceflow_retention SET counted_from = '2031-01-01';
CREATE OR REPLACE FUNCTION traceflow_parts.today() RETURNS DATE LANGUAGE sql STABLE SET search_path = '' AS $$
  SELECT day FROM public.simulated
$$;
"""


@dataclass
class Ingestion:
    """Writes batches for the present day, and keeps account."""

    url: str
    today: int = FIRST
    written: Counter[int] = field(default_factory=Counter)
    """Rows of events by their day."""
    late: Counter[str] = field(default_factory=Counter)
    """Rows that came for a day that is kept no longer, by sink."""
    turns: int = 0
    longest_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.benches = {name: SinkBench(self.url, name) for name in ("events", "recordings", "sessions")}
        for bench in self.benches.values():
            bench.writer.days.today = lambda: self.today

    def turn(self) -> None:
        """Write a batch of each sink: rows of today, of days before, and now and then of a day long gone."""
        day, number = self.today, self.turns
        ages = [0, 0, 3, 7, 30, *([EVENTS + 10] if number % 5 == 0 else [])]
        bench = self.benches["events"]
        at = [self._event(100 * number + place, day - age) for place, age in enumerate(ages)]
        records = [bench.events([made], session=session_of(day - age)) for made, age in zip(at, ages, strict=True)]
        self._write("events", [*records, bench.events([self._event(100 * number + 99, day)], session=LIVES_ON)])
        self.written.update(day - age for age in [0, *ages] if age <= EVENTS)
        self.late["events"] += sum(age > EVENTS for age in ages)
        ages = [0, 10, *([RECORDINGS + 10] if number % 5 == 0 else [])]
        self._write("recordings", [self._chunk(number, day - age) for age in ages])
        self.late["recordings"] += sum(age > RECORDINGS for age in ages)
        self._write("sessions", [self._snapshot(session_of(day), day), self._snapshot(LIVES_ON, day)])
        self.turns += 1

    def _write(self, sink: str, records: list[ConsumedRecord]) -> None:
        began = time.monotonic()
        self.benches[sink].write(records)
        self.longest_s[sink] = max(self.longest_s.get(sink, 0.0), time.monotonic() - began)

    @staticmethod
    def _event(number: int, day: int) -> dict[str, object]:
        return event(number, timestamp=day * DAY_MS + NOON_MS)

    def _chunk(self, number: int, day: int) -> ConsumedRecord:
        at = day * DAY_MS + NOON_MS
        meta = {"v": 1, "project_id": PROJECT, "session_id": session_of(day), "window_id": f"w{number}", "seq": 0}
        header = meta | {"codec": "json", "received_at": at, "encoding": "identity", "settings": {"version": 1}}
        body = orjson.dumps([{"type": 3, "timestamp": at, "data": {}}])
        key = f"{PROJECT}/{session_of(day)}".encode()
        return self.benches["recordings"].record(body, key=key, kind="chunk", meta=orjson.dumps(header))

    def _snapshot(self, session: str, day: int) -> ConsumedRecord:
        at = day * DAY_MS + NOON_MS
        snapshot = SessionSnapshot(
            id=session_row_id(PROJECT, session),
            project_id=PROJECT,
            session_id=session,
            version=self.turns,
            life=0,
            started_at=FIRST * DAY_MS if session == LIVES_ON else at,
            ended_at=at,
            duration_ms=0,
            closed=True,
        )
        return self.benches["sessions"].message(snapshot)


def session_of(day: int) -> str:
    return f"of {day_date(day)}"


class Running:
    """Ingestion on a thread of its own: as many turns a day as it is given, until the block ends."""

    def __init__(self, ingestion: Ingestion) -> None:
        self.ingestion = ingestion
        self._given = threading.Semaphore(0)
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "Running":
        self._done = self._pool.submit(self._run)
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._given.release()
        self._done.result(60)
        self._pool.shutdown()

    def _run(self) -> None:
        while self._given.acquire() and not self._is_over.is_set():
            self.ingestion.turn()

    def give(self, turns: int) -> int:
        """Let so many turns begin; return how many there will have been after them."""
        self._given.release(turns)
        return self.ingestion.turns + turns

    def wait_for(self, turns: int) -> None:
        """Wait until there have been so many turns."""
        ends = time.monotonic() + 60
        while self.ingestion.turns < turns:
            assert not self._done.done(), self._done.exception()
            assert time.monotonic() < ends, "ingestion stands still"
            time.sleep(0.001)


class Chores:
    """What a sink process does hourly, on one connection: a new one each time would be most of the work here."""

    def __init__(self, held: Connection) -> None:
        metrics = declare_metrics(CollectorRegistry())
        self._held = held
        self._ahead, self._retention = MakeDaysAhead(metrics), ApplyRetention(metrics)

    def round(self, *, wait_s: float = 0.2) -> None:
        self._retention.wait_s = wait_s
        for work in (self._ahead, self._retention):
            self._held.execute("RESET lock_timeout")
            work(self._held, may_go_on=lambda: True)


def connection(url: str) -> Connection:
    return connect(DatabaseSettings(url=SecretStr(url)), application_name="test-lifecycle")


def days_of(url: str, table: str) -> list[tuple[int, bool]]:
    """Return each day that has a table, and whether it is a partition on its way out, or no longer one."""
    rows = query(
        url,
        "SELECT to_date(right(relname, 8), 'YYYYMMDD'), coalesce(inhdetachpending, true)"
        " FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid"
        " WHERE relnamespace = 'traceflow_parts'::regnamespace AND relkind = 'r' AND relname ~ %s ORDER BY 1",
        f"^{table}_[0-9]{{8}}$",
    )
    return [(date_day(day), is_leaving) for day, is_leaving in rows]


def span(first: int, last: int) -> list[tuple[int, bool]]:
    return [(day, False) for day in range(first, last + 1)]


@pytest.mark.timeout(300)
def test_a_year_of_days_comes_and_goes_while_rows_come_and_somebody_reads(
    database: str, record_property: Callable[[str, object], None]
) -> None:
    add_project(database)
    execute(database, INJECT)
    keep = "UPDATE traceflow_retention SET events_days = %s, recordings_days = %s, sessions_days = %s"
    execute(database, keep, EVENTS, RECORDINGS, SESSIONS)
    ingestion = Ingestion(database)
    with connection(database) as own, Running(ingestion) as running, closing(psycopg.connect(database)) as reader:
        chores = Chores(own)
        chores.round()
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for day in range(FIRST, FIRST + DAYS):
            execute(database, "UPDATE simulated SET day = %s", day_date(day))
            ingestion.today = day
            if day == READS.start:
                seen = count_of_all(reader)
            if day == WATCHED:
                before = ingestion.turns
                due = running.give(BATCHES_WHILE_WATCHED)
                chores.round(wait_s=2.0)
                turns_while_waiting = ingestion.turns - before
            else:
                due = running.give(1)
                chores.round()
            if day == READS.stop - 1:
                assert days_of(database, "traceflow_events")[0] == (READS.start - EVENTS - 1, True)
                assert count_of_all(reader) == seen
                reader.rollback()
            running.wait_for(due)
        chores.round(wait_s=10.0)
    last = FIRST + DAYS - 1
    stalls = ", ".join(f"{sink} {seconds * 1000:.0f} ms" for sink, seconds in ingestion.longest_s.items())
    print(f"\n{ingestion.turns} batches of each sink; longest: {stalls}; {turns_while_waiting} while a prune waited")
    record_property("longest_stall_s", max(ingestion.longest_s.values()))

    assert turns_while_waiting == BATCHES_WHILE_WATCHED
    assert max(ingestion.longest_s.values()) < LONGEST_STALL_S
    assert {name: bench.writer.failures for name, bench in ingestion.benches.items()} == dict.fromkeys(
        ingestion.benches, 0
    )
    for name, bench in ingestion.benches.items():
        assert Counter(reason for reason, _, _ in bench.reasons()) == Counter(
            {"day_not_kept": ingestion.late[name]} if ingestion.late[name] else {}
        )
        bench.close()

    assert days_of(database, "traceflow_events") == span(last - EVENTS, last + 7)
    assert days_of(database, "session_recording_chunks") == span(last - RECORDINGS, last + 7)
    by_day = query(
        database, "SELECT (\"timestamp\" AT TIME ZONE 'UTC')::date, count(*) FROM traceflow_events GROUP BY 1"
    )
    assert {date_day(day): count for day, count in by_day} == {
        day: count for day, count in ingestion.written.items() if day >= last - EVENTS
    }
    assert names(database, "traceflow_sessions") == {
        LIVES_ON,
        *(session_of(day) for day in range(last - SESSIONS, last + 1)),
    }
    assert names(database, "session_recordings") == {session_of(day) for day in range(last - RECORDINGS, last + 1)}
    miscounted = (
        "SELECT s.session_id FROM traceflow_sessions s WHERE s.started_at >= %s AND s.event_count <>"
        " (SELECT count(*) FROM traceflow_events e WHERE e.session_id = s.session_id)"
    )
    assert query(database, miscounted, f"{day_date(last - EVENTS)}T00:00Z") == []


def count_of_all(reader: "psycopg.Connection[tuple[object, ...]]") -> object:
    return reader.execute(
        "SELECT (SELECT count(*) FROM traceflow_events), (SELECT count(*) FROM session_recording_chunks)"
    ).fetchone()


def names(url: str, table: str) -> set[str]:
    return {name for (name,) in query(url, f"SELECT session_id FROM {table}")}  # noqa: S608 # ours
