"""Days: what 400 partitions of each table cost those who write, and those who ask.

Two databases, written in turn by the sinks' own writers as the sinks' role: one with all there is and 400 days of
events and of recording chunks, one with 8 days, whose events are not counted by the hour. The cost of
a batch is the CPU time of this process and of its backend, which other work on the machine does not change much; the
speed is its inverse.

Then what it takes to plan each question of the dictionary over 400 days: a plan has to look at all of them to leave
them out.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

import orjson
import psycopg
from prometheus_client import CollectorRegistry
from psycopg import sql
from pydantic import SecretStr

from adapters.dead_letters import ParkedRecord
from adapters.kafka_consumer import ConsumedRecord, TopicIdentity
from adapters.postgres import Connection, connect, parse_queries
from deploy.bench.batches import EVENTS_PER_BATCH, PROJECT_ID, batch
from deploy.bench.cpu import thread_cpu_seconds
from deploy.bench.lab import Lab
from deploy.bench.report import Line, Result, middle
from deploy.bench.sink import NoHours
from schemas.connections import DatabaseSettings
from schemas.ids import session_key, session_row_id
from schemas.messages import FORMAT, META_HEADER, Kind, RecordingSummary, SessionSnapshot, encode
from sinks.app import SINKS
from sinks.commit.batching import BatchLimits, Collector
from sinks.commit.offsets import Offsets
from sinks.commit.writer import Writer
from sinks.contract.sink import Prepared
from sinks.metrics import declare_metrics
from sinks.settings import SinkSettings
from sinks.tables.event_hours import EventHoursTable

MANY, FEW = 400, 8
AHEAD = 3
"""Of both: what is written falls into the newest days."""

ROUNDS = 7
MIN_RATIO = 0.9
MAX_PLANNING_MS = 250.0
"""A question is asked by a person; a plan over 400 days takes some tens of ms."""

RECORDS = 500
"""Records of events a round, 20 events each."""
SESSIONS = 200
"""Sessions that write in a round; each sends two chunks and closes."""


class _Refuses:
    """Nothing of this may be parked; see `sinks.commit.writer.Letters`."""

    def park(self, parked: Iterable[ParkedRecord]) -> None:
        """Refuse."""
        if refused := list(parked):
            raise RuntimeError(f"{len(refused)} rows were refused: {refused[0].reason}, {refused[0].detail}")


class _Writing:
    """One sink on one database."""

    def __init__(self, name: str, url: str, *, hours: EventHoursTable) -> None:
        self._sink = SINKS[name]()
        settings = SinkSettings(role="traceflow_sink").session()
        database = DatabaseSettings(url=SecretStr(url))
        self._opened: list[Connection] = []

        def opened() -> Connection:
            self._opened.append(connect(database, application_name=f"bench {name}", session=settings))
            return self._opened[-1]

        self.writer: Writer[Any] = Writer(
            sink=self._sink,
            offsets=Offsets(sink=name, topic=TopicIdentity(name, "bench", 1), owner=f"bench {name}"),
            connect=opened,
            letters=_Refuses(),
            metrics=declare_metrics(CollectorRegistry()),
            hours=hours,
        )
        claim = self.writer.claim({0: 0})[0]
        self._epochs = {0: claim.epoch}
        self._collector: Collector[Prepared[Any]] = Collector(BatchLimits(), {0: claim.next_offset})
        self._offsets = itertools.count(claim.next_offset)

    def cost_s(self, records: Sequence[ConsumedRecord]) -> float:
        """Prepare and write records as the loop does, and return the CPU seconds of both sides."""
        server = partial(thread_cpu_seconds, self._opened[-1].info.backend_pid)
        began, of_server = time.process_time(), server()
        for record in records:
            self._add(record)
            if self._collector.full():
                self.writer.write(self._collector.take(), self._epochs)
        self.writer.write(self._collector.take(), self._epochs)
        return time.process_time() - began + server() - of_server

    def _add(self, record: ConsumedRecord) -> None:
        item = self._sink.prepare(record)
        self._collector.add(
            item,
            partition=0,
            offset=next(self._offsets),
            rows=item.rows if item else 0,
            size_bytes=item.size_bytes if item else 0,
            timestamp=record.timestamp,
        )


@dataclass(frozen=True, slots=True)
class Load:
    """What one sink is given in a round."""

    what: str
    sink: str
    rows: int
    records: Callable[[int], Iterator[ConsumedRecord]]


def run(lab: Lab) -> Result:
    """Fill both databases in turn and compare; then plan."""
    with lab.database() as few, lab.database() as many:
        prepare_few(few)
        made_s = prepare_many(many)
        lines = [_compare(load, few, many) for load in LOADS]
        plans = list(_plans(many))
    return Result("days", [*lines, *plans, Line("to make 400 days", made_s, "s")], {"rounds": ROUNDS})


def prepare_few(url: str) -> None:
    """Leave 8 days."""
    with psycopg.connect(url, autocommit=True) as connection:
        _add_project(connection)
        for (leaf,) in connection.execute(_LEAVES, {"first": AHEAD - FEW + 1, "last": AHEAD}).fetchall():
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("traceflow_parts", leaf)))


def prepare_many(url: str) -> float:
    """Make 400 days; return how long it took. A few at a time: all in one transaction would need 8,000 locks."""
    began = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        _add_project(connection)
        for last in range(AHEAD - MANY + 1, AHEAD + 1, 20):
            connection.execute(_ENSURE, {"first": last, "last": min(AHEAD, last + 19)})
        for (leaf,) in connection.execute(_LEAVES, {"first": AHEAD - MANY + 1, "last": AHEAD}).fetchall():
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("traceflow_parts", leaf)))
    return time.monotonic() - began


_ENSURE = """
SELECT traceflow_parts.ensure_days(today + %(first)s::integer, today + %(last)s::integer)
FROM traceflow_parts.today() AS today
"""
_LEAVES = """
SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent IN ('public.traceflow_events'::regclass, 'public.session_recording_chunks'::regclass)
  AND to_date(right(relname, 8), 'YYYYMMDD') - traceflow_parts.today()
    NOT BETWEEN %(first)s::integer AND %(last)s::integer
