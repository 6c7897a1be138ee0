"""Walk the log and compare what it gives with the tables; write what is missing, if there is who writes it."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from adapters.erasures import Erasures
from adapters.kafka_consumer import ConsumedRecord
from deploy.replay.caught_up import SAID, Ends, wait_until_analyzed, wait_until_stored
from deploy.replay.log import Log
from deploy.replay.parked import ParkedRows
from deploy.replay.records import as_log_record, record_of, records_of
from deploy.replay.report import Meant, Report
from deploy.replay.tables import Difference, ExpectedEvent, Tables
from schemas import topics
from schemas.messages import AiJob, Kind, SessionSnapshot
from sinks.commit.loop import prepared
from sinks.topics.events import EventsSink
from sinks.topics.recordings import Chunk, RecordingsSink
from sinks.topics.signals import SignalsSink
from stream_processors.fold.logic import Output, SessionLogic
from stream_processors.fold.partition import PartitionFold
from stream_processors.offline.said import Said

BATCH_ROWS = 5_000
BATCH_BYTES = 16_000_000
"""Of the records whose rows are compared at once; whichever is reached first."""

DAY_MS = 86_400_000

Compare = Callable[[], list[Difference]]


class Writes(Protocol):
    """What writes lost rows: `deploy.replay.restore.Restorer`."""

    def write(self, sink: str, records: Sequence[ConsumedRecord]) -> None:
        """Store what is missing of records of a sink's topic."""


