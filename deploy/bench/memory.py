"""Whether memory stays flat: every process under a steady load in which sessions end and are forgotten.

Sessions close 20 s after their last request and are known to analyze for another 60 s; digest keeps what it knows of a
page for five minutes longer than the gap. What a process keeps for a session comes and goes within `LIFE_S`, and a
process is judged by what it does after such a time and after 3 of 10 minutes: before that it fills up.

Criterion. Judged is what a process holds for itself: resident memory less the pages of files and of shared memory,
which are the kernel's cache (libraries, Kafka's mapped indexes, Postgres's buffers). Its slope is the median over all
pairs of samples (Theil-Sen), so that one step of an allocator counts little. A process is flat up to `MAX_SLOPE` MB a
minute: at this load 2 bytes an event, or 270 a session, which is one small object kept for each.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import NamedTuple

import orjson
import psycopg

from adapters.projects import create_project
from deploy.bench.cpu import process_tree
from deploy.bench.lab import Lab, Worker
from deploy.bench.report import Line, Result
from deploy.bench.state_bytes import StateBytes, measure, read_changelog
from deploy.load import Target
from deploy.load.drive import Shape, send_load
from deploy.runtime.ports import free_port
from schemas import topics

SECONDS = float(os.environ.get("TRACEFLOW_BENCH_SECONDS", "600"))
RATE = float(os.environ.get("TRACEFLOW_BENCH_RATE", "1000"))
MIN_RATE = 0.9 * RATE
"""A load that is held up and comes back is a growing one, and so is memory then: such a run says nothing."""
SESSIONS = 200
"""Open at once; each sends for about 32 s at 1,000 events a second."""
PARTITIONS = 4
SAMPLE_EVERY_S = 5.0
GAP_MS, RESIDUE_MS = 20_000, 60_000
MAX_SLOPE = 0.1
WARM_UP_SHARE = 0.3
MIN_JUDGED_S = 60.0
LIFE_S = {"gateway": 0.0, "digest": 360.0, "analyze": 120.0, "sink": 120.0}
"""How long a session is known: 32 s of requests, the gap, and what follows. The sink shows what analyze sends."""
SERVICES = {
    "gateway": ("ingest_gateway",),
    "digest": ("stream_processors", "digest"),
    "analyze": ("stream_processors", "analyze"),
    "sink": ("sinks",),
}
SERVERS = ("kafka", "postgres")
"""Bounded by their own settings (-Xmx512m, shared_buffers) and not ours: shown, not judged."""
CHANGELOGS = (topics.ANALYZE_CHANGELOG, topics.DIGEST_CHANGELOG)

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """The memory of a process and its descendants, bytes."""

    at_s: float
    """Since the load began."""
    resident: int
    """What they share counts once, as the largest share of one of them."""
    own: int
    """Without pages of files and of shared memory."""


def run(lab: Lab) -> Result:
    """Load the services for some minutes while their memory is looked at."""
    with (
        lab.topics(partitions=PARTITIONS) as prefix,
        lab.database() as url,
        _services(lab, prefix, url) as (target, workers),
        ThreadPoolExecutor(1) as pool,
    ):
        load = pool.submit(send_load, target, Shape(RATE, SECONDS, SESSIONS), seed=9)
        samples, acknowledged = _watch(_pids(lab, workers), workers)
        # at once, while sessions are open
        states = {topic.name: _state(lab, topic, prefix) for topic in CHANGELOGS}
        _, report = load.result()
    slowest = slowest_minute(acknowledged)
    steady_load = Line("load, slowest minute", slowest, "events/s", f"≥ {MIN_RATE:,.0f}", slowest >= MIN_RATE)
    lines = [steady_load, *(line for name in samples for line in _lines(name, samples[name]))]
    lines += [line for name, state in states.items() for line in _state_lines(name, state)]
    return Result(
        "memory",
        lines,
        {
            "seconds": SECONDS,
            "rate": report.rate,
            "events": report.events,
            "chunks": report.chunks,
            "gap_ms": GAP_MS,
            "residue_ms": RESIDUE_MS,
            "own_mb": {name: [round(sample.own / 1e6, 1) for sample in of] for name, of in samples.items()},
        },
    )


def steady(name: str, samples: Sequence[Sample], *, seconds: float) -> Sequence[Sample]:
    """Return the samples of a run of `seconds` by which a process is judged; empty if the run was too short for it."""
    since_s = max(WARM_UP_SHARE * seconds, LIFE_S.get(name, 0.0))
    return [sample for sample in samples if sample.at_s >= since_s] if seconds - since_s >= MIN_JUDGED_S else []


def slope_mb_per_min(samples: Sequence[Sample]) -> float:
    """Return the median slope of a process's own memory; 0 for less than two samples."""
    slopes = [(b.own - a.own) / (b.at_s - a.at_s) for a, b in combinations(samples, 2)]
    return median(slopes) * 60 / 1e6 if slopes else 0.0


