"""The oracle of replay: whatever happens on the way, findings and final rows are those of a plain fold.

Visits share a partition and go through both stages twice. Once plainly: in order, each record once, one fold from
beginning to end. And once as it may happen:

- requests and chunks come late, in another order, and twice (a chunk never before its predecessor of the same window);
- each stage folds in batches of random sizes; it dies after any write, starts from what it wrote, and reads again;
- what a dying digest had sent is sent again, so the log of analyze repeats it; digest may lag far behind.

Nothing may be missing, doubled or different, and what is sent twice is sent with the same bytes. The planted faults
(`tests/replay_faults.py`) show that the oracle would see it. `make oracle` looks for longer: TRACEFLOW_ORACLE_EXAMPLES
says how many visits.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.messages import Kind
from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.digest import build_logic
from stream_processors.digest.logic import DigestLogic, DigestSettings
from stream_processors.fold.facts import changelog_flight, recover
from stream_processors.fold.logic import LogRecord, Output, SessionLogic
from stream_processors.fold.partition import UNBOUNDED, PartitionFold
from stream_processors.offline.stages import Outcome, Stages, judge, read_outcome
from stream_processors.offline.timetable import TICK_MS, Arrival, recordings_log, with_ticks
from tests.replay_faults import IN_ANALYZE, IN_DIGEST
from tests.replay_visits import NAMES, random_visit, real_visit

GAP_MS = 120_000
"""Longer than a random visitor is silent, lateness included: when a session closes depends on what comes by then."""
LATE_MS = 6_000
"""With the flush of 2 s and an answer after 2.5 s within the grace of 10 s that an SDK has."""
LAG_MS = 20_000

EXAMPLES = int(os.environ.get("TRACEFLOW_ORACLE_EXAMPLES", "0"))
# the short form is the same in each run, the long one looks for what nobody has seen
PACE = settings(
    max_examples=EXAMPLES or 25, derandomize=not EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck)
)
FAULT_SEEDS = 60

SEEDS = st.integers(0, 1 << 32)


def stages() -> Stages:
    return Stages(build_logic({}), AnalyzeLogic(gap_ms=GAP_MS))


# --- on the way


def delivered(arrivals: Sequence[Arrival], rng: random.Random) -> list[Arrival]:
    """Return the arrivals late, in another order, and some of them twice; the chunks of a window keep theirs."""
    out: list[Arrival] = []
    latest: dict[bytes, int] = {}
    for arrival in sorted(arrivals, key=lambda arrival: arrival.at):
        at = arrival.at + (rng.randint(0, LATE_MS) if rng.random() < 0.5 else 0)
        if arrival.kind == Kind.CHUNK:
            window = orjson.loads(dict(arrival.headers)["meta"])["window_id"].encode()
            at = latest[window] = max(at, latest.get(window, 0))
        out.append(arrival._replace(at=at))
        if rng.random() < 0.2:
            out.append(arrival._replace(at=at + rng.randint(0, LATE_MS)))
    return out


def run_stage(logic: SessionLogic[Any], log: Sequence[LogRecord], rng: random.Random) -> list[Output]:
    """Fold a log as workers do who die now and then; return all that they sent, in order."""
    changelog: dict[bytes, bytes] = {}
    sent: list[Output] = []
    while True:
        recovered = recover(changelog)
        fold = PartitionFold(logic, recovered, cache_weight=rng.choice((0, 200, UNBOUNDED)))
        # what precedes the state is read again, as after a rebalance
        rest = log[max(0, fold.position.offset + 1 - rng.randint(0, 3)) :]
        for part in in_batches(rest, rng):
            batch = fold.apply(part)
            flight = changelog_flight(batch.facts, batch.deletions)
            rng.shuffle(flight)  # of a flight, any part may have landed
            writes: list[Any] = [*batch.outputs, *flight, batch.record]
            died = rng.random() < 0.1
            for write in writes[: rng.randint(0, len(writes)) if died else None]:
                if isinstance(write, Output):
                    sent.append(write)
                elif write[1] is None:
                    changelog.pop(write[0], None)
                else:
                    changelog[write[0]] = write[1]
            if died:
                break
        else:
            return sent


def in_batches(log: Sequence[LogRecord], rng: random.Random) -> Iterator[Sequence[LogRecord]]:
    start, most = 0, rng.choice((1, 5, 40))
    while start < len(log):
        size = rng.randint(1, most)
        yield log[start : start + size]
        start += size


def log_of_analyze(timetable: Sequence[Arrival], digests: Sequence[Output], rng: random.Random) -> list[LogRecord]:
    """Put together what the gateway wrote and what digest sent, repetitions included, digest lagging behind."""
    slots = [arrival.at for arrival in timetable if arrival.kind != Kind.EVENTS]
    now = lag = 0
    rows: list[tuple[Any, ...]] = []
    for digest in digests:
        if rng.random() < 0.02:
            lag = rng.choice((0, rng.randint(0, LAG_MS)))
        now = max(now, slots[orjson.loads(digest.value)["src"]] + lag)
        rows.append((now, dict(digest.headers)["kind"].decode(), digest.key or b"", digest.value, digest.headers))
    rows += [tuple(arrival) for arrival in timetable if arrival.kind == Kind.EVENTS]
    rows.sort(key=lambda row: row[0])
    return [LogRecord(offset, *row) for offset, row in enumerate(rows)]


def disturbed(arrivals: Sequence[Arrival], found_by: Stages, rng: random.Random) -> list[Output]:
    """Return all that analyze sends when things go wrong on the way."""
    timetable = with_ticks(delivered(arrivals, rng), quiet_ms=GAP_MS + LAG_MS + 2 * TICK_MS)
    digests = run_stage(found_by.digest, recordings_log(timetable), rng)
    return run_stage(found_by.analyze, log_of_analyze(timetable, digests, rng), rng)


# --- what must not depend on it


def known(outcome: Outcome) -> dict[str, Any]:
    """Return what is found and known, without the places in the log that rows and ids are made of."""
    assert not outcome.parked
    return {
        "findings": [asdict(finding) for finding in outcome.findings],
        "sessions": {name: asdict(replace(row, version=0, life=0)) for name, row in outcome.sessions.items()},
        "jobs": sorted((job.task_type, job.priority, orjson.dumps(job.input_data)) for job in outcome.jobs),
    }


def contradictions(outputs: Sequence[Output]) -> list[str]:
    """Return the ids under which two different findings were sent."""
    values: dict[str, bytes] = {}
    signals = [output.value for output in outputs if output.topic == "signals"]
    return [id_ for value in signals if values.setdefault(id_ := orjson.loads(value)["id"], value) != value]


def differs(arrivals: Sequence[Arrival], seed: int, found_by: Stages) -> bool:
    """Tell whether a visit comes out differently if things go wrong on the way."""
    outputs = disturbed(arrivals, found_by, random.Random(seed))
    plain = judge(arrivals, stages(), gap_ms=GAP_MS)
    return bool(contradictions(outputs)) or known(read_outcome(outputs)) != known(plain)


def check(arrivals: Sequence[Arrival], seed: int) -> None:
    outputs = disturbed(arrivals, stages(), random.Random(seed))
    assert contradictions(outputs) == []
    assert known(read_outcome(outputs)) == known(judge(arrivals, stages(), gap_ms=GAP_MS))


def visits(seed: int, size: int) -> list[Arrival]:
    """Return two visits at the same time: with one alone a stage would never have to forget and decode a state."""
    rng = random.Random(seed)
    return [*random_visit(rng, size), *random_visit(rng, 20, name="another")]


@PACE
@given(size=st.integers(1, 60), seed=SEEDS)
def test_random_visits_come_out_the_same_whatever_happens_on_the_way(size: int, seed: int) -> None:
    check(visits(seed, size), seed)


@PACE
@given(name=st.sampled_from(NAMES), seed=SEEDS)
def test_real_visits_come_out_the_same_whatever_happens_on_the_way(name: str, seed: int) -> None:
    check([*real_visit(name), *random_visit(random.Random(seed), 20)], seed)


# --- the faults that it would see


@pytest.mark.parametrize("fault", IN_ANALYZE)
def test_the_oracle_finds_an_analyze_that(fault: Callable[..., AnalyzeLogic]) -> None:
    found_by = Stages(build_logic({}), fault(gap_ms=GAP_MS))
    assert any(differs(visits(seed, 40), seed, found_by) for seed in range(FAULT_SEEDS))


@pytest.mark.parametrize("fault", IN_DIGEST)
def test_the_oracle_finds_a_digest_that(fault: Callable[..., DigestLogic]) -> None:
    found_by = Stages(fault(DigestSettings()), AnalyzeLogic(gap_ms=GAP_MS))
    assert any(differs(visits(seed, 40), seed, found_by) for seed in range(FAULT_SEEDS))
