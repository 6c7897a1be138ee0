"""Sink `sessions`: the newest snapshot of a session becomes its row, and its recording's row.

A snapshot is absolute and ordered by (life, version): an older one than the row holds changes nothing, whatever order
they come in. Counters, score and what the AI wrote belong to others and are never touched. A session that returns after
its state was forgotten lives again: the snapshots of its new life are added to the totals of the lives before.

With the snapshot that closes a session, a short recording whose chunks are all there is put together into
`session_recordings.events`, so that plain SQL finds it in one place; the recordings sink clears it if a chunk is late.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import psycopg
import structlog

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor, read_queries
from schemas import topics
from schemas.messages import SessionSnapshot
from schemas.reasons import Reason
from sinks.contract.days import ClosedDays
from sinks.contract.failures import action_of
from sinks.contract.sink import Parking, Prepared, Stored
from sinks.contract.sqlstates import Action
from sinks.contract.verdicts import Owner, RecordRefused
from sinks.tables.copy_rows import copy_pieces
from sinks.tables.copy_text import line, timestamp_text
from sinks.tables.record_owner import message_of, owner_of, text_or_none, uuid_of
from sinks.tables.recording_rows import RecordingRows
from sinks.tables.session_rows import SessionDelta, SessionRows

MAX_MATERIALISED_BYTES = 1_000_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """A snapshot as a COPY line, and what decides which of several counts."""

    project_id: str
    session_id: str
    life: int
    version: int
    started_at: int
    recorded_at: int | None
    """When the recording began; None if there is none."""
    closed: bool
    line: bytes

    @property
    def owner(self) -> Owner:
        """Return project and session."""
        return self.project_id, self.session_id


class SessionsSink:
    """See `sinks.contract.sink.Sink`."""

    name = "sessions"
    topic = topics.SESSIONS
    partitioned_table = None

    def __init__(self) -> None:
        self._queries = read_queries("sinks.topics", "sessions.sql")
        self._sessions = SessionRows()
        self._recordings = RecordingRows()

    def prepare(self, record: ConsumedRecord) -> Prepared[SnapshotLine] | None:
        """Decode a snapshot; a record without a value only tells compaction to forget its key."""
        if record.value is None:
            return None
        snapshot = message_of(SessionSnapshot, record)
        project_id, session_id = owner_of(record, project_id=snapshot.project_id, session_id=snapshot.session_id)
        if not (isinstance(snapshot.version, int) and isinstance(snapshot.life, int)):
            raise RecordRefused(Reason.RECORD_MALFORMED, "version or life is no integer")
        try:
            copy_line = snapshot_line(snapshot, project_id).encode()
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise RecordRefused(Reason.RECORD_MALFORMED, f"{type(error).__name__}: {error}") from error
        content = SnapshotLine(
            project_id=project_id,
            session_id=session_id,
            life=snapshot.life,
            version=snapshot.version,
            started_at=snapshot.started_at,
            recorded_at=snapshot.recording.start_time if snapshot.recording else None,
            closed=snapshot.closed is True,
            line=copy_line,
        )
        return Prepared(
            record, content, rows=1, size_bytes=len(record.value), visitor_id=text_or_none(snapshot.visitor_id)
        )

    def days(self, content: SnapshotLine) -> AbstractSet[int]:  # noqa: ARG002 — its tables have no days
        """Return nothing: no table of this sink is partitioned by day."""
        return frozenset()

    def open(self, connection: Connection) -> None:
        """Make the staging table."""
        connection.execute(self._queries["create_stage"])

    def store(
        self,
        cursor: Cursor,
        items: Sequence[Prepared[SnapshotLine]],
        *,
        careful: bool,  # noqa: ARG002 — both ways are the same
        closed_days: ClosedDays,  # noqa: ARG002
    ) -> Stored:
        """Upsert the newest snapshot of each life, life after life."""
        stored = Stored()
        taken: set[int] = set()
        for lives in newest(items):
            applied = self._upsert(cursor, lives, stored)
            stored.inserted += len(applied)
            taken |= {id(item) for item, content in lives if content.session_id in applied}
        stored.parkings += self._lost(cursor, [item for item in items if id(item) not in taken])
        stored.duplicates = sum(item.content is not None for item in items) - stored.inserted - len(stored.parkings)
        return stored

    def _upsert(
        self, cursor: Cursor, lives: Sequence[tuple[Prepared[SnapshotLine], SnapshotLine]], stored: Stored
    ) -> set[str]:
        self._stage(cursor, [content for _, content in lives])
        cursor.execute(self._queries["upsert_sessions"])
        applied: dict[str, bool] = dict(cursor.fetchall())
        taken = sorted((each for _, each in lives if each.session_id in applied), key=lambda each: each.session_id)
        stored.new.sessions |= {each.owner for each in taken if applied[each.session_id]}
        self.materialise(cursor, self._update_recordings(cursor, taken, stored))
        return set(applied)

    def _stage(self, cursor: Cursor, contents: Sequence[SnapshotLine]) -> None:
        cursor.execute(self._queries["empty_stage"])
        copy_pieces(cursor, self._queries["copy_staged"], (each.line for each in contents), rows=len(contents))

    def _update_recordings(self, cursor: Cursor, taken: Iterable[SnapshotLine], stored: Stored) -> list[str]:
        """Write the recording's part of staged snapshots, in order of session id; return the sessions that closed."""
        recorded = [each for each in taken if each.recorded_at is not None]
        if recorded:
            starts = {each.owner: each.recorded_at for each in recorded if each.recorded_at is not None}
            self._recordings.make(cursor, starts, stored.new)
            session_ids = [each.session_id for each in recorded]
            cursor.execute(self._queries["update_recordings"], {"session_ids": session_ids})
        return [each.session_id for each in recorded if each.closed]

    def remake_recordings(self, cursor: Cursor, items: Sequence[Prepared[SnapshotLine]]) -> list[str]:
        """Make the rows of recordings that are gone although the session's row holds this very snapshot.

        Returns the sessions that are closed: `materialise` them once their chunks are counted.
        """
        latest: dict[str, SnapshotLine] = {}
        for content in sorted((item.content for item in items if item.content), key=lambda each: each.version):
            latest[content.session_id] = content
        self._stage(cursor, list(latest.values()))
        cursor.execute(self._queries["lost_recordings"])
        return self._update_recordings(cursor, [latest[session_id] for (session_id,) in cursor.fetchall()], Stored())

    def materialise(self, cursor: Cursor, session_ids: list[str]) -> None:
        """Put recordings of staged snapshots together; one that Postgres cannot hold as JSONB stays in its chunks."""
        if not session_ids:
            return
        try:
            with cursor.connection.transaction():
                cursor.execute(self._queries["recorded_days"], {"session_ids": session_ids})
                ((first_day, last_day),) = cursor.fetchall()
                if first_day is None:
                    return
                wanted = {"session_ids": session_ids, "max_size_bytes": MAX_MATERIALISED_BYTES}
                cursor.execute(self._queries["materialise"], {**wanted, "first_day": first_day, "last_day": last_day})
        except psycopg.Error as error:
            if action_of(error) is not Action.ISOLATE:
                raise
            if len(session_ids) == 1:
                log.warning("recording_not_materialised", sqlstate=error.sqlstate)
                return
            middle = len(session_ids) // 2
            self.materialise(cursor, session_ids[:middle])
            self.materialise(cursor, session_ids[middle:])

    def _lost(self, cursor: Cursor, items: Iterable[Prepared[SnapshotLine]]) -> list[Parking]:
        """Tell the snapshots that are merely older than their row from those of a session that is another project's."""
        rest = [(item, item.content) for item in items if item.content is not None]
        deltas = {each.owner: SessionDelta(each.session_id, each.project_id, None, each.started_at) for _, each in rest}
        lost = deltas.keys() - self._sessions.held(cursor, deltas.values())
        if not lost:
            return []
        refusals = self._sessions.refusals(cursor, lost)
        return [Parking(item, refusals[each.owner]) for item, each in rest if each.owner in lost]


