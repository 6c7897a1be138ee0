"""The events sink beside plain COPY of the same rows into the same partitioned, indexed table.

And what its counting of events by the hour costs: its own code writes the same batches with it and without, by turns.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from adapters.dead_letters import ParkedRecord
from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Cursor
from deploy.bench.batches import EVENTS_PER_BATCH, PROJECT_ID, batches, fill
from deploy.bench.cpu import cpu_seconds, process_tree
from deploy.bench.lab import Lab, wait_for
from deploy.bench.report import Line, Result, middle
from sinks.app import Environment
from sinks.commit.batching import Span
from sinks.repair.by_hand import OwnsNothing, batch_by_hand, writer_by_hand
from sinks.tables.copy_text import EVENT_COLUMNS
from sinks.tables.event_hours import EventHoursTable
from sinks.topics.events import EventsSink

BATCHES = 10_000
SESSIONS = 2_000
PARTITIONS = 4
ROWS = BATCHES * EVENTS_PER_BATCH
ROWS_PER_COPY = 5_000
ROUNDS = 2
MIN_RATIO = 0.8
HOURS_BATCHES = 4_000
HOURS_ROUNDS = 4
MIN_HOURS_RATIO = 0.95
MAX_CPU_S = 45.0


def run(lab: Lab) -> Result:
    """Alternate both, each into a fresh database, and compare."""
    sink: list[tuple[float, float, float]] = []
    copy: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS):
        copy.append(_plain_copy(lab))
        sink.append(_sink(lab))
    rate = middle([ROWS / wall for wall, _, _ in sink])
    copy_rate = middle([ROWS / wall for wall, _, _ in copy])
    ratio = middle([a[0] / b[0] for a, b in zip(copy, sink, strict=True)])
    cpu = middle([(own + server) * 1e6 / ROWS for _, own, server in sink])
    hours = sum(_by_hand(lab, NoHours()) / _by_hand(lab, EventHoursTable()) for _ in range(HOURS_ROUNDS)) / HOURS_ROUNDS
    return Result(
        "sink",
        [
            Line("events sink", rate, "rows/s"),
            Line("plain COPY of lines made before", copy_rate, "rows/s"),
            Line("ratio", ratio, "", f"≥ {MIN_RATIO}", ratio >= MIN_RATIO),
            Line("CPU, Postgres included", cpu, "s per million rows", f"≤ {MAX_CPU_S:.0f}", cpu <= MAX_CPU_S),
            Line("CPU of the sink alone", middle([own * 1e6 / ROWS for _, own, _ in sink]), "s per million rows"),
            Line("CPU of plain COPY", middle([s * 1e6 / ROWS for _, _, s in copy]), "s per million rows"),
            Line(
                "rows a CPU second, counted by the hour",
                hours,
                "of those that are not",
                f"≥ {MIN_HOURS_RATIO}",
                hours >= MIN_HOURS_RATIO,
            ),
        ],
        {"rows": ROWS, "sessions": SESSIONS, "rounds": ROUNDS},
    )


def _server_cpu(url: str) -> Callable[[], float]:
    """Return a meter of the database server: the backends that ended are in their parent's account."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    pid = int(str(row[0] if row else "").split()[0])
    return lambda: cpu_seconds(process_tree(pid))


def _sink(lab: Lab) -> tuple[float, float, float]:
    with lab.topics(partitions=PARTITIONS) as prefix, lab.database() as url:
        _add_project(url)
        fill(lab.target.kafka_bootstrap, prefix, batches(count=BATCHES, sessions=SESSIONS, partitions=PARTITIONS))
        server = _server_cpu(url)
        with lab.process(
            ("sinks", "events"), prefix=prefix, partitions=PARTITIONS, TRACEFLOW_DATABASE_URL=url
        ) as worker:

            def stored() -> float:
                return worker.metric("traceflow_sink_rows_total")

            began, before = time.monotonic(), stored()
            own, of_server = cpu_seconds(process_tree(worker.pid)), server()
            wait_for(lambda: stored() >= ROWS, what="all rows", deadline_s=300)
            wall = time.monotonic() - began
            own, of_server = cpu_seconds(process_tree(worker.pid)) - own, server() - of_server
    # what was stored before it said that it is ready was not measured
    share = (ROWS - before) / ROWS
    return wall / share, own / share, of_server / share


class _Always(OwnsNothing):
    """No offset is kept: see `sinks.commit.writer.Progress`."""

    def advance(self, cursor: Cursor, spans: Mapping[int, Span], epochs: Mapping[int, int]) -> bool:  # noqa: ARG002
        """Go on."""
        return True


class _NoLetters:
    """Nothing is parked: see `sinks.commit.writer.Letters`."""

    def park(self, parked: Iterable[ParkedRecord]) -> None:
        """Hold that."""
        for each in parked:
            raise AssertionError(f"parked: {each.detail}")


class NoHours(EventHoursTable):
    """Events are not counted by the hour."""

    def add(self, *_args: Any, **_more: Any) -> None:
        """Count nothing."""


def _by_hand(lab: Lab, hours: EventHoursTable) -> float:
    """Return the CPU seconds, Postgres included, of preparing and writing batches in this process."""
    records = list(_records(HOURS_BATCHES))
    with lab.database() as url:
        _add_project(url)
        settings = {"TRACEFLOW_DATABASE_URL": url, "TRACEFLOW_KAFKA_BOOTSTRAP": lab.target.kafka_bootstrap}
        sink = EventsSink()
        writer = writer_by_hand(sink, Environment.read(settings), progress=_Always(), letters=_NoLetters())
        writer.hours = hours
        server, size = _server_cpu(url), ROWS_PER_COPY // EVENTS_PER_BATCH
        of_server, own = server(), time.process_time()
        for start in range(0, len(records), size):
            items = [item for record in records[start : start + size] if (item := sink.prepare(record)) is not None]
            writer.write(batch_by_hand(items), {})
        spent_s = server() - of_server + time.process_time() - own
        writer.close()
    return spent_s


def _plain_copy(lab: Lab) -> tuple[float, float, float]:
    lines = _lines()
    with lab.database() as url, psycopg.connect(url) as connection:
        connection.execute("SET traceflow.sink = 'on'")
        server = _server_cpu(url)
        began, of_server = time.monotonic(), server()
        for start in range(0, ROWS, ROWS_PER_COPY):
            with connection.cursor() as cursor, cursor.copy(_COPY) as stream:
                stream.write(b"".join(lines[start : start + ROWS_PER_COPY]))
            connection.commit()
        return time.monotonic() - began, 0.0, server() - of_server


_COPY = sql.SQL("COPY public.traceflow_events ({}) FROM STDIN").format(
    sql.SQL(", ").join(map(sql.Identifier, EVENT_COLUMNS))
)


def _records(count: int) -> Iterator[ConsumedRecord]:
    for offset, filled in enumerate(batches(count=count, sessions=SESSIONS, partitions=PARTITIONS)):
        partition, key, value, kind, _ = filled
        yield ConsumedRecord(
            partition=partition, offset=offset, timestamp=0, kind=kind, key=key, value=value, headers=()
        )


def _lines() -> list[bytes]:
    sink = EventsSink()
    lines: list[bytes] = []
    for record in _records(BATCHES):
        prepared = sink.prepare(record)
        if prepared is not None and prepared.content is not None:
            lines += prepared.content.lines.splitlines(keepends=True)
    return lines


def _add_project(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO traceflow_projects (id, name) VALUES (%s, 'bench')", (PROJECT_ID,))
