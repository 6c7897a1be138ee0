"""Both engines alone, without Kafka: events and rrweb a second of CPU beside parsing alone, and what a session keeps.

The folds are the stages' own, states encoded after every 1,000 records as a worker does. Rates are per second of CPU,
so a busy machine hardly changes them; a ratio compares with `orjson.loads` of the same bytes in the same round.
"""

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import mean, median
from typing import Any, NamedTuple

import orjson

from deploy.bench.batches import EVENTS_PER_BATCH, lived
from deploy.bench.lab import Lab
from deploy.bench.large_page import chunks
from deploy.bench.report import Line, Result, middle
from deploy.command.detection import Names, take
from deploy.demo.captures import captured_of
from deploy.demo.recorded import load_sessions
from schemas.ids import session_key
from schemas.messages import FORMAT, META_HEADER, Kind
from stream_processors.analyze.wiring import assemble
from stream_processors.digest import build_logic
from stream_processors.fold.logic import LogRecord, Output, SessionLogic
from stream_processors.fold.partition import PartitionFold
from stream_processors.offline.timetable import Arrival, events_log, recordings_log, with_ticks

ROUNDS = 3
BATCHES = 10_000
SESSIONS = 1_000
"""Each sends a batch in 4 s, so a session lasts 40 s."""
LARGE_VISITS = 24
RECORDS_A_CUT = 1_000
QUIET_MS = 60_000

MIN_EVENTS_PER_S = 80_000
MIN_MB_PER_S = 25.0
MAX_MEDIAN_B = 4_000
MAX_MEAN_B = 20_000
"""Of state per open session: the median without a recording, the mean with one."""

_PROJECT = "00000000-0000-4000-8000-000000000000"
_T0 = 1_790_000_000_000


class Speed(NamedTuple):
    """CPU seconds of a fold, and of parsing the same bytes."""

    fold_s: float
    parse_s: float


def run(_lab: Lab) -> Result:
    """Measure both engines in this process."""
    gc.collect()
    gc.freeze()
    # as the workers have it
    gc.set_threshold(20_000, 50, 100)
    events, large, real = _events_log(), _large_pages(), _real_recordings()
    lines = [
        *_event_lines(events),
        *_chunk_lines("large pages", large, MIN_MB_PER_S),
        *_chunk_lines("small real pages", real),
        *_state_lines(),
    ]
    context = {
        "batches": BATCHES,
        "events_per_batch": EVENTS_PER_BATCH,
        "sessions": SESSIONS,
        "rounds": ROUNDS,
        "large_chunk_bytes": median(len(record.value) for record in _chunks(large)),
        "real_chunk_bytes": median(len(record.value) for record in _chunks(real)),
    }
    return Result("engine", lines, context)


# --- speed


def _measure(build: Callable[[], SessionLogic[Any]], log: Sequence[LogRecord]) -> list[Speed]:
    return [Speed(_fold_s(build(), log), _parse_s(log)) for _ in range(ROUNDS)]


def _fold_s(logic: SessionLogic[Any], log: Sequence[LogRecord]) -> float:
    fold = PartitionFold(logic)
    began = time.process_time()
    for start in range(0, len(log), RECORDS_A_CUT):
        parked = fold.apply(log[start : start + RECORDS_A_CUT]).parked
        if parked:
            raise RuntimeError(f"{parked[0].reason}: {parked[0].detail}")
    return time.process_time() - began


def _parse_s(log: Sequence[LogRecord]) -> float:
    began = time.process_time()
    for record in log:
        if record.value:
            orjson.loads(record.value)
    return time.process_time() - began


def _event_lines(log: Sequence[LogRecord]) -> list[Line]:
    speeds = _measure(lambda: assemble({}), log)
    count = BATCHES * EVENTS_PER_BATCH
    rate = middle([count / speed.fold_s for speed in speeds])
    return [
        Line(
            "analyze", rate, "events/s", f"≥ {MIN_EVENTS_PER_S:,}", rate >= MIN_EVENTS_PER_S, "one core, parse included"
        ),
        Line("parsing the same events alone", middle([count / speed.parse_s for speed in speeds]), "events/s"),
        Line("analyze, ratio to parsing alone", middle([speed.fold_s / speed.parse_s for speed in speeds]), ""),
    ]


