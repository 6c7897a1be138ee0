"""How soon a killed worker works again: 100,000 open sessions recovered from the changelog."""

import os
import signal
import time

from deploy.bench.batches import fill
from deploy.bench.cpu import process_tree, resident_bytes
from deploy.bench.lab import Lab, Worker, wait_for
from deploy.bench.report import Line, Result

SESSIONS = 100_000
PARTITIONS = 4
MAX_AFTER_KILL_S = 25.0


def run(lab: Lab) -> Result:
    """Open the sessions, kill the worker, and wait until its successor has folded what came meanwhile."""
    stage = ("stream_processors", "analyze")
    bootstrap = lab.target.kafka_bootstrap
    with lab.topics(partitions=PARTITIONS) as prefix:
        fill(bootstrap, prefix, count=SESSIONS, sessions=SESSIONS, partitions=PARTITIONS)
        with lab.process(stage, prefix=prefix, partitions=PARTITIONS) as worker:
            wait_for(lambda: _open(worker) >= SESSIONS, what="all sessions to be open", deadline_s=300)
            resident = resident_bytes(process_tree(worker.pid))
            os.killpg(worker.pid, signal.SIGKILL)
            killed_at = time.monotonic()
        with lab.process(stage, prefix=prefix, partitions=PARTITIONS) as worker:
            started_at = time.monotonic()
            wait_for(lambda: _open(worker) >= SESSIONS, what="all sessions to be recovered", deadline_s=120)
            ended_at = time.monotonic()
            facts = worker.metric("traceflow_stage_recovered_facts_total")
    after_kill = ended_at - killed_at
    return Result(
        "recovery",
        [
            Line(
                "from SIGKILL to all sessions recovered",
                after_kill,
                "s",
                f"≤ {MAX_AFTER_KILL_S:.0f}",
                after_kill <= MAX_AFTER_KILL_S,
                "the group's session of 10 s included",
            ),
            Line("of it after /readyz", ended_at - started_at, "s"),
            Line("facts read", facts, ""),
            Line("resident memory with all sessions open", resident / 1e6, "MB"),
            Line("resident memory per session", resident / SESSIONS, "B"),
        ],
        {"sessions": SESSIONS, "events_per_session": 20},
    )


def _open(worker: Worker) -> float:
    return worker.metric("traceflow_stage_open_sessions")
