"""Sinks on a real broker and a real database, run in this process; feeds their topics and looks into the tables."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from adapters.kafka_admin import Layout, create_topics, delete_topics
from adapters.kafka_producer import producer_config
from schemas import topics
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.ids import session_key
from sinks.app import Environment, build_loops
from sinks.commit.loop import SinkLoop
from sinks.commit.writer import Step
from sinks.metrics import declare_metrics
from sinks.settings import SinkSettings
from tests.integration.sink_bench import NOW_MS, PROJECT, event, query

DEADLINE_S = 60.0


def environment(*, kafka: str, prefix: str, database: str, **sink: Any) -> Environment:
    """Return the settings of a process."""
    return Environment(
        kafka=KafkaSettings(bootstrap=kafka),
        database=DatabaseSettings(url=SecretStr(database)),
        log=LogSettings(topic_prefix=prefix),
        sink=SinkSettings(**sink),
    )


def until(condition: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s"
        time.sleep(0.05)


class RunningSink:
    """A sink that runs on a thread of its own."""

    def __init__(self, name: str, settings: Environment, on_step: Callable[[Step], None] = lambda _step: None) -> None:
        self.registry = CollectorRegistry()
        self._stopping = threading.Event()
        loops = build_loops(
            [name], settings, metrics=declare_metrics(self.registry), stopping=self._stopping, on_step=on_step
        )
        self.loop: SinkLoop[Any] = loops[name]
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"test-{name}")
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        """Stop as SIGTERM does, and pass its failure on."""
        self._stopping.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def ended(self) -> bool:
        """Tell whether it ended by itself."""
        return not self._thread.is_alive()


@contextmanager
def running(name: str, settings: Environment) -> Iterator[RunningSink]:
    """Run a sink for the time of a block."""
    sink = RunningSink(name, settings)
    try:
        yield sink
    finally:
        sink.stop()


class Log:
    """Feeds topics as the gateway does."""

    def __init__(self, settings: Environment) -> None:
        self._prefix = settings.log.topic_prefix
        config: dict[str, Any] = {**producer_config(settings.kafka, linger_ms=0)}
        self._producer = Producer(config, logger=logging.getLogger("librdkafka"))

    def send(
        self, topic: topics.Topic, key: bytes, value: bytes, *, kind: str = "", meta: bytes = b"", partition: int = -1
    ) -> None:
        """Send one record."""
        given = {"kind": kind.encode(), "meta": meta}
        headers: list[tuple[str, str | bytes | None]] = [(name, content) for name, content in given.items() if content]
        self._producer.produce(topic.full_name(self._prefix), value, key, partition, headers=headers)

    def events(self, events: Iterable[Mapping[str, Any]], *, session: str) -> None:
        """Send a record of events."""
        value = {
            "v": 1,
            "project_id": PROJECT,
            "session_id": session,
            "received_at": NOW_MS,
            "settings": {"version": 1},
            "events": list(events),
        }
        self.send(topics.EVENTS, session_key(PROJECT, session), orjson.dumps(value), kind="events")

    def load(self, first: int, requests: int, *, events_each: int = 5, sessions: int = 20) -> int:
        """Send requests whose events have numbers of their own; return how many events those are."""
        for n in range(requests):
            numbers = range((first + n) * events_each, (first + n + 1) * events_each)
            made = [event(number, event_type="error" if number % 7 == 0 else "click") for number in numbers]
            self.events(made, session=f"s{n % sessions}")
        self.flush()
        return requests * events_each

    def flush(self) -> None:
        """Wait for the acknowledgements."""
        assert self._producer.flush(DEADLINE_S) == 0


def row_count(database: str) -> int:
    """Count the rows of events."""
    return int(query(database, "SELECT count(*) FROM traceflow_events")[0][0])


def recreate_topic(kafka: str, topic: topics.Topic, layout: Layout) -> None:
    """Delete a topic and make it anew."""
    admin = AdminClient({"bootstrap.servers": kafka})
    delete_topics(admin, [topic.full_name(layout.prefix)])
    until(lambda: topic.full_name(layout.prefix) not in admin.list_topics(timeout=10).topics)
    create_topics(admin, [topic], layout)