def _chunk_lines(name: str, log: Sequence[LogRecord], min_mb_per_s: float | None = None) -> list[Line]:
    speeds = _measure(lambda: build_logic({}), log)
    size = sum(len(record.value) for record in _chunks(log)) / 1e6
    rate = middle([size / speed.fold_s for speed in speeds])
    target, is_met = ("", None) if min_mb_per_s is None else (f"≥ {min_mb_per_s:g}", rate >= min_mb_per_s)
    return [
        Line(f"digest, {name}", rate, "MB/s of rrweb JSON", target, is_met, "one core, parse included"),
        Line(f"digest, {name}", middle([len(_chunks(log)) / s.fold_s for s in speeds]), "chunks/s"),
        Line("parsing the same chunks alone", middle([size / s.parse_s for s in speeds]), "MB/s"),
        Line(f"digest, {name}, ratio to parsing alone", middle([s.fold_s / s.parse_s for s in speeds]), ""),
    ]


def _chunks(log: Iterable[LogRecord]) -> list[LogRecord]:
    return [record for record in log if record.kind == Kind.CHUNK]


# --- logs


def _events_log() -> list[LogRecord]:
    """Return batches of 20 events, with the ticks of each second as digest forwards them."""
    log = lived(count=BATCHES, sessions=SESSIONS, partitions=1)
    return [LogRecord(n, record.timestamp_ms, record.kind, record.key, record.value) for n, record in enumerate(log)]


def _large_pages() -> list[LogRecord]:
    visits = [(f"large-{seed}", chunks(seed)) for seed in range(LARGE_VISITS)]
    arrivals = [
        _chunk_arrival(name, seq, body, at=_T0 + seq * 2_000)
        for name, bodies in visits
        for seq, body in enumerate(bodies)
    ]
    return recordings_log(with_ticks(arrivals, quiet_ms=0))


def _chunk_arrival(name: str, seq: int, body: bytes, *, at: int) -> Arrival:
    meta = {
        "v": FORMAT,
        "project_id": _PROJECT,
        "session_id": name,
        "window_id": "w",
        "seq": seq,
        "received_at": at,
        "encoding": "identity",
        "codec": "json",
        "settings": {"version": 1},
    }
    return Arrival(at, Kind.CHUNK.value, session_key(_PROJECT, name), body, [(META_HEADER, orjson.dumps(meta))])


def _real_visits() -> list[list[Arrival]]:
    """Return the demo's sessions, each as the gateway would have written it."""
    visits = []
    for session in load_sessions():
        captured = captured_of(session, starts_at_ms=_T0)
        visits.append(take(captured, names=Names(session.name, None), settings={"version": 1}).arrivals)
    return visits


def _real_recordings() -> list[LogRecord]:
    arrivals = [arrival for visit in _real_visits() for arrival in visit if arrival.kind == Kind.CHUNK]
    return recordings_log(with_ticks(arrivals, quiet_ms=0))


# --- state


def _state_lines() -> list[Line]:
    without: list[int] = []
    recorded: list[int] = []
    for visit in _real_visits():
        without += _sizes([arrival for arrival in visit if arrival.kind == Kind.EVENTS])
        recorded += _sizes(visit)
    large = [
        size
        for seed in range(LARGE_VISITS)
        for size in _sizes(
            [_chunk_arrival("large", n, body, at=_T0 + n * 2_000) for n, body in enumerate(chunks(seed))]
        )
    ]
    middle_b, mean_b = median(without), mean(recorded)
    return [
        Line("state without recording, median", middle_b, "B", f"≤ {MAX_MEDIAN_B:,}", middle_b <= MAX_MEDIAN_B),
        Line("state without recording, p99", _p99(without), "B"),
        Line("state with recording, mean", mean_b, "B", f"≤ {MAX_MEAN_B:,}", mean_b <= MAX_MEAN_B, "both stages"),
        Line("state with recording, median", median(recorded), "B"),
        Line("state with recording, p99", _p99(recorded), "B"),
        Line("state with a large page recorded, mean", mean(large), "B"),
        Line("state with a large page recorded, p99", _p99(large), "B"),
    ]


def _sizes(arrivals: Sequence[Arrival]) -> list[int]:
    """Return what both stages keep of a session while it is open: after each request, and each second."""
    timetable = with_ticks(arrivals, quiet_ms=QUIET_MS)
    digest, analyze = PartitionFold(build_logic({})), PartitionFold(assemble({}))
    outputs: list[Output] = []
    kept: list[int] = []
    for record in recordings_log(timetable):
        outputs += digest.apply([record]).outputs
        kept.append(sum(map(len, digest.facts.values())))
    sizes: list[int] = []
    digests, of_digest = iter(kept), 0
    for record in events_log(timetable, outputs):
        analyze.apply([record])
        if record.kind != Kind.EVENTS:
            of_digest = next(digests)
        if analyze.facts:
            sizes.append(of_digest + sum(map(len, analyze.facts.values())))
    return sizes


def _p99(sizes: Sequence[int]) -> int:
    return sorted(sizes)[int(0.99 * (len(sizes) - 1))]
