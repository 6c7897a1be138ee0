"""What the benchmarks make of what they measured."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest

from deploy.bench.__main__ import NAMES
from deploy.bench.analyst import scanned_days
from deploy.bench.hammer import Answered
from deploy.bench.memory import Sample, slope_mb_per_min, slowest_minute, steady, take_sample
from deploy.bench.outage import Outage, quantile
from deploy.bench.recovery import Recovery
from deploy.bench.state_bytes import StateBytes, measure
from stream_processors.fold.facts import PartitionRecord, SessionHead, partition_record_key, session_fact_key


@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_can_be_run_by_its_name(name: str) -> None:
    assert callable(importlib.import_module(f"deploy.bench.{name}").run)


def samples(*own_mb: float, every_s: float = 60.0) -> list[Sample]:
    return [Sample(number * every_s, 0, int(own * 1e6)) for number, own in enumerate(own_mb)]


@pytest.mark.parametrize(
    ("own_mb", "slope"),
    [((), 0.0), ((50,), 0.0), ((50, 50, 50), 0.0), ((50, 51, 52, 53), 1.0), ((53, 52, 51), -1.0)],
)
def test_the_slope_is_in_mb_a_minute(own_mb: tuple[float, ...], slope: float) -> None:
    assert slope_mb_per_min(samples(*own_mb)) == pytest.approx(slope)


def test_one_step_of_the_allocator_is_no_slope() -> None:
    assert slope_mb_per_min(samples(50, 50, 50, 50, 50, 50, 50, 50, 50, 52, 52)) == 0.0


def test_a_process_is_judged_after_the_warm_up_and_after_the_life_of_a_session() -> None:
    taken = samples(*range(11))
    assert [s.at_s for s in steady("gateway", taken, seconds=600)] == [180, 240, 300, 360, 420, 480, 540, 600]
    assert [s.at_s for s in steady("digest", taken, seconds=600)] == [360, 420, 480, 540, 600]
    assert steady("digest", taken, seconds=390) == []


def test_the_slowest_minute_of_a_load_that_was_held_up() -> None:
    assert slowest_minute([(0, 0), (30, 60_000), (60, 120_000), (90, 126_000), (120, 186_000)]) == 1_100.0


def test_a_load_of_less_than_a_minute_has_no_slowest_one() -> None:
    assert slowest_minute([(0, 0), (59, 60_000)]) == 0.0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_a_process_that_has_ended_has_no_memory() -> None:
    living, ended = take_sample(os.getpid(), at_s=1.0), subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    zombie = take_sample(ended.pid, at_s=2.0)
    ended.wait()
    assert (living.own > 1_000_000, living.resident > living.own) == (True, True)
    assert (zombie, take_sample(ended.pid, at_s=3.0)) == (Sample(2.0, 0, 0), Sample(3.0, 0, 0))


def answered(
    lane: str, sent_at: float, took_s: float, *, status: int = 503, retry_after_s: float | None = 7
) -> Answered:
    return Answered(lane, sent_at, took_s, status, retry_after_s)


def test_refusals_count_from_when_each_lane_has_said_so_and_probes_apart() -> None:
    answers = [
        answered("events", 9.0, 0.02, status=202, retry_after_s=None),
        answered("events", 9.9, 5.0),
        answered("events", 10.0, 5.0),
        answered("events", 10.5, 0.001),
        answered("recordings", 10.75, 0.25),
        answered("events", 11.5, 0.004),
        answered("events", 12.0, 5.1),
        answered("recordings", 12.0, 0.002),
    ]
    assert Outage.of(answers, began=10.0, failures=2) == Outage(
        known_s=1.0, refusals_ms=[2.0, 4.0], waits_ms=[5000.0, 5100.0], not_as_promised=0
    )


@pytest.mark.parametrize(
    "broken",
    [
        answered("events", 12.0, 0.1, retry_after_s=None),
        answered("events", 12.0, 0.1, status=202),
        answered("events", 12.0, 0.1, status=0, retry_after_s=None),
    ],
)
def test_an_answer_that_is_no_503_with_retry_after_is_not_as_promised(broken: Answered) -> None:
    assert Outage.of([answered("events", 10.0, 0.1), broken], began=10.0, failures=0).not_as_promised == 1


@pytest.mark.parametrize(
    ("values", "share", "value"),
    [([], 0.5, 0.0), ([1.0], 0.5, 1.0), ([1.0, 2.0], 0.5, 1.0), ([1.0, 2.0, 3.0], 0.99, 3.0), ([1.0, 2.0], 1.0, 2.0)],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, value: float) -> None:
    assert quantile(values, share) == value


LOG = b"""\
not json: a library's own line
{"event": "partitions_assigned", "partitions": [], "timestamp": "2026-01-01T00:00:01Z"}
{"event": "partitions_assigned", "partitions": [0, 1], "timestamp": "2026-01-01T00:00:11Z"}
{"event": "partition_recovered", "partition": 1, "timestamp": "2026-01-01T00:00:13Z"}
{"event": "partition_recovered", "partition": 0, "timestamp": "2026-01-01T00:00:14.5Z"}
""".splitlines()


def test_a_recovery_lasts_from_the_assignment_to_the_last_partition() -> None:
    found = Recovery.read(LOG, partitions=2)
    assert found.recovered_at - found.assigned_at == 3.5


def test_a_partition_that_was_not_recovered_is_no_recovery() -> None:
    with pytest.raises(ValueError, match="2 of 3 partitions"):
        Recovery.read(LOG, partitions=3)


def fact(size: int, *, offset: int, is_closed: bool) -> bytes:
    head = SessionHead(is_closed=is_closed, last_activity=1, offset=offset, closes=2, expires=3, wake=0).pack()
    return head + b"x" * (size - len(head))


def test_state_is_the_latest_fact_of_each_session_with_its_key() -> None:
    facts = {
        session_fact_key(b"p/open", 1): fact(900, offset=1, is_closed=False),
        session_fact_key(b"p/open", 4): fact(100, offset=4, is_closed=False),
        session_fact_key(b"p/closed", 3): fact(60, offset=3, is_closed=True),
        partition_record_key(4): PartitionRecord(offset=4).pack(),
    }
    found = measure([facts, {}])
    assert found == StateBytes(open=[106], residues=[68])
    assert (found.per_open_session, found.per_residue) == (106.0, 68.0)


def test_a_day_that_a_plan_leaves_out_was_not_read() -> None:
    scans = [("traceflow_events_20260101", 1), ("traceflow_events_20260102", 0), ("traceflow_sessions_h0", 1)]
    plans = [{"Node Type": "Seq Scan", "Relation Name": name, "Actual Loops": loops} for name, loops in scans]
    append = {"Node Type": "Append", "Actual Loops": 1, "Plans": plans}
    assert list(scanned_days({"Node Type": "Sort", "Actual Loops": 1, "Plans": [append]})) == [
        "traceflow_events_20260101"
    ]
