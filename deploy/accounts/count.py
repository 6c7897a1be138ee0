"""Count the accounts: see the package."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from adapters.dead_letter_marks import LetterId, Marks, MarkState
from adapters.dead_letter_reader import LetterFilter, read_dead_letters
from adapters.erasures import Erasures
from adapters.kafka_consumer import ConsumedRecord, describe_topic
from adapters.postgres import Connection, read_queries
from deploy.replay.caught_up import Bounds, wait_until_stored
from deploy.replay.log import Log
from deploy.replay.parked import ParkedRows
from schemas import topics
from schemas.ids import parse_session_key
from schemas.topics import Topic
from sinks.commit.loop import prepared
from sinks.contract.sink import Sink
from sinks.tables.record_owner import owner_of_key
from sinks.topics.events import EventsSink
from sinks.topics.recordings import RecordingsSink

EVENTS, CHUNKS = "events", "chunks"
UNKNOWN_PROJECT = ""
"""Of records whose key names none."""


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the events, or chunks, of a project."""

    accepted: int = 0
    rejected: int = 0
    stored: int = 0
    parked: int = 0
    duplicates: int = 0
    erased: int = 0

    @property
    def received(self) -> int:
        """Return how many came in requests that were taken."""
        return self.accepted + self.rejected

    @property
    def unexplained(self) -> int:
        """Return how many are nowhere; below 0, how many are there too often."""
        return self.accepted - self.stored - self.parked - self.duplicates - self.erased


Accounts = dict[tuple[str, str], Account]
"""By project and `events` or `chunks`."""


def count_accounts(
    log: Log, connection: Connection, *, since_ms: int | None = None, patience_s: float = 60.0
) -> Accounts:
    """Count what came since a time, or since the beginning of the log, once the sinks have stored it.

    Raises:
        NotCaughtUp: a sink did not come to the end of the log within the patience.
        TimeoutError, KafkaException, TopicMissing, psycopg.Error: broker or database do not answer.
    """
    bounds = {topic: log.bounds(topic) for topic in (topics.EVENTS, topics.RECORDINGS)}
    wait_until_stored(log, connection, bounds, deadline=time.monotonic() + patience_s)
    counting = _Counting(log, connection, since_ms, _letters(log, connection, since_ms))
    counting.fill(bounds)
    return counting.accounts()


@dataclass(frozen=True, slots=True)
class _Letters:
    parked: ParkedRows
    """What a sink of events or recordings refused and nobody redrove."""
    rejected: Counter[str]
    """By project."""


def _letters(log: Log, connection: Connection, since_ms: int | None) -> _Letters:
    topic_id = describe_topic(log.kafka, topics.DEAD_LETTERS.full_name(log.prefix)).topic_id
    marks = Marks(topic_id).read(connection)
    redriven: set[LetterId] = {mark.place.id for mark in marks.values() if mark.state is MarkState.REDRIVEN}
    parked, rejected = set(), Counter[str]()
    for stored in read_dead_letters(log.kafka, prefix=log.prefix, wanted=LetterFilter(since=since_ms)):
        letter = stored.letter
        if letter.stage == "gateway":
            rejected[stored.project_id] += 1
        elif letter.stage in ("sink-events", "sink-recordings") and stored.place.id not in redriven:
            parked.add((letter.topic, letter.partition, letter.offset, letter.index))
    return _Letters(ParkedRows(frozenset(parked), frozenset()), rejected)


