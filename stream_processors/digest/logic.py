"""The digest stage: each record of the recordings log becomes exactly one record of the events log.

A chunk becomes a Digest, a tick a DigestTick, a chunk that cannot be read a blank Digest: `src`, the offset of what it
stands for, counts without a hole, so that analyze can tell a lost record from a quiet one. The digest watermark of
analyze moves with the forwarded ticks, behind everything that came before them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.ids import parse_session_key
from schemas.messages import FORMAT, KIND_HEADER, META_HEADER, Digest, DigestTick, Kind, MalformedRecord, NewerFormat
from schemas.messages import decode_object as decode_json_object
from schemas.reasons import Reason
from schemas.signals import Signal
from schemas.signals import encode as encode_signal
from schemas.topics import EVENTS
from stream_processors.digest.chunk import Inflater, parse_json
from stream_processors.digest.interpreter import Interpreter
from stream_processors.digest.rrweb import Event, read_events
from stream_processors.digest.windows import Arrival, Session, Window, decode_session, encode_session
from stream_processors.logic import Emitted, Lifetime, LogRecord, Output, RecordRefused, SessionLogic

SESSION_GAP_VARIABLE = "TRACEFLOW_STAGE_SESSION_GAP_MS"
DEFAULT_SESSION_GAP_MS = 1_800_000
AFTER_GAP_MS = 300_000
"""A digest outlives the session in analyze a little: a chunk that is late keeps its document."""

MAX_SIGNAL_BYTES = 1_000_000
"""A digest must fit into a record of the events topic; a real one takes some kB."""

_CHUNK_FIELDS = ("project_id", "session_id", "window_id", "encoding")
_OPTIONAL_FIELDS = ("visitor_id", "ip", "user_agent")


@dataclass(frozen=True, slots=True)
class DigestSettings:
    """What the stage is told from outside."""

    session_gap_ms: int = DEFAULT_SESSION_GAP_MS
    """Where the project says nothing."""


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
            gap_ms = _session_gap(_read_meta(record), self._settings)
        except RecordRefused:
            gap_ms = self._settings.session_gap_ms  # `apply` is called next, and refuses the record
        return Session(gap_ms)

    def apply(self, state: Session, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Read a chunk and emit its digest."""
        meta = _read_meta(record)
        inflater = Inflater()
        events = read_events(parse_json(inflater.inflate(record.value, encoding=meta["encoding"])), inflater)
        window = state.window(meta["window_id"])
        arrival = window.arrive(meta["seq"])
        signals = _read_chunk(state, window, events, arrival)
        digest = _digest(meta, record)
        if arrival is not Arrival.DUPLICATE:
            digest["event_count"] = len(events)
            if events:
                digest["first"], digest["last"] = events[0].t, events[-1].t
        out.outputs.append(_output(key, digest, signals))

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
        tick = DigestTick(v=FORMAT, src=record.offset, at=record.timestamp)
        headers = [(KIND_HEADER, Kind.DIGEST_TICK.value.encode())]
        out.outputs.append(Output(topic=EVENTS.name, key=None, value=orjson.dumps(tick), headers=headers))

    def on_refused(self, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Emit a blank digest for a record that was parked."""
        out.outputs.append(_output(key, _blank(key, record), []))

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
        ValueError: a setting is no positive number.
    """
    gap = environ.get(SESSION_GAP_VARIABLE, str(DEFAULT_SESSION_GAP_MS))
    if not gap.isdecimal() or int(gap) == 0:
        raise ValueError(f"{SESSION_GAP_VARIABLE} must be a positive number of milliseconds, not {gap!r}")
    return DigestLogic(DigestSettings(session_gap_ms=int(gap)))


def _read_chunk(session: Session, window: Window, events: list[Event], arrival: Arrival) -> list[Signal]:
    """Read the chunk as its place among the others allows."""
    if arrival is Arrival.DUPLICATE:
        return []
    if arrival is Arrival.LATE:
        # what came after it was read without it: it is read alone, and leaves nothing behind
        alone = Window(window.id)
        alone.answers.window = window.id
        return Interpreter(Session(session.gap_ms), alone).read(events)
    interpreter = Interpreter(session, window)
    if arrival is Arrival.AFTER_GAP:
        interpreter.pass_gap()
    signals = interpreter.read(events)
    session.store(window)
    return signals


def _read_meta(record: LogRecord) -> dict[str, Any]:
    """Read the chunk's header.

    Raises:
        RecordRefused: it is missing or not as declared.
    """
    header = next((value for name, value in record.headers if name == META_HEADER), None)
    try:
        meta = decode_json_object(header)
    except MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"header {META_HEADER}: {error}") from error
    except NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, f"header {META_HEADER}: {error}") from error
    is_declared = (
        all(isinstance(meta.get(name), str) for name in _CHUNK_FIELDS)
        and isinstance(meta.get("received_at"), int)
        and isinstance(meta.get("seq"), int)
        and meta["seq"] >= 0
        and isinstance(meta.get("settings"), dict)
    )
    if not is_declared:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"header {META_HEADER} lacks a field or has a wrong type")
    return meta


def _session_gap(meta: Mapping[str, Any], settings: DigestSettings) -> int:
    gap = meta["settings"].get("session_gap_ms")
    return gap if isinstance(gap, int) and gap > 0 else settings.session_gap_ms


def _digest(meta: Mapping[str, Any], record: LogRecord) -> Digest:
    digest = Digest(
        v=FORMAT,
        src=record.offset,
        project_id=meta["project_id"],
        session_id=meta["session_id"],
        window_id=meta["window_id"],
        received_at=meta["received_at"],
        settings=meta["settings"],
        at=record.timestamp,
        event_count=0,
        signals=[],
        size=len(record.value),
    )
    for name in _OPTIONAL_FIELDS:
        if isinstance(meta.get(name), str):
            digest[name] = meta[name]  # type: ignore[literal-required] # one of three optional fields
    return digest


def _blank(key: bytes, record: LogRecord) -> Digest:
    """Return a digest that says nothing but which record it stands for; header and key may both be unreadable."""
    try:
        return _digest(_read_meta(record), record)
    except RecordRefused:
        pass
    try:
        project_id, session_id = parse_session_key(key)
    except ValueError:
        project_id = session_id = ""
    return Digest(
        v=FORMAT,
        src=record.offset,
        project_id=project_id,
        session_id=session_id,
        window_id="",
        received_at=record.timestamp,
        settings={"version": 0},
        at=record.timestamp,
        event_count=0,
        signals=[],
        size=len(record.value),
    )


def _output(key: bytes, digest: Digest, signals: Sequence[Signal]) -> Output:
    encoded = [encode_signal(signal) for signal in signals]
    while True:
        digest["signals"] = encoded
        value = orjson.dumps(digest)
        if len(value) <= MAX_SIGNAL_BYTES or not encoded:
            break
        encoded = encoded[: len(encoded) // 2]
    return Output(topic=EVENTS.name, key=key, value=value, headers=[(KIND_HEADER, Kind.DIGEST.value.encode())])
