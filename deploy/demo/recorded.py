"""The demo's sessions: real ones, their times relative, turned into the requests of sessions that end now."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import orjson

from deploy.load.request import ChunkPlace, SessionRequest

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """One session as `build_data` keeps it."""

    name: str
    visitor_id: str
    user_agent: str
    context: Mapping[str, Any]
    duration_ms: int
    requests: tuple[Json, ...]
    """In the order in which they were sent: `events`, and for a recording chunk `window_id` and `seq`."""


def load_sessions() -> list[RecordedSession]:
    """Read the sessions that lie beside this module."""
    packed = resources.files("deploy.demo").joinpath("data", "sessions.jsonl.gz").read_bytes()
    return [parse_session(line) for line in gzip.decompress(packed).splitlines()]


def parse_session(line: bytes) -> RecordedSession:
    """Read one line of the data."""
    data = orjson.loads(line)
    return RecordedSession(**{**data, "requests": tuple(data["requests"])})


def requests_of(session: RecordedSession, *, suffix: str, ends_at_ms: int) -> list[SessionRequest]:
    """Return the session's requests, shifted so that its last moment is `ends_at_ms`, under an id of its own."""
    session_id = f"{session.name}-{suffix}"
    start_ms = ends_at_ms - session.duration_ms
    requests = []
    for recorded in session.requests:
        events = [shifted(event, start_ms) for event in recorded["events"]]
        place = None
        body: Any = events
        if "seq" in recorded:
            place = ChunkPlace(recorded["window_id"], recorded["seq"], session.visitor_id)
        else:
            body = {
                "session_id": session_id,
                "visitor_id": session.visitor_id,
                "sent_at": ends_at_ms,
                "context": session.context,
                "events": events,
            }
        render = partial(bytes, orjson.dumps(body))
        requests.append(SessionRequest(session_id, session.user_agent, render, len(events), place, compressed=True))
    return requests


def shifted(event: Json, start_ms: int) -> Json:
    """Return an event of TraceFlow or rrweb with its time, and the one inside that posthog-js's events have, shifted.

    Offsets within a mouse move count from the event's own time and stay.
    """
    moved = {**event, "timestamp": event["timestamp"] + start_ms}
    data = event.get("data")
    payload = data.get("payload") if isinstance(data, dict) else None
    if isinstance(payload, dict) and "cache_timestamp" in payload:
        payload = {**payload, "cache_timestamp": payload["cache_timestamp"] + start_ms}
        moved["data"] = {**event["data"], "payload": payload}
    return moved