@dataclass(slots=True)
class _Counting:
    log: Log
    connection: Connection
    since_ms: int | None
    letters: _Letters
    parked_without_row: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of which no row can be made, and which are parked: by project and kind."""
    without_row: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """The others of which no row can be made: by project, session and kind."""
    erased: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By project and kind."""
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("deploy.accounts", "accounts.sql"))

    def fill(self, bounds: Mapping[Topic, Bounds]) -> None:
        for query in ("make_events", "make_chunks", "empty"):
            self.connection.execute(self._queries[query])
        self._copy("fill_events", self._events(bounds[topics.EVENTS]))
        self._copy("fill_chunks", self._chunks(bounds[topics.RECORDINGS]))
        self.connection.execute(self._queries["analyze"])
        for kind in (EVENTS, CHUNKS):
            for project_id, count in self.connection.execute(self._queries[f"take_erased_{kind}"]):
                self.erased[project_id, kind] += count
        sessions = {(project_id, session_id) for project_id, session_id, _ in self.without_row if session_id}
        for project_id, session_id in Erasures().blocked(self.connection, sessions):
            for kind in (EVENTS, CHUNKS):
                self.erased[project_id, kind] += self.without_row.pop((project_id, session_id, kind), 0)

    def _copy(self, query: str, rows: Iterator[tuple[Any, ...]]) -> None:
        with self.connection.cursor() as cursor, cursor.copy(self._queries[query]) as copy:
            for row in rows:
                copy.write_row(row)

    def accounts(self) -> Accounts:
        rejected = self.letters.rejected
        found: Accounts = {(project_id, EVENTS): Account(rejected=count) for project_id, count in rejected.items()}
        for kind in (EVENTS, CHUNKS):
            for project_id, accepted, parked, duplicates, stored in self.connection.execute(
                self._queries[f"count_{kind}"]
            ):
                known = found.get((project_id, kind), Account())
                found[project_id, kind] = Account(accepted, known.rejected, stored, parked, duplicates)
        for (project_id, _, kind), count in self.without_row.items():
            known = found.get((project_id, kind), Account())
            found[project_id, kind] = replace(known, accepted=known.accepted + count)
        for place, count in self.parked_without_row.items():
            known = found.get(place, Account())
            found[place] = replace(known, accepted=known.accepted + count, parked=known.parked + count)
        for place, count in (+self.erased).items():
            known = found.get(place, Account())
            found[place] = replace(known, accepted=known.accepted + count, erased=count)
        return found

    def _events(self, bounds: Bounds) -> Iterator[tuple[Any, ...]]:
        sink = EventsSink()
        for record, content in self._contents(sink, bounds, EVENTS):
            for row in (*content.rows(), *content.restamped):
                name = row.line[: row.line.index(b"\t")].decode()
                at = datetime.fromtimestamp(row.timestamp_ms / 1000, UTC)
                is_parked = self.letters.parked.holds(record, sink.topic, row.index)
                yield *content.owner, name, at, row.restamped, is_parked

    def _chunks(self, bounds: Bounds) -> Iterator[tuple[Any, ...]]:
        sink = RecordingsSink()
        for record, chunk in self._contents(sink, bounds, CHUNKS):
            is_parked = self.letters.parked.holds(record, sink.topic, -1)
            yield chunk.project_id, chunk.session_id, chunk.window_id, chunk.seq, is_parked

    def _contents(self, sink: Sink[Any], bounds: Bounds, kind: str) -> Iterator[tuple[ConsumedRecord, Any]]:
        """Yield what the sink makes of each record; what it cannot use is counted here."""
        for partition, ends in bounds.items():
            start = self.log.start(sink.topic, partition, ends, since_ms=self.since_ms)
            for record in self.log.read(sink.topic, partition, start=start, end=ends[1]):
                item = prepared(sink, record)
                if item is None:
                    continue
                for refusal in item.refusals:
                    project_id, session_id = owner_of_key(record.key) or (_project(record), "")
                    if self.letters.parked.holds(record, sink.topic, refusal.index):
                        self.parked_without_row[project_id, kind] += 1
                    else:
                        self.without_row[project_id, session_id, kind] += 1
                if item.content is not None:
                    yield record, item.content


def _project(record: ConsumedRecord) -> str:
    try:
        return parse_session_key(record.key or b"")[0]
    except ValueError:
        return UNKNOWN_PROJECT