def slowest_minute(acknowledged: Sequence[tuple[float, float]]) -> float:
    """Return the least events a second of any minute, from pairs of a time in s and the events acknowledged by then."""
    rates = []
    for start_s, before in acknowledged:
        later = next(((at_s, count) for at_s, count in acknowledged if at_s >= start_s + 60), None)
        if later is not None:
            rates.append((later[1] - before) / (later[0] - start_s))
    return min(rates, default=0.0)


@contextmanager
def _services(lab: Lab, prefix: str, url: str) -> Iterator[tuple[Target, dict[str, Worker]]]:
    """Run the four services on topics and a database of their own; the servers are the lab's."""
    with psycopg.connect(url) as connection:
        project = create_project(connection, name="bench")
    port = free_port()
    environ = {
        "TRACEFLOW_DATABASE_URL": url,
        "TRACEFLOW_GATEWAY_PORT": str(port),
        "TRACEFLOW_STAGE_SESSION_GAP_MS": str(GAP_MS),
        "TRACEFLOW_STAGE_RESIDUE_MS": str(RESIDUE_MS),
    }
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(lab.process(arguments, prefix=prefix, partitions=PARTITIONS, cpu=None, **environ))
            for name, arguments in SERVICES.items()
        }
        target = Target(f"http://127.0.0.1:{port}", project.id, project.key, url, lab.target.kafka_bootstrap)
        yield target, workers


def _pids(lab: Lab, workers: Mapping[str, Worker]) -> dict[str, int]:
    running = {p["name"]: p["pid"] for p in orjson.loads(lab.ready_file.read_bytes())["processes"]}
    return {name: worker.pid for name, worker in workers.items()} | {name: running[name] for name in SERVERS}


def _watch(
    pids: Mapping[str, int], workers: Mapping[str, Worker]
) -> tuple[dict[str, list[Sample]], list[tuple[float, float]]]:
    """Sample until the load is over: memory, and how many events were acknowledged by when.

    Raises:
        RuntimeError: a process has ended; the message holds its last line.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in pids}
    acknowledged: list[tuple[float, float]] = []
    began = time.monotonic()
    for at_s in _moments():
        time.sleep(max(0.0, began + at_s - time.monotonic()))
        for name, pid in pids.items():
            sample = take_sample(pid, at_s=time.monotonic() - began)
            if not sample.own:
                raise RuntimeError(f"{name} ended after {sample.at_s:.0f} s: {_last_line(workers.get(name))}")
            samples[name].append(sample)
        events = workers["gateway"].metric("traceflow_gateway_accepted_events_total")
        acknowledged.append((time.monotonic() - began, events))
    return samples, acknowledged


def _last_line(worker: Worker | None) -> str:
    lines = worker.output.read_text(errors="replace").splitlines() if worker is not None else []
    return lines[-1] if lines else "it wrote nothing"


def _moments() -> Iterator[float]:
    return (number * SAMPLE_EVERY_S for number in range(1, int(SECONDS / SAMPLE_EVERY_S)))


def take_sample(pid: int, *, at_s: float) -> Sample:
    """Measure a process and its descendants; one that has ended has no memory, waited for or not."""
    own = shared = 0
    for member in process_tree(pid):
        try:
            fields = Path(f"/proc/{member}/statm").read_text().split()
        except OSError:
            continue
        own += (int(fields[1]) - int(fields[2])) * _PAGE
        shared = max(shared, int(fields[2]) * _PAGE)
    return Sample(at_s, own + shared, own)


def _state(lab: Lab, topic: topics.Topic, prefix: str) -> StateBytes:
    return measure(read_changelog(lab.target.kafka_bootstrap, topic, prefix=prefix, partitions=PARTITIONS))


def _lines(name: str, samples: Sequence[Sample]) -> list[Line]:
    judged = steady(name, samples, seconds=SECONDS)
    if not judged:
        note = f"not judged: the run is shorter than {LIFE_S.get(name, 0.0) + MIN_JUDGED_S:.0f} s"
        return [Line(f"{name}, resident at the end", samples[-1].resident / 1e6, "MB", note=note)]
    slope = slope_mb_per_min(judged)
    resident = Line(
        f"{name}, resident at the end",
        judged[-1].resident / 1e6,
        "MB",
        note=f"{judged[0].resident / 1e6:.1f} after {judged[0].at_s:.0f} s",
    )
    if name in SERVERS:
        return [resident, Line(f"{name}, slope", slope, "MB/min")]
    return [resident, Line(f"{name}, slope", slope, "MB/min", f"≤ {MAX_SLOPE}", slope <= MAX_SLOPE)]


def _state_lines(name: str, state: StateBytes) -> list[Line]:
    stage = name.partition("_")[0]
    lines = [Line(f"{stage}, state per open session", state.per_open_session, "B", note=f"{len(state.open):,} of them")]
    if state.residues:
        lines.append(
            Line(f"{stage}, state per residue", state.per_residue, "B", note=f"{len(state.residues):,} of them")
        )
    return lines
