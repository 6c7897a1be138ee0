"""Sink `recordings`: each recording chunk is one row, stored once, however often it is sent.

A chunk's place is (session, window, seq): the first one that comes takes it. Size and number of events of a recording
grow by the chunks that this transaction really inserted. Everything else of `session_recordings` comes from the
session's snapshots (`sessions`).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import orjson

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor, read_queries
from schemas import topics
from schemas.messages import FORMAT, META_HEADER, Kind
from schemas.reasons import Reason
from sinks.contract.days import DAY_MS, ClosedDays, day_date, epoch_day
from sinks.contract.sink import Parking, Prepared, Stored
from sinks.contract.verdicts import Owner, RecordRefused
from sinks.tables.chunks import ChunkBody, chunk_body
from sinks.tables.record_owner import owner_of, text_or_none
from sinks.tables.recording_rows import RecordingRows
from sinks.tables.session_rows import SessionDelta, SessionRows

_CODECS = frozenset({"json", "gzip", "zstd"})
_MAX_SEQ = 2**31 - 1
_PAST_MS, _AHEAD_MS = 7 * DAY_MS, 600_000
"""How far event time may lie from the arrival to name the chunk's day: the window in which clients are believed."""

NEAR_DAYS, ARRIVAL_DAYS = 1, 8
"""How far apart the days of a chunk that comes twice may lie: put together anew it may begin beyond midnight; one that
tells no credible time has the day of its arrival, as with events (`sinks.tables.event_rows`)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk, ready to be stored."""

    project_id: str
    session_id: str
    window_id: str
    seq: int
    day: int
    """Since 1970-01-01, UTC: that of its first event, or of its arrival if no event tells a credible one."""
    reach_days: int
    """How far from it the same chunk may lie already."""
    received_at: int
    body: ChunkBody
    visitor_id: str | None
    user_agent: str | None
    ip: str | None

    @property
    def owner(self) -> Owner:
        """Return project and session."""
        return self.project_id, self.session_id

    @property
    def first_at(self) -> int:
        """Return the time at which the chunk begins, epoch ms."""
        return self.body.first_event_at or self.received_at


@dataclass(slots=True)
class RecordingGrowth:
    """What new chunks add to a recording."""

    first: Chunk
    events: int = 0
    size_bytes: int = 0
    compressed: bool = False
    first_at: int = 0
    last_at: int = 0

    def add(self, chunk: Chunk) -> None:
        """Add a chunk."""
        self.events += chunk.body.event_count
        self.size_bytes += chunk.body.stored_bytes
        self.compressed = self.compressed or chunk.body.payload is not None
        self.first_at = min(self.first_at or chunk.first_at, chunk.first_at)
        self.last_at = max(self.last_at, chunk.body.last_event_at or chunk.received_at)


