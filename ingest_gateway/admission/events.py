"""Decide about the events of one request: each is accepted, normalised to its final form, or refused with its reason.

Theory. The log holds events exactly as they will be stored, so everything about form is decided here, once:

- An event's id is the client's UUID, else a hash of the project, the session and all events of the request, plus the
  event's place among them: a request that is repeated after a lost answer gives the same ids, and splitting it into
  records changes none. Only what was parsed counts (`canonical`), so white space and the order of an event's fields may
  differ between retries.
- The timestamp is the client's if it can be believed (`event_time`), else the time of receipt; then the event says
  `restamped`, and `metadata.client_timestamp` keeps what was sent. The id is made of the client's time either way.
- An event belongs to the session that it names, else to the request's. A server-side client sends many sessions in one
  request; a browser never needs to name one twice.
- A good event is never refused for a bad neighbour. Only what concerns the request as a whole raises `Refusal`.
"""

import re
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from ingest_gateway.admission.event_fields import (
    DEPTH_LIMIT,
    METADATA_LIMIT,
    TEXT_LIMITS,
    EventRefusal,
    columns,
    cut,
    deeper_than,
    event_type,
    metadata,
    wrong_type,
)
from ingest_gateway.admission.event_time import NotATime, epoch_ms, in_window, json_type
from ingest_gateway.admission.json_body import Decoded, holds_non_finite
from ingest_gateway.admission.refusal import Refusal
from schemas.ids import EventIds, event_seed
from schemas.messages import CLIENT_TIMESTAMP, Context, Event
from schemas.reasons import Reason

ID_LIMIT = 256
"""Bytes of a session_id or visitor_id: they are keys and indexed, so a longer one is refused, not cut."""

CUSTOM_PROPERTIES_LIMIT = 16_384
"""Bytes of context.custom_properties as JSON: it is stored once a session."""

_CONTEXT_TEXTS = {"screen_resolution": 64, "referrer": TEXT_LIMITS["page_url"], "device_fingerprint": 256}
SENT_AT_RANGE = range(0, 4_102_444_800_000)
"""1970 to 2100 in epoch milliseconds: a clock outside says nothing about skew."""

_UUID_EXAMPLE = "0190163d-8694-739b-aea5-966c26f8ad91"
is_uuid = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}").fullmatch
# U+FFFD stands for bytes that were lost: two sessions could meet in one
_UNFIT_IN_ID = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")
_CLIENT_TIMESTAMP_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that is refused, and why: it goes to the dead letters as it was sent."""

    index: int
    reason: Reason
    message: str
    session_id: str | None
    event: Any


@dataclass(slots=True)
class SessionEvents:
    """The accepted events of one session, in the client's order."""

    session_id: str
    visitor_id: str | None
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Admission:
    """What was decided about a request."""

    sessions: list[SessionEvents]
    rejected: list[Rejected]
    sent_at: int | None
    context: Context | None
    disbelieved: int = 0
    """Accepted events with a timestamp that cannot be theirs; those without one are not counted."""

    @property
    def accepted(self) -> int:
        """Count the accepted events."""
        return sum(len(session.events) for session in self.sessions)


def admit(body: Decoded, *, project_id: str, received_at: int, max_events: int) -> Admission:
    """Decide about a decoded body of `POST /v1/events`.

    Raises:
        Refusal: `shape_wrong`, `session_id_invalid` or `too_many_events` if the request as a whole cannot be read.
    """
    envelope, events = _envelope(body.value, max_events)
    request_session = envelope.get("session_id")
    if request_session is not None and (fault := id_fault("session_id", request_session)):
        raise Refusal(Reason.SESSION_ID_INVALID, fault)
    judge = _Judge(
        project_id=project_id,
        received_at=received_at,
        session_id=request_session,
        visitor_id=_visitor(envelope),
        events=events,
        finite=body.finite,
        measure=body.size > METADATA_LIMIT,
    )
    sent_at, context = _sent_at(envelope.get("sent_at")), context_of(envelope.get("context"))
    judge.run()
    if request_session is None and events and len(judge.without_session) == len(events):
        raise Refusal(Reason.SESSION_ID_INVALID, "session_id is missing")
    return Admission(list(judge.sessions.values()), judge.rejected, sent_at, context, judge.disbelieved)


