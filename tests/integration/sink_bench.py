"""One sink on a real database, fed by hand: records in, rows and dead letters out, no broker in between."""

import itertools
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
from prometheus_client import CollectorRegistry
from psycopg import sql
from pydantic import SecretStr

from adapters.dead_letters import DeadLetterLimit, DeadLetterWriter
from adapters.kafka_consumer import ConsumedRecord, TopicIdentity
from adapters.postgres import connect
from schemas.connections import DatabaseSettings
from schemas.ids import session_key
from schemas.messages import AiJob, DeadLetter, Finding, SessionSnapshot, encode, parse_dead_letter_headers
from sinks.app import SINKS
from sinks.commit.backoff import Backoff
from sinks.commit.batching import Batch, BatchLimits, Collector
from sinks.commit.loop import prepared
from sinks.commit.offsets import Offsets
from sinks.commit.writer import Step, Writer, Written
from sinks.contract.sink import Prepared
from sinks.metrics import declare_metrics
from sinks.settings import SinkSettings

NOW_MS = int(datetime.now(UTC).timestamp() * 1000)
PROJECT = "11111111-1111-4111-8111-111111111111"
OTHER_PROJECT = "22222222-2222-4222-8222-222222222222"


class CapturedLetters:
    """A producer that keeps the letters; fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.letters: list[DeadLetter] = []
        self.values: list[bytes | None] = []
        self.failures = failures

    def produce(self, _topic: str, value: bytes | None, _key: bytes | None, **kwargs: Any) -> None:
        if self.failures:
            return
        self.letters.append(parse_dead_letter_headers(kwargs["headers"])[0])
        self.values.append(value)
        kwargs["on_delivery"](None, self)

    def offset(self) -> int:
        """Say, as the letter's place, that there is one."""
        return len(self.letters) - 1

    def flush(self, _timeout: float) -> int:
        if self.failures:
            self.failures -= 1
            return 1
        return 0

    def purge(self, *_args: Any, **_kwargs: Any) -> None:
        return None


@dataclass
class SinkBench:
    """A writer with a log of its own: what is written gets the next offsets."""

    url: str
    sink_name: str
    partition: int = 0
    owner: str = field(default_factory=lambda: f"bench-{uuid.uuid4().hex[:12]}")
    on_step: Callable[[Step], None] = lambda _step: None
    limit: DeadLetterLimit = field(default_factory=DeadLetterLimit)
    settings: SinkSettings = field(default_factory=SinkSettings)
    letters: CapturedLetters = field(default_factory=CapturedLetters)

    def __post_init__(self) -> None:
        self.sink = SINKS[self.sink_name]()
        self.registry = CollectorRegistry()
        database = DatabaseSettings(url=SecretStr(self.url))
        self.writer: Writer[Any] = Writer(
            sink=self.sink,
            offsets=Offsets(sink=self.sink_name, topic=TopicIdentity("t", "topic-id", 4), owner=self.owner),
            connect=lambda: connect(database, application_name=self.owner, session=self.settings.session()),
            letters=DeadLetterWriter(lambda: self.letters, prefix="t.", stage=f"sink-{self.sink_name}"),
            metrics=declare_metrics(self.registry),
            limit=self.limit,
            backoff=Backoff(first_s=0.01, longest_s=0.1),
            on_step=lambda step: self.on_step(step),
        )
        self._offsets = itertools.count()
        self.epochs: dict[int, int] = {}
        self.collector: Collector[Prepared[Any]] = Collector(BatchLimits())
        self.take_over()

    def take_over(self) -> None:
        """Claim the partition and go on where it stands."""
        claim = self.writer.claim({self.partition: 0})[self.partition]
        self.epochs = {self.partition: claim.epoch}
        self.collector.restart({self.partition: claim.next_offset})
        self._offsets = itertools.count(claim.next_offset)

    def batch(self, records: Iterable[ConsumedRecord]) -> Batch[Prepared[Any]]:
        """Prepare records as the loop does."""
        for record in records:
            item = prepared(self.sink, record)
            self.collector.add(
                item,
                partition=record.partition,
                offset=record.offset,
                rows=item.rows if item else 0,
                size_bytes=item.size_bytes if item else 0,
                timestamp=record.timestamp,
            )
        return self.collector.take()

    def write(self, records: Iterable[ConsumedRecord]) -> Written:
        """Write records as one batch."""
        return self.writer.write(self.batch(records), self.epochs)

    def record(
        self, value: Mapping[str, Any] | bytes, *, key: bytes | None = None, kind: str = "", meta: bytes = b""
    ) -> ConsumedRecord:
        """Make the next record of the log."""
        data = value if isinstance(value, bytes) else orjson.dumps(value)
        if key is None and isinstance(value, Mapping):
            key = session_key(value["project_id"], value["session_id"])
        headers = tuple((name, content) for name, content in (("kind", kind.encode()), ("meta", meta)) if content)
        return ConsumedRecord(
            partition=self.partition,
            offset=next(self._offsets),
            timestamp=NOW_MS,
            kind=kind,
            key=key,
            value=data,
            headers=headers,
        )

    def events(
        self, events: Sequence[Mapping[str, Any]], *, session: str = "s1", project: str = PROJECT, **more: Any
    ) -> ConsumedRecord:
        """Make a record of events."""
        return self.record(
            {
                "v": 1,
                "project_id": project,
                "session_id": session,
                "received_at": NOW_MS,
                "settings": {"version": 1},
                "events": list(events),
                **more,
            },
            kind="events",
        )

    def message(self, message: Finding | SessionSnapshot | AiJob) -> ConsumedRecord:
        """Make a record of a message."""
        return self.record(encode(message), key=session_key(message.project_id, message.session_id))

    def reasons(self) -> list[tuple[str, int, int]]:
        """Return reason, offset and index of each dead letter."""
        return [(letter.reason, letter.offset, letter.index) for letter in self.letters.letters]

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