@dataclass(slots=True)
class Check:
    """One comparison of a log with a database."""

    log: Log
    tables: Tables
    logic: SessionLogic[Any]
    meant: Meant = field(default_factory=Meant)
    writes: Writes | None = None
    """None leaves everything as it is."""
    forgotten_after_ms: int = 2 * DAY_MS
    """After a silence so long no session is known: the longest gap and the residue of analyze."""
    report: Report = field(default_factory=Report)
    _erasures: Erasures = field(default_factory=Erasures)
    _parked: ParkedRows = field(init=False)

    def run(self, *, since_ms: int | None = None, offset: int | None = None, patience_s: float = 60.0) -> Report:
        """Compare from a time, or an offset of `traceflow.events`, or the beginning of the log.

        Raises:
            NotCaughtUp: analyze or a sink did not come to the end of the log within the patience.
            TimeoutError, KafkaException: the broker does not answer.
            Abandoned, SinkHalted: what is missing cannot be written.
        """
        self.tables.open()
        ends = Ends.of(self.log)
        deadline = time.monotonic() + patience_s
        wait_until_analyzed(self.log, ends.events, deadline=deadline)
        sent = {topics.EVENTS: ends.events, topics.RECORDINGS: ends.recordings}
        said = {topic: self.log.bounds(topic) for topic in SAID}
        wait_until_stored(self.log, self.tables.connection, {**sent, **said}, deadline=deadline)
        self._parked = ParkedRows.of(self.log)
        for partition, bounds in ends.events.items():
            start = self.log.start(topics.EVENTS, partition, bounds, since_ms=since_ms)
            self._check_events(partition, max(start, offset or 0), bounds[1])
        for partition, bounds in ends.recordings.items():
            start = self.log.start(topics.RECORDINGS, partition, bounds, since_ms=since_ms)
            self._check_chunks(partition, start, bounds[1])
        if self.meant.session_id is None:
            self.report.differences += self.tables.hours(self.meant.project_id)
        return self.report

    def _judge(
        self, compare: Compare, records: Callable[[Sequence[Difference]], dict[str, list[ConsumedRecord]]]
    ) -> None:
        """Compare, write the records of what is lost, by sink, and compare again."""
        compared = compare()
        found = self._not_erased(compared)
        self.report.erased += len(compared) - len(found)
        lost = [each for each in found if each.is_lost]
        if self.writes is not None and lost:
            for sink, wanted in records(lost).items():
                self.writes.write(sink, wanted)
            left = set(self._not_erased(compare()))
            self.report.written.update(each.table for each in lost if each not in left)
            found = [each for each in found if each in left]
        self.report.differences += found

    def _not_erased(self, found: Sequence[Difference]) -> list[Difference]:
        """Leave out what is not there because its session was erased."""
        owners = {(each.project_id, each.session_id) for each in found}
        erased = self._erasures.blocked(self.tables.connection, owners)
        return [each for each in found if (each.project_id, each.session_id) not in erased]

    # --- what clients sent

    def _check_events(self, partition: int, start: int, end: int) -> None:
        fold, said, sink = PartitionFold(self.logic), Said(), EventsSink()
        seen: set[str] = set()
        rows: list[ExpectedEvent] = []
        size = 0
        began_ms: int | None = None
        for record in self.log.read(topics.EVENTS, partition, start=start, end=end):
            began_ms = record.timestamp if began_ms is None else began_ms
            if record.kind == Kind.EVENTS:
                rows += self._event_rows(sink, record, seen)
                size += len(record.value or b"")
            fold.feed((as_log_record(record),))
            if fold.pending >= BATCH_ROWS:
                self._take_said(said, fold)
            if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
                self._compare_events("events", rows)
                rows, size = [], 0
        self._take_said(said, fold)
        self._compare_events("events", rows)
        self._compare_said(said, start, self._known_from(partition, start, end, began_ms))

    def _event_rows(self, sink: EventsSink, record: ConsumedRecord, seen: set[str]) -> Iterable[ExpectedEvent]:
        """Yield the rows of a record that no earlier one gave."""
        item = prepared(sink, record)
        content = item.content if item is not None else None
        if content is None or not self.meant.holds(*content.owner):
            return
        for row in (*content.rows(), *content.restamped):
            name = row.line[: row.line.index(b"\t")].decode()
            if self._parked.holds(record, topics.EVENTS, row.index):
                self.report.parked += 1
            elif name not in seen:
                seen.add(name)
                yield ExpectedEvent(name, *content.owner, row.line, row.restamped, record, row.index)

    def _compare_events(self, sink: str, rows: Sequence[ExpectedEvent]) -> None:
        self.report.compared["traceflow_events"] += len(rows)
        self._judge(lambda: self.tables.events(rows), lambda lost: {sink: records_of(rows, lost)})

    # --- what analyze said

    def _take_said(self, said: Said, fold: PartitionFold[Any]) -> None:
        outputs = fold.cut().outputs
        stored = [output for output in outputs if output.value not in self._parked.values]
        self.report.parked += len(outputs) - len(stored)
        said.take(stored)

    def _known_from(self, partition: int, start: int, end: int, began_ms: int | None) -> int:
        """Return the offset from which on a session that appears is a new one, whatever was before the log."""
        if start == 0 or began_ms is None:
            return start
        found = self.log.offset_at(topics.EVENTS, partition, began_ms + self.forgotten_after_ms)
        return end if found is None else found

    def _compare_said(self, said: Said, start: int, known_from: int) -> None:
        """Compare what analyze said of the sessions that it has seen whole."""
        snapshots = [each for each in said.sessions.values() if self.meant.holds(each.project_id, each.session_id)]
        lives = self.tables.lives([each.session_id for each in snapshots])

        def is_whole(snapshot: SessionSnapshot) -> bool:
            life, project_id = lives.get(snapshot.session_id, (-1, snapshot.project_id))
            # a row without a snapshot yet, and no row, do not say when the session began
            begun_within = life >= start if life >= 0 else snapshot.life >= known_from
            return begun_within and project_id == snapshot.project_id

        judged = [each for each in snapshots if is_whole(each)]
        self.report.began_before += len(snapshots) - len(judged)
        owners = {(each.project_id, each.session_id) for each in judged}
        self._compare_findings((output for _, output in said.findings.values()), owners)
        self._compare_sessions(said, judged)
        self._compare_jobs([job for job in said.jobs.values() if (job.project_id, job.session_id) in owners])

    def _compare_sessions(self, said: Said, judged: Sequence[SessionSnapshot]) -> None:
        self.report.compared["traceflow_sessions"] += len(judged)

        def records(lost: Sequence[Difference]) -> dict[str, list[ConsumedRecord]]:
            wanted = {(each.project_id, each.session_id) for each in lost}
            lives = sorted(said.lives.values(), key=lambda each: each.version)
            return {"sessions": [record_of(each) for each in lives if (each.project_id, each.session_id) in wanted]}

        self._judge(lambda: self.tables.sessions(judged), records)
        self.report.differences += self.tables.counters([each.session_id for each in judged])
        recorded = [(each.project_id, each.session_id) for each in judged if each.recording is not None]
        self.report.compared["session_recordings"] += len(recorded)
        self._judge(lambda: self.tables.recordings(recorded), records)

    def _compare_findings(self, outputs: Iterable[Output], owners: set[tuple[str, str]]) -> None:
        sink, rows, links, linked = SignalsSink(), [], {}, {}
        for output in outputs:
            record = ConsumedRecord(0, 0, 0, "", output.key, output.value)
            item = prepared(sink, record)
            content = item.content if item is not None else None
            if content is None or content.owner not in owners:
                continue
            if content.finding.event_row:
                rows.append(
                    ExpectedEvent(content.finding.id, *content.owner, content.lines, restamped=False, record=record)
                )
            if content.issue is not None:
                links[content.finding.id] = content.owner
                linked[content.finding.id] = record
        for first in range(0, len(rows), BATCH_ROWS):
            self._compare_events("signals", rows[first : first + BATCH_ROWS])
        self.report.compared["traceflow_ux_issue_findings"] += len(links)
        self._judge(
            lambda: self.tables.issue_links(links),
            lambda lost: {"signals": [linked[each.name] for each in lost]},
        )
        self.report.differences += self.tables.issue_counters(list(links))

    def _compare_jobs(self, jobs: Sequence[AiJob]) -> None:
        self.report.compared["traceflow_ai_queue"] += len(jobs)
        by_id = {job.id: job for job in jobs}
        self._judge(
            lambda: self.tables.jobs(jobs), lambda lost: {"ai_jobs": [record_of(by_id[each.name]) for each in lost]}
        )

    # --- recordings

    def _check_chunks(self, partition: int, start: int, end: int) -> None:
        sink, seen = RecordingsSink(), set()
        chunks: dict[tuple[str, str], tuple[Chunk, ConsumedRecord]] = {}
        size = 0
        for record in self.log.read(topics.RECORDINGS, partition, start=start, end=end):
            item = prepared(sink, record)
            chunk = item.content if item is not None else None
            if chunk is None or item is None or not self.meant.holds(*chunk.owner):
                continue
            if self._parked.holds(record, topics.RECORDINGS, -1):
                self.report.parked += 1
                continue
            place = chunk.session_id, f"{chunk.window_id}/{chunk.seq}"
            if place not in seen:
                seen.add(place)
                chunks[place] = chunk, record
                size += item.size_bytes
            if size >= BATCH_BYTES:
                self._compare_chunks(chunks)
                chunks, size = {}, 0
        self._compare_chunks(chunks)

    def _compare_chunks(self, chunks: dict[tuple[str, str], tuple[Chunk, ConsumedRecord]]) -> None:
        self.report.compared["session_recording_chunks"] += len(chunks)
        self._judge(
            lambda: self.tables.chunks([chunk for chunk, _ in chunks.values()]),
            lambda lost: {"recordings": [chunks[each.session_id, each.name][1] for each in lost]},
        )