def newest(
    items: Iterable[Prepared[SnapshotLine]],
) -> Iterator[list[tuple[Prepared[SnapshotLine], SnapshotLine]]]:
    """Yield the newest snapshot of each life: a list for each round, no session id twice in it, older lives first."""
    best: dict[tuple[Owner, int], tuple[Prepared[SnapshotLine], SnapshotLine]] = {}
    for item in items:
        content = item.content
        if content is None:
            continue
        known = best.get((content.owner, content.life))
        if known is None or content.version > known[1].version:
            best[content.owner, content.life] = item, content
    left = sorted(best.values(), key=lambda each: each[1].life)
    while left:
        first: dict[str, tuple[Prepared[SnapshotLine], SnapshotLine]] = {}
        later = [each for each in left if first.setdefault(each[1].session_id, each) is not each]
        yield list(first.values())
        left = later


def snapshot_line(snapshot: SessionSnapshot, project_id: str) -> str:
    """Return a snapshot as the line that the staging table takes."""
    recording = snapshot.recording
    return line(
        [
            uuid_of(snapshot.id, name="id"),
            snapshot.session_id,
            project_id,
            snapshot.life,
            snapshot.version,
            timestamp_text(snapshot.started_at),
            timestamp_text(snapshot.ended_at),
            snapshot.duration_ms,
            snapshot.closed,
            snapshot.visitor_id,
            snapshot.user_agent,
            snapshot.device_type,
            snapshot.browser,
            snapshot.os,
            snapshot.is_bot,
            snapshot.screen_resolution,
            snapshot.ip_address,
            snapshot.country_code,
            snapshot.city,
            snapshot.geolocation,
            snapshot.referrer,
            snapshot.landing_page,
            snapshot.page_count,
            snapshot.pages_visited,
            snapshot.custom_properties,
            snapshot.clock_skew_ms,
            timestamp_text(recording.start_time) if recording else None,
            timestamp_text(recording.end_time) if recording else None,
            recording.duration_ms if recording else None,
            recording.event_count if recording else None,
            recording.page_count if recording else None,
            recording.pages_visited if recording else None,
            recording.device_fingerprint if recording else None,
        ]
    )
