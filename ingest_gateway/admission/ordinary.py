"""Read an ordinary request in one pass of C: the quick way to the same record.

Theory. Nearly every request is ordinary: fields of known names and right types, texts that fit whatever they are, times
that can be believed, flat metadata. One typed decoder checks all of that while it decodes, and one encoder writes the
record: 50 µs for 20 events, where `json_body`, `events` and `records` need 140 and give the same. They stay the
definition: whatever the decoder does not like, or could read differently, is not judged here but goes their way, and
`tests/unit/test_gateway_ordinary.py` holds that a request that passes here would have given the same record there.

Ids are made of the events as they were sent (`admission.canonical`): the encoder writes an event's fields in order of
their names, so it gives those bytes in 6 µs, where the other parser and its encoder took 30.
"""

from operator import itemgetter
from typing import Annotated, Any

import msgspec
import orjson

from ingest_gateway.admission.event_fields import (
    COMMON_EVENT_TYPES,
    INT4_MAX,
    INT4_MIN,
    INTEGERS,
    METADATA_LIMIT,
    TEXT_LIMITS,
)
from ingest_gateway.admission.event_time import WINDOW_AFTER_MS, WINDOW_BEFORE_MS, NotATime, epoch_ms
from ingest_gateway.admission.events import SENT_AT_RANGE, context_of, id_fault, is_uuid
from ingest_gateway.admission.records import Headers, Origin, Outgoing
from ingest_gateway.admission.refusal import Refusal
from schemas.ids import EventIds, event_seed, session_key
from schemas.messages import FORMAT, KIND_HEADER, Kind
from schemas.topics import EVENTS, MAX_RECORD_BYTES

_UNSET = msgspec.UNSET
_ESCAPE_SIGN, _NUL = b"\\", b"\\u0000"

_INT4 = Annotated[int, msgspec.Meta(ge=INT4_MIN, le=INT4_MAX)]
# orjson reads larger integers as floats, and writes the exponents of larger floats in another way
_INT8 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_FLOAT = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
_FLAT = dict[str, str | _INT8 | _FLOAT | bool | None]


def _text(limit: int) -> Any:
    # characters of 4 bytes at most: what is shorter fits for certain
    return Annotated[str, msgspec.Meta(max_length=limit // 4)] | msgspec.UnsetType


_OPTIONAL: dict[str, Any] = {
    "id": str | msgspec.UnsetType,
    **{name: _text(limit) for name, limit in TEXT_LIMITS.items()},
    **dict.fromkeys(INTEGERS, _INT4 | msgspec.UnsetType),
    "metadata": _FLAT | msgspec.UnsetType,
}
_Event = msgspec.defstruct(
    "_Event",
    sorted(
        [("event_type", str), ("timestamp", int | str), *((name, kind, _UNSET) for name, kind in _OPTIONAL.items())],
        key=itemgetter(0),
    ),
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    # nothing in it refers back, and the cyclic collector need not look
    gc=False,
)


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The parts of a request."""

    session_id: str
    events: list[_Event]  # type: ignore[valid-type] # made from the table of columns
    visitor_id: str | None = None
    sent_at: int | None = None
    context: msgspec.Raw = msgspec.Raw()
    key: str | None = None


class OrdinaryReader:
    """Reads ordinary requests; keeps a decoder and an encoder."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_Request).decode
        encoder = msgspec.json.Encoder()
        self._encode, self._encode_lines = encoder.encode, encoder.encode_lines

    def read(self, body: bytes, origin: Origin, *, max_events: int) -> tuple[Outgoing, int] | None:
        """Return a request's record and the number of its events; None if it is not ordinary."""
        if len(body) > METADATA_LIMIT or (_ESCAPE_SIGN in body and _NUL in body):
            return None
        try:
            request = self._decode(body)
            if not self._settle(request, origin, max_events):
                return None
            value = self._encode(self._batch(request, origin))
        except (msgspec.DecodeError, orjson.JSONDecodeError, RecursionError, UnicodeDecodeError, Refusal):
            return None
        if len(value) > MAX_RECORD_BYTES:
            return None
        headers: Headers = [(KIND_HEADER, Kind.EVENTS.value)]
        key = session_key(origin.project_id, request.session_id)
        return Outgoing(EVENTS.name, key, value, headers), len(request.events)

    def _settle(self, request: _Request, origin: Origin, max_events: int) -> bool:
        """Give every event its time and id; tell whether nothing was out of the ordinary."""
        events: list[Any] = request.events
        if not 0 < len(events) <= max_events or id_fault("session_id", request.session_id):
            return False
        if request.visitor_id is not None and id_fault("visitor_id", request.visitor_id):
            return False
        if request.sent_at is not None and request.sent_at not in SENT_AT_RANGE:
            return False
        earliest, latest = origin.received_at - WINDOW_BEFORE_MS, origin.received_at + WINDOW_AFTER_MS
        as_sent = self._encode_lines(events) if any(event.id is _UNSET for event in events) else b""
        for event in events:
            if event.event_type not in COMMON_EVENT_TYPES:
                return False
            if type(event.timestamp) is not int:
                try:
                    event.timestamp = epoch_ms(event.timestamp)
                except NotATime:
                    return False
            if not earliest <= event.timestamp <= latest:
                return False
            if event.id is not _UNSET:
                if not is_uuid(event.id):
                    return False
                event.id = event.id.lower()
            if event.metadata is not _UNSET and not event.metadata:
                event.metadata = _UNSET
        if as_sent:
            seed = event_seed(project_id=origin.project_id, session_id=request.session_id, events=as_sent)
            _give_ids(events, EventIds(seed=seed, count=len(events)))
        return True

    def _batch(self, request: _Request, origin: Origin) -> dict[str, Any]:
        batch: dict[str, Any] = {
            "v": FORMAT,
            "project_id": origin.project_id,
            "session_id": request.session_id,
            "received_at": origin.received_at,
            "settings": origin.settings,
            "events": request.events,
        }
        if request.visitor_id is not None:
            batch["visitor_id"] = request.visitor_id
        if request.sent_at is not None:
            batch["sent_at"] = request.sent_at
        if origin.ip is not None:
            batch["ip"] = origin.ip
        if origin.user_agent is not None:
            batch["user_agent"] = origin.user_agent
        if request.context and (context := context_of(orjson.loads(bytes(request.context)))):
            batch["context"] = context
        return batch


def _give_ids(events: list[Any], ids: EventIds) -> None:
    for index, event in enumerate(events):
        if event.id is _UNSET:
            event.id = ids.make(index, event.timestamp)
