"""`traceflow replay --check`: the order is the package's."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from adapters.dead_letter_reader import LetterFilter, read_dead_letters
from adapters.kafka_consumer import ConsumedRecord
from deploy.command.positions import fold_positions
from deploy.replay.log import Log
from deploy.replay.tables import Difference, ExpectedEvent, Tables
from schemas import topics
from schemas.messages import Kind, SessionSnapshot
from sinks.events import EventsSink
from sinks.loop import prepared
from sinks.recordings import Chunk, RecordingsSink
from sinks.signals import SignalsSink
from stream_processors.fold import PartitionFold
from stream_processors.logic import LogRecord, Output, SessionLogic
from stream_processors.offline.said import Said

BATCH_ROWS = 5_000
CHUNK_BATCH_BYTES = 16_000_000

_STORED = (topics.EVENTS, topics.RECORDINGS, topics.SIGNALS, topics.SESSIONS, topics.AI_JOBS)
_SAID = (topics.SIGNALS, topics.SESSIONS, topics.AI_JOBS)


class NotCaughtUp(Exception):
    """Analyze or a sink is behind the end of the log: nothing can be said yet."""


@dataclass(slots=True)
class Report:
    """What was compared."""

    compared: Counter[str] = field(default_factory=Counter)
    """Rows by table."""
    began_before: int = 0
    """Sessions that are not judged because they began before the log that was read."""
    parked: int = 0
    """Rows that are not judged because a sink parked them."""
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parked:
    """What the sinks have parked."""

    places: frozenset[tuple[str, int, int, int]]
    """Topic, partition, offset, index."""
    values: frozenset[bytes]
    """Of records that analyze said, whose offsets a replay does not know."""

    def holds(self, record: ConsumedRecord, topic: topics.Topic, index: int) -> bool:
        """Tell whether a row, or its whole record, was parked."""
        place = topic.name, record.partition, record.offset
        return (*place, -1) in self.places or (*place, index) in self.places


@dataclass(slots=True)
class Check:
    """One comparison of a log with a database."""

    log: Log
    tables: Tables
    logic: SessionLogic[Any]
    project_id: str | None = None
    report: Report = field(default_factory=Report)

    def run(self, *, since_ms: int | None = None, offset: int | None = None, patience_s: float = 60.0) -> Report:
        """Compare from a time, or an offset of `traceflow.events`, or the beginning of the log.

        Raises:
            NotCaughtUp: analyze or a sink did not come to the end of the log within the patience.
            TimeoutError, KafkaException: the broker does not answer.
        """
        self.tables.open()
        events, recordings = self.log.bounds(topics.EVENTS), self.log.bounds(topics.RECORDINGS)
        self._wait(
            {p: end for p, (_, end) in events.items()}, {p: end for p, (_, end) in recordings.items()}, patience_s
        )
        parked = self._parked()
        for partition, (low, end) in events.items():
            start = self._start(topics.EVENTS, partition, low, end, since_ms=since_ms, offset=offset)
            self._check_events(partition, start, end, parked)
        for partition, (low, end) in recordings.items():
            start = self._start(topics.RECORDINGS, partition, low, end, since_ms=since_ms, offset=None)
            self._check_chunks(partition, start, end, parked)
        return self.report

    def _start(
        self, topic: topics.Topic, partition: int, low: int, end: int, *, since_ms: int | None, offset: int | None
    ) -> int:
        if since_ms is not None:
            found = self.log.offset_at(topic, partition, since_ms)
            return end if found is None else max(low, found)
        return max(low, offset or 0)

    # --- waiting

    def _wait(self, events: Mapping[int, int], recordings: Mapping[int, int], patience_s: float) -> None:
        """Wait until analyze has folded the log, and the sinks have stored it and what analyze said of it."""
        ends_at = time.monotonic() + patience_s
        changelog = topics.ANALYZE_CHANGELOG.full_name(self.log.prefix)
        with closing(self.log.consumer(reports_ends=True)) as consumer:
            while behind := _behind(events, fold_positions(consumer, changelog=changelog, partitions=events)):
                _pause("analyze", behind, ends_at)
        ends = {(topics.EVENTS, p): end for p, end in events.items()}
        ends |= {(topics.RECORDINGS, p): end for p, end in recordings.items()}
        ends |= {(topic, p): end for topic in _SAID for p, (_, end) in self.log.bounds(topic).items()}
        wanted = {(topic.full_name(self.log.prefix), p): end for (topic, p), end in ends.items()}
        names = [topic.full_name(self.log.prefix) for topic in _STORED]
        while behind := _behind(wanted, self.tables.offsets(names)):
            _pause("a sink", behind, ends_at)

    def _parked(self) -> Parked:
        places, values = set(), set()
        for stored in read_dead_letters(self.log.kafka, prefix=self.log.prefix, wanted=LetterFilter()):
            letter = stored.letter
            if letter.stage.startswith("sink-"):
                places.add((letter.topic, letter.partition, letter.offset, letter.index))
                if letter.topic in {topic.name for topic in _SAID}:
                    values.add(stored.value or b"")
        return Parked(frozenset(places), frozenset(values))

    # --- comparing

    def _check_events(self, partition: int, start: int, end: int, parked: Parked) -> None:
        fold, said, sink = PartitionFold(self.logic), Said(), EventsSink()
        seen: set[str] = set()
        rows: list[ExpectedEvent] = []
        for record in self.log.read(topics.EVENTS, partition, start=start, end=end):
            if record.kind == Kind.EVENTS:
                rows += self._event_rows(sink, record, seen, parked)
            fold.feed((_log_record(record),))
            if fold.pending >= BATCH_ROWS:
                self._take_said(said, fold, parked)
            if len(rows) >= BATCH_ROWS:
                self._compare_events(rows)
                rows = []
        self._take_said(said, fold, parked)
        self._compare_events(rows)
        self._compare_said(said, start)

    def _take_said(self, said: Said, fold: PartitionFold[Any], parked: Parked) -> None:
        outputs = fold.cut().outputs
        stored = [output for output in outputs if output.value not in parked.values]
        self.report.parked += len(outputs) - len(stored)
        said.take(stored)

    def _event_rows(
        self, sink: EventsSink, record: ConsumedRecord, seen: set[str], parked: Parked
    ) -> Iterable[ExpectedEvent]:
        """Yield the rows of a record that no earlier one gave."""
        item = prepared(sink, record)
        content = item.content if item is not None else None
        if content is None or self.project_id not in (None, content.project_id):
            return
        for row in (*content.rows(), *content.restamped):
            name = row.line[: row.line.index(b"\t")].decode()
            if parked.holds(record, topics.EVENTS, row.index):
                self.report.parked += 1
            elif name not in seen:
                seen.add(name)
                yield ExpectedEvent(name, content.project_id, content.session_id, row.line, row.restamped)

    def _compare_events(self, rows: list[ExpectedEvent]) -> None:
        self.report.compared["traceflow_events"] += len(rows)
        self.report.differences += self.tables.events(rows)

    def _compare_said(self, said: Said, start: int) -> None:
        """Compare what analyze said of the sessions that it has seen whole."""
        snapshots = [each for each in said.sessions.values() if self.project_id in (None, each.project_id)]
        lives = self.tables.lives([each.session_id for each in snapshots])
        judged = [each for each in snapshots if not _began_before(each, lives, start)]
        self.report.began_before += len(snapshots) - len(judged)
        owners = {(each.project_id, each.session_id) for each in judged}
        self.report.compared["traceflow_sessions"] += len(judged)
        self.report.differences += self.tables.sessions(judged)
        self.report.differences += self.tables.counters([each.session_id for each in judged])
        self._compare_findings((output for _, output in said.findings.values()), owners)
        jobs = [job for job in said.jobs.values() if (job.project_id, job.session_id) in owners]
        self.report.compared["traceflow_ai_queue"] += len(jobs)
        self.report.differences += self.tables.jobs(jobs)

    def _compare_findings(self, outputs: Iterable[Output], owners: set[tuple[str, str]]) -> None:
        sink, rows, links = SignalsSink(), [], {}
        for output in outputs:
            item = prepared(sink, ConsumedRecord(0, 0, 0, "", output.key, output.value))
            content = item.content if item is not None else None
            if content is None or content.owner not in owners:
                continue
            if content.finding.event_row:
                rows.append(ExpectedEvent(content.finding.id, *content.owner, content.lines, restamped=False))
            if content.issue is not None:
                links[content.finding.id] = content.owner
        self._compare_events(rows)
        self.report.compared["traceflow_ux_issue_findings"] += len(links)
        self.report.differences += self.tables.issue_links(links)

    def _check_chunks(self, partition: int, start: int, end: int, parked: Parked) -> None:
        sink, seen, chunks, size = RecordingsSink(), set(), [], 0
        for record in self.log.read(topics.RECORDINGS, partition, start=start, end=end):
            item = prepared(sink, record)
            chunk = item.content if item is not None else None
            if chunk is None or item is None or self.project_id not in (None, chunk.project_id):
                continue
            if parked.holds(record, topics.RECORDINGS, -1):
                self.report.parked += 1
                continue
            place = chunk.session_id, chunk.window_id, chunk.seq
            if place not in seen:
                seen.add(place)
                chunks.append(chunk)
                size += item.size_bytes
            if size >= CHUNK_BATCH_BYTES:
                self._compare_chunks(chunks)
                chunks, size = [], 0
        self._compare_chunks(chunks)

    def _compare_chunks(self, chunks: list[Chunk]) -> None:
        self.report.compared["session_recording_chunks"] += len(chunks)
        self.report.differences += self.tables.chunks(chunks)


def _began_before(snapshot: SessionSnapshot, lives: Mapping[str, tuple[int, str]], start: int) -> bool:
    """Tell whether a session is not this log's to judge: it began before, or is another project's."""
    life, project_id = lives.get(snapshot.session_id, (-1, snapshot.project_id))
    return 0 <= life < start or project_id != snapshot.project_id


def _behind(wanted: Mapping[Any, int], reached: Mapping[Any, int]) -> dict[Any, int]:
    return {place: end - reached.get(place, 0) for place, end in wanted.items() if reached.get(place, 0) < end}


def _pause(who: str, behind: Mapping[Any, int], ends_at: float) -> None:
    if time.monotonic() > ends_at:
        raise NotCaughtUp(f"{who} is {sum(behind.values())} records behind the end of the log: see `traceflow status`")
    time.sleep(0.5)


def _log_record(record: ConsumedRecord) -> LogRecord:
    return LogRecord(
        offset=record.offset,
        timestamp=record.timestamp,
        kind=record.kind,
        key=record.key or b"",
        value=record.value or b"",
        headers=record.headers,
    )