def event(number: int, **fields: Any) -> dict[str, Any]:
    """Return a click; its id and time follow from the number."""
    return {
        "id": str(uuid.UUID(int=number, version=4)),
        "timestamp": NOW_MS - 60_000 + number,
        "event_type": "click",
        **fields,
    }


@contextmanager
def copied_database(server: str, template: str) -> Iterator[str]:
    """Give a database for all tests of a module: a copy costs a second, `emptied` a few milliseconds."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    head, _, options = server.partition("?")
    yield head.rpartition("/")[0] + "/" + name + (f"?{options}" if options else "")
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def emptied(url: str) -> str:
    """Remove what a test may have left, and make the project that the next one takes for granted."""
    with psycopg.connect(url) as connection:
        for table in _WRITTEN:
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*table.split("."))))
        connection.execute("INSERT INTO traceflow_projects (id, name) VALUES (%s, 'test')", (PROJECT,))
    return url


_WRITTEN = (
    "traceflow_sink_offsets",
    "traceflow_erasures",
    "neurorouter_logs",
    "traceflow_ai_queue",
    "traceflow_ux_issues",
    "traceflow_events",
    "traceflow_event_hour_counts",
    "session_recording_chunks",
    "session_recordings",
    "traceflow_sessions",
    "traceflow_subscriptions",
    "traceflow_projects",
    "auth.users",
)


def query(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Ask the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode(), parameters or None).fetchall()


def execute(url: str, statement: str, *parameters: Any) -> None:
    """Change the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode(), parameters or None)


def add_project(url: str, project_id: str = PROJECT) -> None:
    """Make a project."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO traceflow_projects (id, name) VALUES (%s, 'test')", (project_id,))


COUNTERS = """
SELECT s.session_id, s.event_count, s.rage_click_count, s.dead_click_count, s.error_count, s.finding_counts,
       s.frustration_score
FROM traceflow_sessions s ORDER BY 1
"""

RECOUNTED = """
SELECT s.session_id, count(e.id), count(*) FILTER (WHERE e.event_type = 'rage_click'),
       count(*) FILTER (WHERE e.event_type = 'dead_click'), count(*) FILTER (WHERE e.event_type = 'error'),
       coalesce((SELECT jsonb_object_agg(k.event_type, k.n) FROM (
         SELECT f.event_type, count(*) AS n FROM traceflow_events f WHERE f.session_id = s.session_id
         AND traceflow_finding_weight(f.event_type) IS NOT NULL GROUP BY 1) k), '{}'),
       traceflow_frustration_score(s.finding_counts)
FROM traceflow_sessions s LEFT JOIN traceflow_events e ON e.session_id = s.session_id
GROUP BY s.session_id, s.finding_counts ORDER BY 1
"""


HOURS = "SELECT project_id::text, hour, event_type, events FROM traceflow_event_hours ORDER BY 1, 2, 3"

HOURS_RECOUNTED = """
SELECT project_id::text, date_trunc('hour', "timestamp", 'UTC'), traceflow_counted_type(event_type), count(*)
FROM traceflow_events GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def assert_counters_equal_rows(url: str) -> None:
    """Hold what sessions and hours promise: counters are count(*) over their rows, the score that of its counts."""
    assert query(url, COUNTERS) == query(url, RECOUNTED)
    assert query(url, HOURS) == query(url, HOURS_RECOUNTED)


_COMPARED = (
    *("traceflow_events", "traceflow_sessions", "session_recordings", "session_recording_chunks"),
    *("traceflow_ai_queue", "traceflow_ux_issues", "traceflow_ux_issue_findings", "traceflow_ux_issue_sessions"),
    *("traceflow_ux_issue_visitors", "traceflow_subscriptions", "traceflow_sink_offsets", "traceflow_event_hours"),
)


def contents(url: str) -> dict[str, list[Any]]:
    """Return every row of every table that sinks write, but for the moments of writing and the offsets."""
    moments = "ARRAY['created_at', 'updated_at', 'next_offset']"
    rows = "SELECT (to_jsonb(t) - {})::text AS r FROM {} t ORDER BY r"
    return {table: [row for (row,) in query(url, rows.format(moments, table))] for table in _COMPARED}
