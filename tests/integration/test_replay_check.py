"""A replay finds no difference in what the system stored, and every row that was deleted or changed by hand."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from adapters.kafka_producer import producer_config
from adapters.postgres import connect
from deploy.command.application import run
from deploy.replay.check import Check, NotCaughtUp, Report
from deploy.replay.log import Log
from deploy.replay.tables import Difference, Tables
from schemas import topics as declared
from schemas.ids import session_key
from sinks.app import SINKS, Environment
from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.fold import PartitionFold
from stream_processors.logic import LogRecord
from tests.integration.sink_bench import NOW_MS, PROJECT, add_project, event, execute, query
from tests.integration.sink_system import environment, running, until

POOR = {"event_type": "web_vital", "event_name": "LCP", "metadata": {"value": 9_000}, "page_url": "https://a.example/"}
RRWEB = [{"type": 4, "timestamp": NOW_MS - 50_000, "data": {"href": "https://a.example/", "width": 1, "height": 1}}]
COUNTED = {"traceflow_events", "traceflow_sessions", "traceflow_ai_queue", "session_recording_chunks"}


class System:
    """Feeds the log, and is analyze: what it says, and how far it has come, is written as its worker does."""

    def __init__(self, settings: Environment) -> None:
        self.settings = settings
        self.log = Log(settings.kafka, settings.log.topic_prefix)
        self._producer = Producer(producer_config(settings.kafka, linger_ms=0), logger=logging.getLogger("librdkafka"))

    def send(
        self,
        topic: declared.Topic,
        partition: int,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        name = topic.full_name(self.settings.log.topic_prefix)
        self._producer.produce(name, value, key, partition, headers=[*headers])

    def events(self, session: str, events: list[dict[str, Any]], *, partition: int = 0) -> None:
        value = {
            **{"v": 1, "project_id": PROJECT, "session_id": session, "received_at": NOW_MS},
            **{"settings": {"version": 1}, "events": events},
        }
        key = session_key(PROJECT, session)
        self.send(declared.EVENTS, partition, key, orjson.dumps(value), [("kind", b"events")])

    def chunk(self, session: str, *, seq: int) -> None:
        meta = {
            **{"v": 1, "project_id": PROJECT, "session_id": session, "window_id": "w", "seq": seq},
            **{"received_at": NOW_MS, "encoding": "identity", "codec": "json", "settings": {"version": 1}},
        }
        headers = [("kind", b"chunk"), ("meta", orjson.dumps(meta))]
        self.send(declared.RECORDINGS, 0, session_key(PROJECT, session), orjson.dumps(RRWEB), headers)

    def pass_time(self, moment: int, *, source: int) -> None:
        for partition in range(2):
            value = orjson.dumps({"v": 1, "src": source, "at": moment})
            self.send(declared.EVENTS, partition, None, value, [("kind", b"digest_tick")])

    def analyze(self) -> None:
        """Fold the log from its beginning, and say what it gives; what was said before is said again."""
        self.flush()
        for partition, (low, end) in self.log.bounds(declared.EVENTS).items():
            fold = PartitionFold(AnalyzeLogic())
            for record in self.log.read(declared.EVENTS, partition, start=low, end=end):
                value, key = record.value or b"", record.key or b""
                fold.feed([LogRecord(record.offset, record.timestamp, record.kind, key, value, headers=record.headers)])
            batch = fold.cut()
            for output in batch.outputs:
                topic = next(topic for topic in declared.ALL if topic.name == output.topic)
                self.send(topic, partition, output.key, output.value)
            self.send(declared.ANALYZE_CHANGELOG, partition, *batch.record)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def check(self, **options: Any) -> Report:
        with connect(self.settings.database, application_name="test") as connection:
            return Check(self.log, Tables(connection), AnalyzeLogic()).run(**options)


@pytest.fixture
def system(kafka: str, topics: str, database: str) -> Iterator[System]:
    add_project(database)
    settings = environment(kafka=kafka, prefix=topics, database=database)
    with ExitStack() as stack:
        for name in SINKS:
            stack.enter_context(running(name, settings))
        yield System(settings)


@pytest.fixture
def stored(system: System, database: str) -> System:
    """Give a system that has stored three sessions whole: two closed ones, one of them recorded, and an open one."""
    system.events(
        "s1", [event(1, x_position=5), event(2, **POOR), event(5_003, event_type="error", error_message="oh")]
    )
    system.events("s1", [event(1, x_position=5)])  # sent twice by its client
    system.events("s2", [event(4), event(5, metadata={"b": [1, {"c": None}], "a": "ü"})], partition=1)
    system.chunk("s1", seq=0)
    system.chunk("s1", seq=1)
    system.pass_time(NOW_MS + 3_600_000, source=0)
    system.events("s3", [event(6)])
    system.pass_time(NOW_MS + 3_600_001, source=1)
    system.analyze()
    until(lambda: query(database, "SELECT count(*) FROM traceflow_sessions WHERE version >= 0") == [(3,)])
    return system


def test_a_system_that_lives_is_as_its_log_says(stored: System, database: str) -> None:
    report = stored.check()
    assert report.differences == []
    assert set(report.compared) >= COUNTED
    # six events and the finding of the slow page
    assert (report.compared["traceflow_events"], report.compared["traceflow_sessions"]) == (7, 3)
    assert report.compared["session_recording_chunks"] == 2
    assert report.compared["traceflow_ai_queue"] == query(database, "SELECT count(*) FROM traceflow_ai_queue")[0][0] > 0
    assert report.compared["traceflow_ux_issue_findings"] == 2
    # read from its middle, what it says of a session that began before is not judged
    report = stored.check(offset=1)
    assert (report.differences, report.began_before) == ([], 1)


def test_what_was_deleted_or_changed_by_hand_is_found(
    stored: System, kafka: str, topics: str, database: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stored.check()  # waits until all is stored
    ids = {number: event(number)["id"] for number in range(7)}
    execute(database, "DELETE FROM traceflow_events WHERE id = %s", ids[4])
    execute(database, """UPDATE traceflow_events SET metadata = '{"a": "ü"}' WHERE id = %s""", ids[5])
    execute(database, "UPDATE traceflow_events SET x_position = NULL WHERE id = %s", ids[1])
    execute(
        database, "UPDATE traceflow_sessions SET landing_page = 'https://elsewhere.example/' WHERE session_id = 's1'"
    )
    execute(database, "UPDATE traceflow_sessions SET frustration_score = 99 WHERE session_id = 's3'")
    execute(database, "DELETE FROM session_recording_chunks WHERE seq = 1")
    execute(database, "UPDATE session_recording_chunks SET events = '[]' WHERE seq = 0")
    (job,) = query(database, "SELECT id FROM traceflow_ai_queue ORDER BY id LIMIT 1")
    execute(database, "DELETE FROM traceflow_ai_queue WHERE id = %s", *job)
    found = stored.check().differences
    expected = [
        Difference("traceflow_events", "missing", PROJECT, "s2", ids[4]),
        Difference("traceflow_events", "changed", PROJECT, "s2", ids[5]),
        Difference("traceflow_events", "changed", PROJECT, "s1", ids[1]),
        Difference("traceflow_sessions", "changed", PROJECT, "s1", ""),
        Difference("traceflow_sessions", "changed", PROJECT, "s2", "counters"),
        Difference("traceflow_sessions", "changed", PROJECT, "s3", "counters"),
        Difference("session_recording_chunks", "missing", PROJECT, "s1", "w/1"),
        Difference("session_recording_chunks", "changed", PROJECT, "s1", "w/0"),
        Difference("traceflow_ai_queue", "missing", PROJECT, "s1", str(job[0])),
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)

    for name, value in (("KAFKA_BOOTSTRAP", kafka), ("TOPIC_PREFIX", topics), ("DATABASE_URL", database)):
        monkeypatch.setenv(f"TRACEFLOW_{name}", value)
    assert run(["replay", "--check", "--json"]) == 1
    assert len(orjson.loads(capsys.readouterr().out)["differences"]) == len(expected)
    # a tenth of a second ago nothing of it was sent: nothing is judged, and nothing is wrong
    assert run(["replay", "--check", "--from", "0s"]) == 0

    # what is not folded yet is not judged
    stored.events("s4", [event(9)])
    stored.flush()
    with pytest.raises(NotCaughtUp, match=r"analyze is 1 records behind"):
        stored.check(patience_s=0.1)
