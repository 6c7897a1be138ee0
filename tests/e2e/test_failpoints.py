"""A worker that ends at any step of its loop leaves what its successor goes on from, to the same result.

Each step of a stage and of the sinks kills the worker that comes to it. All of them work side by side, each with
partitions of its own, beside one worker of each kind that is spared and has everything in the end. Digest runs on the
same loop as analyze; it is only there to be read.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import Enum
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from adapters.kafka_producer import producer_config
from adapters.postgres import connect
from deploy.replay.check import Check
from deploy.replay.log import Log
from deploy.replay.tables import Tables
from schemas import topics as declared
from schemas.connections import DatabaseSettings, KafkaSettings
from schemas.ids import session_key
from sinks.commit.writer import Step as SinkStep
from stream_processors.kinds import ANALYZE, DIGEST
from stream_processors.runner.stage import Step as StageStep
from stream_processors.worker import build_logic
from tests.chaos.audit import audit_stage
from tests.integration.sink_bench import PROJECT, add_project, assert_counters_equal_rows, query

STEPS: dict[str, Iterable[Enum]] = {"digest": (), "analyze": StageStep, "sink": SinkStep}
DEADLINE_S = 90.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def topic_partitions() -> int:
    """Give each worker one partition, the spared one too."""
    return 5


class Feed:
    """Appends events and chunks of a few sessions, a row a record, some poison among them, for the time of a block."""

    def __init__(self, kafka: KafkaSettings, prefix: str) -> None:
        self._producer = Producer(producer_config(kafka, linger_ms=0))
        self._prefix = prefix
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")
        self.sent = 0

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(30) == 0

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            for _ in range(2):
                self._send(self.sent, now_ms=time.time_ns() // 1_000_000)
                self.sent += 1
            self._producer.poll(0)

    def _send(self, number: int, *, now_ms: int) -> None:
        session = f"s{number // 600}-{number % 25}"
        envelope = {"v": 1, "project_id": PROJECT, "session_id": session, "received_at": now_ms}
        envelope["settings"] = {"version": 1}
        event = {"id": f"00000000-0000-4000-8000-{number:012x}", "event_type": "click", "timestamp": now_ms}
        meta = {**envelope, "window_id": "w", "seq": number, "encoding": "identity", "codec": "json"}
        # what no browser sends: it is stored, and digest parks it
        rrweb = [] if number % 40 == 7 else [{"type": 5, "timestamp": now_ms, "data": {"tag": "x", "payload": {}}}]
        body = b"[{" if number % 50 == 9 else orjson.dumps(rrweb)
        headers = {"kind": b"chunk", "meta": orjson.dumps(meta)}
        self._append(
            declared.EVENTS, number, session, orjson.dumps({**envelope, "events": [event]}), {"kind": b"events"}
        )
        self._append(declared.RECORDINGS, number, session, body, headers)

    def _append(
        self, topic: declared.Topic, number: int, session: str, value: bytes, headers: dict[str, bytes]
    ) -> None:
        key, partition = session_key(PROJECT, session), number % 25 % 5
        self._producer.produce(topic.full_name(self._prefix), value, key, partition, headers=dict(headers))


@pytest.fixture
def environ(kafka: str, topics: str, database: str) -> dict[str, str]:
    add_project(database)
    return os.environ | {
        "TRACEFLOW_KAFKA_BOOTSTRAP": kafka,
        "TRACEFLOW_DATABASE_URL": database,
        "TRACEFLOW_TOPIC_PREFIX": topics,
        "TRACEFLOW_PARTITIONS": "5",
        "TRACEFLOW_STAGE_GROUP_SESSION_S": "6",
        "TRACEFLOW_STAGE_TICK_MS": "200",
        "TRACEFLOW_STAGE_SESSION_GAP_MS": "2000",
        "TRACEFLOW_STAGE_FLUSH_GRACE_MS": "200",
    }


@pytest.fixture
def workers(environ: dict[str, str], tmp_path: Path) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Start a worker for each step, which it does not survive, and a spared one of each kind."""
    started: dict[str, subprocess.Popen[bytes]] = {}
    for role, steps in STEPS.items():
        for how in (*(f"--kill={step.name}" for step in steps), ""):
            name = f"{role} {how}"
            command = [sys.executable, "-m", "tests.chaos.worker", role, *filter(None, [how])]
            with (tmp_path / f"{name}.log").open("wb") as output:
                started[name] = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
    yield started
    for process in started.values():
        process.kill()
        process.wait()


@pytest.mark.timeout(240)
def test_a_worker_killed_at_any_step_loses_doubles_and_changes_nothing(
    environ: dict[str, str], workers: dict[str, "subprocess.Popen[bytes]"]
) -> None:
    kafka, prefix = KafkaSettings(bootstrap=environ["TRACEFLOW_KAFKA_BOOTSTRAP"]), environ["TRACEFLOW_TOPIC_PREFIX"]
    doomed = {name: process for name, process in workers.items() if "--kill" in name}
    spared = [process for name, process in workers.items() if name not in doomed]
    with Feed(kafka, prefix) as feed:
        ends_at = time.monotonic() + DEADLINE_S
        while alive := [name for name, process in doomed.items() if process.poll() is None]:
            assert time.monotonic() < ends_at, f"never came to: {alive}"
            time.sleep(0.1)
    assert {process.returncode for process in doomed.values()} == {-signal.SIGKILL}

    log, database = Log(kafka, prefix), environ["TRACEFLOW_DATABASE_URL"]
    settings = DatabaseSettings.model_validate({"url": database})
    with closing(connect(settings, application_name="failpoints", session={"timezone": "UTC"})) as connection:
        ends_at = time.monotonic() + DEADLINE_S
        while query(database, "SELECT count(*) FROM traceflow_sessions WHERE NOT closed") != [(0,)]:
            assert time.monotonic() < ends_at, "sessions stay open"
            time.sleep(0.2)
        report = Check(log, Tables(connection), build_logic("analyze", environ)).run(patience_s=DEADLINE_S)
    assert report.differences == []
    assert query(database, "SELECT count(*) FROM traceflow_events") == [(report.compared["traceflow_events"],)]
    assert report.compared["traceflow_events"] >= feed.sent
    assert_counters_equal_rows(database)
    for kind in (DIGEST, ANALYZE):
        assert audit_stage(log, kind, build_logic(kind.name, environ)) == []
    for process in spared:
        assert process.poll() is None
