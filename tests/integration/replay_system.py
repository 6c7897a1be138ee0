"""A system whose analyze is this process: its sinks run, its log is fed by hand, and it can be replayed."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import orjson
from confluent_kafka import Producer

from adapters.kafka_producer import producer_config
from adapters.postgres import connect
from deploy.replay.check import Check
from deploy.replay.log import Log
from deploy.replay.report import Meant, Report
from deploy.replay.restore import Restorer
from deploy.replay.tables import Tables
from schemas import topics as declared
from schemas.ids import session_key
from sinks.app import SINKS, Environment
from sinks.commit.writer import Step
from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.fold.logic import LogRecord
from stream_processors.fold.partition import PartitionFold
from tests.integration.sink_bench import NOW_MS, PROJECT, event, query
from tests.integration.sink_system import running, until

POOR = {"event_type": "web_vital", "event_name": "LCP", "metadata": {"value": 9_000}, "page_url": "https://a.example/"}
RRWEB = [{"type": 4, "timestamp": NOW_MS - 50_000, "data": {"href": "https://a.example/", "width": 1, "height": 1}}]


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

    def restore(
        self,
        on_step: Callable[[Step], None] = lambda _step: None,
        *,
        session_id: str | None = None,
        offset: int | None = None,
    ) -> Report:
        """Replay, and write what is missing."""
        with (
            closing(Restorer(self.settings, on_step)) as restorer,
            connect(self.settings.database, application_name="test") as connection,
        ):
            return Check(self.log, Tables(connection), AnalyzeLogic(), Meant(session_id=session_id), restorer).run(
                offset=offset
            )


@contextmanager
def running_system(settings: Environment) -> Iterator[System]:
    """Run all sinks for the time of a block."""
    with ExitStack() as stack:
        for name in SINKS:
            stack.enter_context(running(name, settings))
        system = System(settings)
        stack.callback(system.log.close)
        yield system


def store_three_sessions(system: System, database: str) -> None:
    """Store three sessions whole: two closed ones, one of them recorded, and an open one."""
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