@dataclass(slots=True)
class RecordingsSink:
    """See `sinks.contract.sink.Sink`."""

    name: str = "recordings"
    topic: topics.Topic = topics.RECORDINGS
    partitioned_table: str | None = "public.session_recording_chunks"
    _sessions: SessionRows = field(default_factory=SessionRows)
    _recordings: RecordingRows = field(default_factory=RecordingRows)
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.topics", "recordings.sql"))

    def prepare(self, record: ConsumedRecord) -> Prepared[Chunk] | None:
        """Open a chunk and lay it out for its codec."""
        if record.kind != Kind.CHUNK:
            return None
        meta = _meta(record)
        project_id, session_id = owner_of(record, project_id=meta.get("project_id"), session_id=meta.get("session_id"))
        body = chunk_body(record.value or b"", encoding=str(meta.get("encoding")), codec=meta["codec"])
        received_at = meta["received_at"]
        first = body.first_event_at or received_at
        credible = received_at - _PAST_MS <= first <= received_at + _AHEAD_MS
        chunk = Chunk(
            project_id=project_id,
            session_id=session_id,
            window_id=meta["window_id"],
            seq=meta["seq"],
            day=epoch_day(first if credible else received_at),
            reach_days=NEAR_DAYS if credible and body.first_event_at else ARRIVAL_DAYS,
            received_at=received_at,
            body=body,
            visitor_id=text_or_none(meta.get("visitor_id")),
            user_agent=text_or_none(meta.get("user_agent")),
            ip=text_or_none(meta.get("ip")),
        )
        return Prepared(
            record,
            chunk,
            rows=1,
            size_bytes=len(record.value or b"") + body.stored_bytes,
            visitor_id=chunk.visitor_id,
            received_at=received_at,
        )

    def days(self, content: Chunk) -> AbstractSet[int]:
        """Return the chunk's day."""
        return {content.day}

    def open(self, connection: Connection) -> None:
        """Need nothing."""

    def store(
        self,
        cursor: Cursor,
        items: Sequence[Prepared[Chunk]],
        *,
        careful: bool,  # noqa: ARG002 — both ways are the same
        closed_days: ClosedDays,
    ) -> Stored:
        """Insert the chunks that are new and let their recordings grow by them."""
        stored = Stored()
        chunks = self._claimed(cursor, items, closed_days, stored)
        new = self._insert(cursor, chunks)
        stored.inserted = len(new)
        stored.duplicates = len(chunks) - len(new)
        self._grow(cursor, new, stored)
        return stored

    def _claimed(
        self, cursor: Cursor, items: Sequence[Prepared[Chunk]], closed_days: ClosedDays, stored: Stored
    ) -> list[Chunk]:
        """Claim the sessions, and park the chunks that cannot be stored."""
        deltas: dict[Owner, SessionDelta] = {}
        for item in items:
            if (chunk := item.content) is not None and chunk.day not in closed_days:
                delta = deltas.setdefault(
                    chunk.owner, SessionDelta(chunk.session_id, chunk.project_id, chunk.visitor_id, chunk.first_at)
                )
                delta.started_at = min(delta.started_at, chunk.first_at)
        lost = deltas.keys() - self._sessions.claim(cursor, deltas.values(), stored.new)
        refusals = self._sessions.refusals(cursor, lost) if lost else {}
        kept: list[Chunk] = []
        for item in items:
            if (chunk := item.content) is None:
                continue
            if chunk.day in closed_days:
                stored.parkings.append(Parking(item, closed_days[chunk.day]))
            elif chunk.owner in refusals:
                stored.parkings.append(Parking(item, refusals[chunk.owner]))
            else:
                kept.append(chunk)
        return kept

    def _insert(self, cursor: Cursor, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Insert each chunk whose place is free, the first of those that come for one, and return them."""
        if not chunks:
            return []
        taken = self._taken(cursor, chunks)
        free: dict[tuple[str, str, int], Chunk] = {}
        for place, chunk in enumerate(chunks, start=1):
            if place not in taken:
                free.setdefault((chunk.session_id, chunk.window_id, chunk.seq), chunk)
        if not free:
            return []
        cursor.executemany(
            self._queries["insert_chunk"], [_parameters(chunk) for chunk in free.values()], returning=True
        )
        new = []
        for chunk in free.values():
            if cursor.fetchone() is not None:
                new.append(chunk)
            cursor.nextset()
        return new

    def _taken(self, cursor: Cursor, chunks: Sequence[Chunk]) -> set[int]:
        """Return the places, from 1, of the chunks that another one of near days has come before."""
        wanted = {
            "session_ids": [chunk.session_id for chunk in chunks],
            "window_ids": [chunk.window_id for chunk in chunks],
            "seqs": [chunk.seq for chunk in chunks],
            "first_day": day_date(min(chunk.day - chunk.reach_days for chunk in chunks)),
            "last_day": day_date(max(chunk.day + chunk.reach_days for chunk in chunks)),
        }
        cursor.execute(self._queries["taken"], wanted)
        return {place for (place,) in cursor}

    def _grow(self, cursor: Cursor, new: Sequence[Chunk], stored: Stored) -> None:
        if not new:
            return
        grown: dict[str, RecordingGrowth] = {}
        for chunk in new:
            grown.setdefault(chunk.session_id, RecordingGrowth(chunk)).add(chunk)
        growths = [grown[session_id] for session_id in sorted(grown)]
        self._recordings.make(cursor, {growth.first.owner: growth.first_at for growth in growths}, stored.new)
        cursor.execute(
            self._queries["grow"],
            {
                "session_ids": [growth.first.session_id for growth in growths],
                "event_counts": [growth.events for growth in growths],
                "sizes": [growth.size_bytes for growth in growths],
                "compressed": [growth.compressed for growth in growths],
                "visitor_ids": [growth.first.visitor_id for growth in growths],
                "user_agents": [growth.first.user_agent for growth in growths],
                "ips": [growth.first.ip for growth in growths],
                "last_at": [growth.last_at for growth in growths],
            },
        )


def _meta(record: ConsumedRecord) -> dict[str, Any]:
    """Read the header `meta` of a chunk.

    Raises:
        RecordRefused: it is not what its contract says.
    """
    header = next((value for name, value in record.headers if name == META_HEADER), b"")
    try:
        meta = orjson.loads(header)
        if meta["v"] > FORMAT:
            raise RecordRefused(Reason.SCHEMA_NEWER, f"format {meta['v']}, this version reads up to {FORMAT}")
        declared = (
            isinstance(meta["seq"], int)
            and 0 <= meta["seq"] <= _MAX_SEQ
            and isinstance(meta["received_at"], int)
            and meta["codec"] in _CODECS
            and text_or_none(meta["window_id"]) is not None
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"header meta: {type(error).__name__}: {error}") from error
    if not declared:
        raise RecordRefused(
            Reason.RECORD_MALFORMED, "header meta: seq, received_at, codec or window_id not as declared"
        )
    found: dict[str, Any] = meta
    return found


def _parameters(chunk: Chunk) -> dict[str, object]:
    body = chunk.body
    return {
        "session_id": chunk.session_id,
        "window_id": chunk.window_id,
        "seq": chunk.seq,
        "day": day_date(chunk.day),
        "project_id": chunk.project_id,
        "codec": body.codec,
        "events": body.events,
        "payload": body.payload,
        "event_count": body.event_count,
        "raw_size_bytes": body.plain_bytes,
        "first_event_at": body.first_event_at,
        "last_event_at": body.last_event_at,
    }
