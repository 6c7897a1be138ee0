"""How soon a killed worker's successor works: 100,000 open sessions recovered from the changelog.

The first seconds after the kill belong to the group: it waits for the dead member's session to time out. Then the
successor gets the partitions, and reads what was written of them.
"""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson

from deploy.bench.batches import EVENTS_PER_BATCH, batches, fill
from deploy.bench.cpu import process_tree, resident_bytes
from deploy.bench.lab import Lab, Worker, wait_for
from deploy.bench.report import Line, Result
from deploy.bench.state_bytes import measure, read_changelog
from schemas import topics

STAGE = ("stream_processors", "analyze")
SESSIONS = 100_000
PARTITIONS = 4
MAX_AFTER_ASSIGNMENT_S = 10.0
MAX_AFTER_KILL_S = 25.0
_OPEN_DEADLINE_S = 600.0
_RECOVERY_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the successor's log says, times in epoch seconds."""

    assigned_at: float
    """The last assignment before the first partition was recovered."""
    recovered_at: float
    """When the last partition was."""

    @classmethod
    def read(cls, log: Iterable[bytes], *, partitions: int) -> "Recovery":
        """Find both moments.

        Raises:
            ValueError: a partition was not recovered.
        """
        assigned_at = recovered_at = 0.0
        recovered: set[int] = set()
        for line in log:
            entry = orjson.loads(line) if line.startswith(b"{") else {}
            if entry.get("event") == "partitions_assigned" and not recovered:
                assigned_at = _moment(entry)
            elif entry.get("event") == "partition_recovered":
                recovered.add(entry["partition"])
                recovered_at = _moment(entry)
        if len(recovered) != partitions:
            raise ValueError(f"{len(recovered)} of {partitions} partitions were recovered")
        return cls(assigned_at, recovered_at)


def run(lab: Lab) -> Result:
    """Open the sessions, kill the worker, and let a successor recover them."""
    with lab.topics(partitions=PARTITIONS) as prefix:
        records = batches(count=SESSIONS, sessions=SESSIONS, partitions=PARTITIONS)
        fill(lab.target.kafka_bootstrap, prefix, records)
        opened_s, killed_at = _open_and_kill(lab, prefix)
        environ = {"TRACEFLOW_LOG_FORMAT": "json"}
        with lab.process(STAGE, prefix=prefix, partitions=PARTITIONS, cpu=None, **environ) as worker:
            wait_for(lambda: _open(worker) >= SESSIONS, what="all sessions", deadline_s=_RECOVERY_DEADLINE_S)
            recovery = Recovery.read(worker.output.read_bytes().splitlines(), partitions=PARTITIONS)
            facts = worker.metric("traceflow_stage_recovered_facts_total")
            resident = resident_bytes(process_tree(worker.pid))
        state = measure(
            read_changelog(lab.target.kafka_bootstrap, topics.ANALYZE_CHANGELOG, prefix=prefix, partitions=PARTITIONS)
        )
    after_assignment = recovery.recovered_at - recovery.assigned_at
    after_kill = recovery.recovered_at - killed_at
    return Result(
        "recovery",
        [
            _timed("from assignment to all sessions recovered", after_assignment, MAX_AFTER_ASSIGNMENT_S),
            _timed("from SIGKILL to all sessions recovered", after_kill, MAX_AFTER_KILL_S),
            Line("of it until the group gave the partitions", recovery.assigned_at - killed_at, "s"),
            Line("facts read", facts, ""),
            Line("state per open session", state.per_open_session, "B", note=f"{len(state.open):,} of them"),
            Line("resident memory after recovery", resident / 1e6, "MB"),
            Line("resident memory per session", resident / SESSIONS, "B"),
            Line("to open them, the log first to last", opened_s, "s"),
        ],
        {"sessions": SESSIONS, "events_per_session": EVENTS_PER_BATCH, "partitions": PARTITIONS},
    )


def _open_and_kill(lab: Lab, prefix: str) -> tuple[float, float]:
    """Return the seconds that the first worker took, and when it was killed."""
    with lab.process(STAGE, prefix=prefix, partitions=PARTITIONS) as worker:
        opened_s = wait_for(lambda: _open(worker) >= SESSIONS, what="open sessions", deadline_s=_OPEN_DEADLINE_S)
        # what is in flight is written, or the last facts would be folded anew instead of recovered
        wait_for(lambda: worker.metric("traceflow_stage_lag_records") < PARTITIONS * 2, what="no lag", deadline_s=30)
        os.killpg(worker.pid, signal.SIGKILL)
        return opened_s, time.time()


def _timed(what: str, seconds: float, most_s: float) -> Line:
    return Line(what, seconds, "s", f"≤ {most_s:.0f}", seconds <= most_s)


def _open(worker: Worker) -> float:
    return worker.metric("traceflow_stage_open_sessions")


def _moment(entry: dict[str, str]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()
