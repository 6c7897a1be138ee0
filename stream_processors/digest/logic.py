"""The digest stage: each record of the recordings log becomes exactly one record of the events log.

A chunk becomes a Digest, a tick a DigestTick, a chunk that cannot be read a blank Digest (or a DigestTick, if not even
its key names a session): `src`, the offset of what it
stands for, counts without a hole, so that analyze can tell a lost record from a quiet one. The digest watermark of
analyze moves with the forwarded ticks, behind everything that came before them.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from schemas.chunks import ChunkRefused, Event, open_chunk
from schemas.environment import Settings, read_settings
from schemas.messages import Kind
from schemas.signals import Signal
from stream_processors.digest.interpreter import Interpreter
from stream_processors.digest.records import blank_record, digest_of, digest_record, read_meta, tick_record
from stream_processors.digest.rrweb import in_order
from stream_processors.digest.windows import Arrival, Session, Window, decode_session, encode_session
from stream_processors.fold.logic import Emitted, Lifetime, LogRecord, RecordRefused, SessionLogic

AFTER_GAP_MS = 300_000
"""A digest outlives the session in analyze a little: a chunk that is late keeps its document."""


class DigestSettings(Settings):
    """Settings in the group `STAGE`; the same for every worker, or their facts would differ."""

    session_gap_ms: int = Field(default=1_800_000, ge=1_000, le=86_400_000)
    """Inactivity that closes a session whose project says nothing: that of analyze."""


class DigestLogic:
    """The logic of the stage: rrweb in, signals out."""

    session_kinds = frozenset({Kind.CHUNK.value})
    tick_kinds = frozenset({Kind.TICK.value})

    def __init__(self, settings: DigestSettings) -> None:
        self._settings = settings

    def clock(self, record: LogRecord) -> int:
        """Return the tick's broker time."""
        return record.timestamp

    def source(self, record: LogRecord) -> int | None:  # noqa: ARG002 - the stage has no upstream
        """Return None: the recordings log has no upstream log."""
        return None

    def open(self, key: bytes, record: LogRecord) -> Session:  # noqa: ARG002 - the key says nothing more
        """Make the state of a session; its gap is that of the settings its first chunk carries."""
        try:
            gap_ms = _session_gap(read_meta(record), self._settings)
        except RecordRefused:
            gap_ms = self._settings.session_gap_ms  # `apply` is called next, and refuses the record
        return Session(gap_ms)

    def apply(self, state: Session, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Read a chunk and emit its digest."""
        meta = read_meta(record)
        events = _read_events(record.value, encoding=meta["encoding"])
        window = state.window(meta["window_id"])
        arrival = window.arrive(meta["seq"])
        signals = _read_chunk(state, window, events, arrival, received_at=meta["received_at"])
        digest = digest_of(meta, record)
        if arrival is not Arrival.DUPLICATE:
            digest["event_count"] = len(events)
            if events:
                digest["first"], digest["last"] = events[0].t, events[-1].t
        out.outputs.append(digest_record(key, digest, signals))

    def reopen(self, state: Session, key: bytes, record: LogRecord) -> None:
        """Do nothing: a digest leaves no residue to return from."""

    def wake_at(self, state: Session) -> int:  # noqa: ARG002 - nothing here waits
        """Return 0: what a chunk says is said when it comes."""
        return 0

    def on_time(self, state: Session, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:
        """Do nothing: nothing waits."""

    def on_close(self, state: Session, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:
        """Emit nothing: analyze closes the session by its own clock."""

    def on_report(self, state: Session, key: bytes, *, offset: int, out: Emitted) -> None:
        """Emit nothing: a digest has no snapshots."""

    def on_tick(self, record: LogRecord, out: Emitted) -> None:
        """Forward a tick."""
        out.outputs.append(tick_record(record))

    def on_refused(self, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Emit a blank for a record that was parked."""
        out.outputs.append(blank_record(key, record))

    def lifetime(self, state: Session) -> Lifetime:
        """Return the session's gap and a little more; a late chunk after that is a new beginning."""
        return Lifetime(gap_ms=state.gap_ms + AFTER_GAP_MS, residue_ms=0)

    def weight(self, state: Session) -> int:
        """Return the decoded nodes of the session's documents."""
        return 1 + state.nodes()

    def encode(self, state: Session) -> bytes:
        """Encode the state."""
        return encode_session(state)

    def decode(self, data: bytes) -> Session:
        """Decode a state."""
        return decode_session(data)


def build_logic(environ: Mapping[str, str]) -> SessionLogic[Session]:
    """Build the stage's logic from the environment.

    Raises:
        SettingsError: naming the variable that is malformed.
    """
    return DigestLogic(read_settings(DigestSettings, environ, group="STAGE"))


def _read_events(data: bytes, *, encoding: str) -> list[Event]:
    try:
        return in_order(open_chunk(data, encoding=encoding).events)
    except ChunkRefused as refused:
        raise RecordRefused(refused.reason, refused.detail) from refused


def _read_chunk(
    session: Session, window: Window, events: list[Event], arrival: Arrival, *, received_at: int
) -> list[Signal]:
    """Read the chunk as its place among the others allows."""
    if arrival is Arrival.DUPLICATE:
        return []
    if arrival is Arrival.LATE:
        # what came after it was read without it: it is read alone, and leaves nothing behind
        alone = Window(window.id)
        alone.answers.window = window.id
        return Interpreter(alone).read(events)
    interpreter = Interpreter(window)
    if arrival is Arrival.AFTER_GAP:
        interpreter.pass_gap()
    if events and window.is_put_forward(events[-1].t, received_at):
        interpreter.pass_jump(window.last)
    signals = interpreter.read(events)
    session.store(window)
    return signals


def _session_gap(meta: Mapping[str, Any], settings: DigestSettings) -> int:
    gap = meta["settings"].get("session_gap_ms")
    return gap if isinstance(gap, int) and gap > 0 else settings.session_gap_ms