def id_fault(name: str, value: Any) -> str | None:
    """Say what is wrong with a session_id or visitor_id, or None."""
    if type(value) is not str:
        return f"{name} must be a string, not {json_type(value)}"
    if not value:
        return f"{name} is empty"
    if len(value) > ID_LIMIT or len(value.encode()) > ID_LIMIT:
        return f"{name} is longer than {ID_LIMIT} bytes"
    if not (value.isascii() and value.isprintable()) and _UNFIT_IN_ID.search(value):
        return f"{name} holds control characters or damaged text"
    return None


class _Judge:
    """Goes through a request's events once."""

    def __init__(
        self,
        *,
        project_id: str,
        received_at: int,
        session_id: str | None,
        visitor_id: str | None,
        events: list[Any],
        finite: bool,
        measure: bool,
    ) -> None:
        self._project_id = project_id
        self._received_at = received_at
        self._session_id = session_id
        self._visitor_id = visitor_id
        self._events = events
        self._finite = finite
        self._measure = measure
        self._ids: EventIds | None = None
        self.sessions: dict[str, SessionEvents] = {}
        self.rejected: list[Rejected] = []
        self.without_session: list[int] = []
        self.disbelieved = 0

    def run(self) -> None:
        """Sort every event into its session or among the rejected."""
        sessions, normalise = self.sessions, self._normalise
        for index, sent in enumerate(self._events):
            session_id, visitor_id = self._session_id or "", None
            try:
                if type(sent) is not dict:
                    raise EventRefusal(Reason.EVENT_SHAPE_WRONG, f"an event is an object, not {json_type(sent)}")
                named = not session_id or "session_id" in sent or "visitor_id" in sent
                if named:
                    session_id, visitor_id = self._own_ids(sent, index)
                event = normalise(sent, index)
            except EventRefusal as refusal:
                self.rejected.append(Rejected(index, refusal.reason, refusal.message, session_id or None, sent))
                continue
            session = sessions.get(session_id)
            if session is None:
                session = sessions[session_id] = SessionEvents(session_id, self._visitor_id)
            if visitor_id is not None:
                session.visitor_id = visitor_id
            if named:
                event.pop("session_id", None)
                event.pop("visitor_id", None)
            session.events.append(cast(Event, event))

    def _own_ids(self, sent: dict[str, Any], index: int) -> tuple[str, str | None]:
        """Return the session and the visitor that an event names, the session else being the request's."""
        session_id: str | None = sent.get("session_id")
        if session_id is not None:
            if fault := id_fault("session_id", session_id):
                raise EventRefusal(Reason.SESSION_ID_INVALID, fault)
        elif self._session_id is None:
            self.without_session.append(index)
            raise EventRefusal(Reason.SESSION_ID_INVALID, "session_id is missing in the event and in the request")
        visitor_id: str | None = sent.get("visitor_id")
        if visitor_id is not None and (fault := id_fault("visitor_id", visitor_id)):
            raise EventRefusal(Reason.EVENT_FIELD_INVALID, fault)
        return session_id or self._session_id or "", visitor_id

    def _normalise(self, sent: dict[str, Any], index: int) -> dict[str, Any]:
        kind = event_type(sent)
        if not self._finite:
            _refuse_non_finite(sent)
        event, unknown = columns(sent)
        event["event_type"] = kind
        timestamp, sent_ms = self._timestamp(sent.get("timestamp"), unknown)
        event["timestamp"] = timestamp
        event["id"] = self._id(sent.get("id"), index, sent_ms)
        if timestamp != sent_ms:
            event["restamped"] = True
        if joined := metadata(sent.get("metadata"), unknown, measure=self._measure):
            event["metadata"] = joined
        else:
            event.pop("metadata", None)
        self.disbelieved += timestamp != sent_ms and sent.get("timestamp") is not None
        return event

    def _timestamp(self, value: Any, unknown: dict[str, Any]) -> tuple[int, int]:
        """Return the event's time and the one that was sent, 0 if none was; one not believed goes with the unknown."""
        if value is None:
            return self._received_at, 0
        try:
            sent_ms = value if type(value) is int else epoch_ms(value)
        except NotATime as error:
            raise EventRefusal(
                Reason.EVENT_FIELD_INVALID, f"timestamp must be ISO 8601 or epoch milliseconds, not {error}"
            ) from None
        if in_window(sent_ms, self._received_at):
            return sent_ms, sent_ms
        unknown[CLIENT_TIMESTAMP] = value[:_CLIENT_TIMESTAMP_LIMIT] if type(value) is str else value
        return self._received_at, sent_ms

    def _id(self, value: Any, index: int, sent_ms: int) -> str:
        if value is not None:
            if type(value) is not str:
                raise wrong_type("id", "a UUID", value)
            if not is_uuid(value):
                raise EventRefusal(Reason.EVENT_FIELD_INVALID, f"id must be a UUID like {_UUID_EXAMPLE}")
            return value.lower()
        if self._ids is None:
            events = canonical(self._events)
            seed = event_seed(project_id=self._project_id, session_id=self._session_id or "", events=events)
            self._ids = EventIds(seed=seed, count=len(self._events))
        return self._ids.make(index, sent_ms)


