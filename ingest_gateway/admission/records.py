"""Lay out a request's outcome as records of the log: events by session, refused events as dead letters.

Theory. One record per request and session, so that an acknowledgement costs one record and a session keeps its order. A
record larger than `MAX_RECORD_BYTES` is split between events; ids were given before, so the split is free.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from ingest_gateway.admission.events import Admission, Rejected, SessionEvents, encoded
from schemas.ids import session_key
from schemas.messages import FORMAT, KIND_HEADER, DeadLetter, EventBatch, Kind, RecordSettings, dead_letter_headers
from schemas.topics import DEAD_LETTERS, EVENTS, MAX_RECORD_BYTES

Headers = list[tuple[str, str | bytes | None]]

STAGE = "gateway"


class Outgoing(NamedTuple):
    """A record for the log."""

    topic: str
    """Without the deployment's prefix."""
    key: bytes
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Origin:
    """What every record of a request says about where it comes from."""

    project_id: str
    settings: RecordSettings
    received_at: int
    ip: str | None
    """After the project's policy."""
    user_agent: str | None


def event_records(admission: Admission, origin: Origin, *, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[Outgoing]:
    """Yield the records of a request's accepted events, session by session."""
    headers: Headers = [(KIND_HEADER, Kind.EVENTS.value)]
    for session in admission.sessions:
        batch = _batch(session, admission, origin)
        value = orjson.dumps(batch)
        key = session_key(origin.project_id, session.session_id)
        if len(value) <= max_bytes:
            yield Outgoing(EVENTS.name, key, value, headers)
        else:
            for part in _split(batch, max_bytes):
                yield Outgoing(EVENTS.name, key, part, headers)


def dead_letters(rejected: Iterable[Rejected], origin: Origin, *, version: str) -> Iterator[Outgoing]:
    """Yield one dead letter per refused event: its bytes as JSON, cut where they exceed a record, and its reason."""
    for refused in rejected:
        letter = DeadLetter(
            reason=refused.reason,
            stage=STAGE,
            topic="",
            partition=-1,
            offset=-1,
            index=refused.index,
            detail=refused.message,
            at=origin.received_at,
            version=version,
        )
        key = session_key(origin.project_id, refused.session_id or "")
        yield Outgoing(
            DEAD_LETTERS.name, key, encoded(refused.event)[:MAX_RECORD_BYTES], [*dead_letter_headers(letter)]
        )


def _batch(session: SessionEvents, admission: Admission, origin: Origin) -> EventBatch:
    batch: EventBatch = {
        "v": FORMAT,
        "project_id": origin.project_id,
        "session_id": session.session_id,
        "received_at": origin.received_at,
        "settings": origin.settings,
        "events": session.events,
    }
    if session.visitor_id is not None:
        batch["visitor_id"] = session.visitor_id
    if admission.sent_at is not None:
        batch["sent_at"] = admission.sent_at
    if origin.ip is not None:
        batch["ip"] = origin.ip
    if origin.user_agent is not None:
        batch["user_agent"] = origin.user_agent
    if admission.context is not None:
        batch["context"] = admission.context
    return batch


def _split(batch: EventBatch, max_bytes: int) -> Iterator[bytes]:
    """Spread a batch over records that fit; an event is bounded far below a record, so each holds at least one."""
    head = orjson.dumps({name: value for name, value in batch.items() if name != "events"})
    before, after = head[:-1] + b',"events":[', b"]}"
    room = max_bytes - len(before) - len(after)
    parts: list[bytes] = []
    size = 0
    for event in batch["events"]:
        part = orjson.dumps(event)
        if parts and size + len(part) + 1 > room:
            yield before + b",".join(parts) + after
            parts, size = [], 0
        parts.append(part)
        size += len(part) + 1
    yield before + b",".join(parts) + after
