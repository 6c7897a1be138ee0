"""The whole way on this machine, load generator included: how many events a second become rows, and how soon."""

import os

import orjson
import psycopg

from deploy.bench.cpu import Stopwatch, process_tree, resident_bytes
from deploy.bench.lab import Lab, wait_for
from deploy.bench.probe import probe_rows
from deploy.bench.report import Line, Result
from deploy.load.drive import Shape, send_load

RATE = float(os.environ.get("TRACEFLOW_BENCH_RATE", "12000"))
SECONDS = float(os.environ.get("TRACEFLOW_BENCH_SECONDS", "60"))
SESSIONS = 1_000
MIN_RATE = 12_000
MAX_DRAIN_S = 3.0
MAX_IDLE_MS = 300.0
PROBES = 100


def run(lab: Lab) -> Result:
    """Send at a steady rate, and see whether the rows keep up."""
    pids = {p["name"]: p["pid"] for p in orjson.loads(lab.ready_file.read_bytes())["processes"]}
    watch = Stopwatch(pids)
    before = _rows(lab)
    watch.start()
    _ledger, report = send_load(lab.target, Shape(RATE, SECONDS, SESSIONS), seed=5)
    usage = watch.stop()
    acknowledged = report.events
    drain = wait_for(lambda: _rows(lab) - before >= acknowledged, what="all rows", deadline_s=300)
    kept_up = drain <= MAX_DRAIN_S and report.rate >= 0.97 * RATE
    rate = acknowledged / (usage.wall_s + drain)
    idle = _latency(lab, background_rate=0.0)
    busy = _latency(lab, background_rate=RATE / 10)
    memory = {name: resident_bytes(process_tree(pid)) / 1e6 for name, pid in pids.items()}
    return Result(
        "pipeline",
        [
            Line(
                "events that became rows",
                rate,
                "events/s",
                f"≥ {MIN_RATE:,}",
                rate >= MIN_RATE,
                "backlog did not grow" if kept_up else f"backlog of {drain:.1f} s at the end",
            ),
            Line("acknowledged", report.rate, "events/s"),
            Line("p50 of the acknowledgement", report.latency_ms["p50"], "ms"),
            Line("p99 of the acknowledgement", report.latency_ms["p99"], "ms"),
            Line("request to row, idle, p50", idle[0], "ms", f"≤ {MAX_IDLE_MS:.0f}", idle[0] <= MAX_IDLE_MS),
            Line("request to row, idle, p99", idle[1], "ms"),
            Line("request to row, at a tenth of the rate, p50", busy[0], "ms"),
            Line("request to row, at a tenth of the rate, p99", busy[1], "ms"),
            *(
                Line(f"CPU of {name}", cpu * 1e6 / acknowledged, "s per million events")
                for name, cpu in usage.cpu_s.items()
            ),
            Line("CPU of the load generator", report.cpu_s * 1e6 / acknowledged, "s per million events"),
            *(Line(f"memory of {name}", size, "MB") for name, size in memory.items()),
        ],
        {"rate": RATE, "seconds": SECONDS, "sessions": SESSIONS, "chunks": report.chunks},
    )


def _rows(lab: Lab) -> int:
    with psycopg.connect(lab.target.database_url) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(event_count), 0) FROM traceflow_sessions WHERE session_id LIKE 'load-5-%'"
        ).fetchone()
    return int(row[0]) if row else 0


def _latency(lab: Lab, *, background_rate: float) -> tuple[float, float]:
    """Return p50 and p99 of the way from request to row, ms."""
    waits = sorted(probe_rows(lab.target, requests=PROBES, background_rate=background_rate))
    return waits[len(waits) // 2] * 1e3, waits[int(len(waits) * 0.99)] * 1e3