def canonical(events: list[Any]) -> bytes:
    """Return what the ids of a request's events are made of: one line an event, its fields in order of their names."""
    ordered = ({name: sent[name] for name in sorted(sent)} if type(sent) is dict else sent for sent in events)
    return b"".join(encoded(sent) + b"\n" for sent in ordered)


def encoded(value: Any) -> bytes:
    """Encode what a client sent; what nests deeper than the encoder goes is refused anyway, and leaves a mark."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        if type(value) is list:
            return b"[" + b",".join(map(encoded, value)) + b"]"
        return b'"nested too deeply"'


def _refuse_non_finite(sent: dict[str, Any]) -> None:
    for name, value in sent.items():
        if holds_non_finite(value):
            raise EventRefusal(Reason.EVENT_FIELD_INVALID, f"{name} holds NaN or an infinite number, which is no JSON")


def _envelope(value: Any, max_events: int) -> tuple[dict[str, Any], list[Any]]:
    if type(value) is not dict:
        raise Refusal(Reason.SHAPE_WRONG, f"the body is an object with session_id and events, not {json_type(value)}")
    events = value.get("events")
    if type(events) is not list:
        found = "missing" if events is None else json_type(events)
        raise Refusal(Reason.SHAPE_WRONG, f"events must be an array, and is {found}")
    if len(events) > max_events:
        raise Refusal(Reason.TOO_MANY_EVENTS, f"{len(events)} events, at most {max_events} in one request")
    return value, events


def _visitor(envelope: dict[str, Any]) -> str | None:
    visitor_id: str | None = envelope.get("visitor_id")
    if visitor_id is not None and (fault := id_fault("visitor_id", visitor_id)):
        raise Refusal(Reason.SHAPE_WRONG, fault)
    return visitor_id


def _sent_at(value: Any) -> int | None:
    if value is None:
        return None
    try:
        sent_at = epoch_ms(value)
    except NotATime as error:
        raise Refusal(Reason.SHAPE_WRONG, f"sent_at must be ISO 8601 or epoch milliseconds, not {error}") from None
    return sent_at if sent_at in SENT_AT_RANGE else None


def context_of(value: Any) -> Context | None:
    """Bound what the client says about its surroundings; what it adds goes to its custom properties."""
    if value is None:
        return None
    if type(value) is not dict:
        raise Refusal(Reason.SHAPE_WRONG, f"context must be an object, not {json_type(value)}")
    context: dict[str, Any] = {}
    custom = value.get("custom_properties")
    if custom is not None and type(custom) is not dict:
        raise Refusal(Reason.SHAPE_WRONG, f"context.custom_properties must be an object, not {json_type(custom)}")
    properties = dict(custom or {})
    for name, item in value.items():
        limit = _CONTEXT_TEXTS.get(name)
        if limit is None:
            if name != "custom_properties":
                properties.setdefault(name, item)
        elif type(item) is str:
            context[name] = cut(item, limit)
        elif item is not None:
            raise Refusal(Reason.SHAPE_WRONG, f"context.{name} must be a string, not {json_type(item)}")
    if properties:
        context["custom_properties"] = _bounded(properties)
    return cast(Context, context) or None


def _bounded(properties: dict[str, Any]) -> dict[str, Any]:
    name = "context.custom_properties"
    if holds_non_finite(properties):
        raise Refusal(Reason.SHAPE_WRONG, f"{name} holds a number that is NaN or infinite, which is no JSON")
    if deeper_than(properties.values(), DEPTH_LIMIT - 1):
        raise Refusal(Reason.SHAPE_WRONG, f"{name} nests deeper than {DEPTH_LIMIT} levels")
    if (size := len(orjson.dumps(properties))) > CUSTOM_PROPERTIES_LIMIT:
        raise Refusal(Reason.SHAPE_WRONG, f"{name} is {size} bytes, at most {CUSTOM_PROPERTIES_LIMIT}")
    return properties