"""


def _add_project(connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
    connection.execute("INSERT INTO traceflow_projects (id, name) VALUES (%s, 'bench')", (PROJECT_ID,))


def _compare(load: Load, few: str, many: str) -> Line:
    """Write each round into both, now one first and now the other."""
    writings = {
        few: _Writing(load.sink, few, hours=NoHours()),
        many: _Writing(load.sink, many, hours=EventHoursTable()),
    }
    costs: dict[str, list[float]] = {few: [], many: []}
    with closing(writings[few].writer), closing(writings[many].writer):
        for number in range(ROUNDS + 1):
            records = list(load.records(number))
            for url in (few, many) if number % 2 else (many, few):
                cost_s = writings[url].cost_s(records)
                if number:  # the first round fills the caches
                    costs[url].append(cost_s)
    ratio = middle([less / more for less, more in zip(costs[few], costs[many], strict=True)])
    each_us = {url: middle(costs[url]) * 1e6 / load.rows for url in (few, many)}
    return Line(
        f"speed of {load.what}",
        ratio,
        "of that with 8 days, no hours",
        f"≥ {MIN_RATIO}",
        ratio >= MIN_RATIO,
        f"{each_us[many]:.1f} µs of CPU each, {each_us[few]:.1f} with 8 days",
    )


def _events(round_number: int) -> Iterator[ConsumedRecord]:
    now_ms = time.time_ns() // 1_000_000 - 3_600_000
    for number in range(round_number * RECORDS, (round_number + 1) * RECORDS):
        key, value = batch(number, sessions=2_000, now_ms=now_ms)
        yield _record(value, key=key, kind=Kind.EVENTS)


def _chunks(round_number: int) -> Iterator[ConsumedRecord]:
    at = time.time_ns() // 1_000_000
    for session, seq in itertools.product(range(SESSIONS), range(2)):
        session_id = f"recorded-{round_number}-{session}"
        meta = {"v": FORMAT, "project_id": PROJECT_ID, "session_id": session_id, "window_id": "w", "seq": seq}
        meta |= {"codec": "json", "received_at": at, "encoding": "identity", "settings": {"version": 1}}
        events = [{"type": 3, "timestamp": at, "data": {"source": 1, "text": "lamp " * 20}} for _ in range(40)]
        key = session_key(PROJECT_ID, session_id)
        yield _record(orjson.dumps(events), key=key, kind=Kind.CHUNK, headers=((META_HEADER, orjson.dumps(meta)),))


def _closings(round_number: int) -> Iterator[ConsumedRecord]:
    at = time.time_ns() // 1_000_000
    summary = RecordingSummary(start_time=at, end_time=at, duration_ms=0, event_count=80, page_count=1)
    for session in range(SESSIONS):
        session_id = f"recorded-{round_number}-{session}"
        snapshot = SessionSnapshot(
            id=session_row_id(PROJECT_ID, session_id),
            project_id=PROJECT_ID,
            session_id=session_id,
            version=1,
            life=0,
            started_at=at,
            ended_at=at,
            duration_ms=0,
            closed=True,
            recording=summary,
        )
        yield _record(encode(snapshot), key=session_key(PROJECT_ID, session_id))


def _record(value: bytes, *, key: bytes, kind: str = "", headers: tuple[tuple[str, bytes], ...] = ()) -> ConsumedRecord:
    return ConsumedRecord(
        partition=0, offset=0, timestamp=time.time_ns() // 1_000_000, kind=kind, key=key, value=value, headers=headers
    )


LOADS = (
    Load("events", "events", RECORDS * EVENTS_PER_BATCH, _events),
    Load("recording chunks", "recordings", SESSIONS * 2, _chunks),
    Load("sessions that close, with their recordings", "sessions", SESSIONS, _closings),
)


def _plans(url: str) -> Iterator[Line]:
    """Measure what planning takes, once the catalog is in the connection's cache."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
        for name, question in parse_queries((files("deploy") / "docs" / "questions.sql").read_text()).items():
            planning_ms = middle([_planning_ms(connection, question) for _ in range(ROUNDS)])
            is_met = planning_ms <= MAX_PLANNING_MS
            yield Line(f"planning: {name}", planning_ms, "ms of CPU", f"≤ {MAX_PLANNING_MS:.0f}", is_met)


def _planning_ms(connection: "psycopg.Connection[tuple[Any, ...]]", question: bytes) -> float:
    """Return the CPU time of a backend that explains a question and does not ask it."""
    pid = connection.info.backend_pid
    before = thread_cpu_seconds(pid)
    # a question of our own page, not something that came from outside
    connection.execute(sql.SQL("EXPLAIN {}").format(sql.SQL(question.decode()))).fetchall()
    return (thread_cpu_seconds(pid) - before) * 1e3
