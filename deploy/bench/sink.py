"""The events sink beside plain COPY of the same rows into the same partitioned, indexed table."""

import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from adapters.kafka_consumer import ConsumedRecord
from deploy.bench.batches import EVENTS_PER_BATCH, PROJECT_ID, batches, fill
from deploy.bench.cpu import cpu_seconds, process_tree
from deploy.bench.lab import Lab, wait_for
from deploy.bench.report import Line, Result, middle
from sinks.copy_text import EVENT_COLUMNS
from sinks.events import EventsSink

BATCHES = 10_000
SESSIONS = 2_000
PARTITIONS = 4
ROWS = BATCHES * EVENTS_PER_BATCH
ROWS_PER_COPY = 5_000
ROUNDS = 2
MIN_RATIO = 0.8
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
    return Result(
        "sink",
        [
            Line("events sink", rate, "rows/s"),
            Line("plain COPY of lines made before", copy_rate, "rows/s"),
            Line("ratio", ratio, "", f"≥ {MIN_RATIO}", ratio >= MIN_RATIO),
            Line("CPU, Postgres included", cpu, "s per million rows", f"≤ {MAX_CPU_S:.0f}", cpu <= MAX_CPU_S),
            Line("CPU of the sink alone", middle([own * 1e6 / ROWS for _, own, _ in sink]), "s per million rows"),
            Line("CPU of plain COPY", middle([s * 1e6 / ROWS for _, _, s in copy]), "s per million rows"),
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


def _lines() -> list[bytes]:
    sink = EventsSink()
    lines: list[bytes] = []
    for offset, filled in enumerate(batches(count=BATCHES, sessions=SESSIONS, partitions=PARTITIONS)):
        partition, key, value, kind, _ = filled
        record = ConsumedRecord(
            partition=partition, offset=offset, timestamp=0, kind=kind, key=key, value=value, headers=()
        )
        prepared = sink.prepare(record)
        if prepared is not None and prepared.content is not None:
            lines += prepared.content.lines.splitlines(keepends=True)
    return lines


def _add_project(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO traceflow_projects (id, name) VALUES (%s, 'bench')", (PROJECT_ID,))
