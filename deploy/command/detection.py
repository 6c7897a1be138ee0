"""What both stages find in captured sessions: as the gateway would have taken them, folded without Kafka. Pure.

Nothing is sent, so the time of the log is made up from that of the events, as if nothing had been held up: rrweb events
and single events go out in flushes of two seconds, a request with its last event; ticks come once a second, as in the
running system, and go on until every session has been closed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from deploy.command.captured import Captured, Recorded, Request, Told
from ingest_gateway.admission.chunk import Place, chunk_record
from ingest_gateway.admission.event_time import NotATime, epoch_ms
from ingest_gateway.admission.events import admit
from ingest_gateway.admission.json_body import decode
from ingest_gateway.admission.records import Origin, Outgoing, event_records
from ingest_gateway.admission.refusal import Refusal
from schemas.messages import KIND_HEADER, Finding, RecordSettings
from stream_processors.offline.flushes import flushes
from stream_processors.offline.stages import Outcome
from stream_processors.offline.timetable import Arrival

PROJECT_ID = "offline"


class Nameless(ValueError):
    """It is not known whose session this is."""


@dataclass(slots=True)
class Taken:
    """What the gateway would have written, and what it would have refused."""

    arrivals: list[Arrival] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Where and why, one line each."""


@dataclass(frozen=True, slots=True)
class Names:
    """Whose session it is."""

    session: str | None
    """Of everything, whatever it says itself; None if what names its session counts."""
    fallback: str | None
    """Of what names none; None if it has to."""


def take(captured: Iterable[Captured], *, names: Names, settings: RecordSettings) -> Taken:
    """Take what was captured as the gateway would.

    Raises:
        Nameless: the session of a part is not known.
    """
    taken = Taken()
    windows: dict[str, list[Recorded]] = {}
    told: list[Told] = []
    requests: list[Request] = []
    for item in captured:
        match item:
            case Recorded():
                windows.setdefault(item.window, []).append(item)
            case Told():
                told.append(item)
            case Request():
                requests.append(item)
    for window, recorded in windows.items():
        taken.arrivals += _chunks(window, recorded, names, settings)
    for request in [*requests, *_in_requests(told)]:
        _take_request(taken, request, names, settings)
    return taken


def as_objects(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the findings as `traceflow detect` prints them."""
    return [as_object(finding) for finding in outcome.findings]


def as_object(finding: Finding) -> dict[str, Any]:
    """Return a finding as an object; `element` is null where there is none."""
    element = {
        "tag": finding.element_tag,
        "id": finding.element_id,
        "class": finding.element_class,
        "text": finding.element_text,
        "selector": finding.element_selector,
    }
    return {
        "session": finding.session_id,
        "kind": finding.kind,
        "timestamp": finding.timestamp,
        "x": finding.x_position,
        "y": finding.y_position,
        "element": element if any(element.values()) else None,
        "page_url": finding.page_url,
        "severity": finding.severity,
        "error_message": finding.error_message,
        "evidence": finding.evidence,
    }


def _chunks(window: str, recorded: Sequence[Recorded], names: Names, settings: RecordSettings) -> Iterator[Arrival]:
    session = names.session or names.fallback
    if session is None:
        raise Nameless(recorded[0].where)
    times = _times([item.t for item in recorded])
    for seq, (at, events) in enumerate(flushes([item.event for item in recorded], times)):
        place = Place(session, window, seq, None)
        yield _arrival(
            at,
            chunk_record(_encoded(events), encoding="identity", codec="json", at=place, origin=_origin(at, settings)),
        )


def _encoded(events: Sequence[Any]) -> bytes:
    try:
        return orjson.dumps(events)
    except TypeError:
        # a lone surrogate or a number beyond 64 bits: written as browsers do, the stage mends it
        return json.dumps(events).encode()


def _in_requests(told: Sequence[Told]) -> Iterator[Request]:
    """Put single events into requests, flush by flush."""
    times = _times([_time(item.event.get("timestamp")) for item in told])
    for at, items in flushes(told, times):
        yield Request(items[0].where, {"sent_at": at, "events": [item.event for item in items]})


def _take_request(taken: Taken, request: Request, names: Names, settings: RecordSettings) -> None:
    body = _named(request, names)
    events: Sequence[Any] = body["events"]
    times = [t for event in events if isinstance(event, dict) and (t := _time(event.get("timestamp"))) is not None]
    at = max(times, default=_time(body.get("sent_at")) or 0)
    try:
        # encoded and decoded, so that what the gateway mends or refuses is mended or refused
        decoded = decode(json.dumps(body).encode())
        admission = admit(decoded, project_id=PROJECT_ID, received_at=at, max_events=len(events))
    except Refusal as refusal:
        taken.refused.append(f"{request.where}: {refusal.reason}: {refusal.message}")
        return
    for rejected in admission.rejected:
        taken.refused.append(f"{request.where}, event {rejected.index + 1}: {rejected.reason}: {rejected.message}")
    taken.arrivals += [_arrival(at, record) for record in event_records(admission, _origin(at, settings))]


def _named(request: Request, names: Names) -> Mapping[str, Any]:
    """Return the body with the session that it belongs to."""
    if names.session is not None:
        events = [_without_session(event) for event in request.body["events"]]
        return {**request.body, "session_id": names.session, "events": events}
    if request.body.get("session_id") is not None:
        return request.body
    if names.fallback is not None:
        return {**request.body, "session_id": names.fallback}
    if all(isinstance(event, dict) and "session_id" in event for event in request.body["events"]):
        return request.body
    raise Nameless(request.where)


def _without_session(event: Any) -> Any:
    return {name: value for name, value in event.items() if name != "session_id"} if isinstance(event, dict) else event


def _origin(at: int, settings: RecordSettings) -> Origin:
    return Origin(project_id=PROJECT_ID, settings=settings, received_at=at, ip=None, user_agent=None)


def _arrival(at: int, record: Outgoing) -> Arrival:
    headers = [(name, value.encode() if isinstance(value, str) else value or b"") for name, value in record.headers]
    return Arrival(at, dict(headers)[KIND_HEADER].decode(), record.key, record.value, headers)


def _times(times: Sequence[int | None]) -> list[int]:
    """Return the times; what has none happened when its predecessor did."""
    now = next((t for t in times if t is not None), 0)
    filled = []
    for t in times:
        now = now if t is None else t
        filled.append(now)
    return filled


def _time(value: Any) -> int | None:
    try:
        return None if value is None else epoch_ms(value)
    except NotATime:
        return None
