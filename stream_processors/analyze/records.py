"""The records of the events log, decoded in one pass to what `analyze` reads of them.

`schemas.messages` says what a record holds; here is what is read of it, with the defaults of what may be missing. The
decoder checks types on its way and passes over all the rest: 12 us for 20 events, where the dicts of a general parser
take 20 and each look-up in them costs again.
"""

from typing import Any, TypeVar

import msgspec

from schemas import messages
from schemas.reasons import Reason
from stream_processors.fold.logic import LogRecord, RecordRefused

R = TypeVar("R", bound="_Versioned")


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """What rules read of an event's metadata: any JSON, as a client has put it there."""

    trusted: Any = None
    type: Any = None
    referrer: Any = None
    form: Any = None
    field: Any = None
    value: Any = None


NO_METADATA = Metadata()


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a batch; a text that is missing is empty."""

    id: str
    timestamp: int
    event_type: str
    restamped: bool = False
    event_name: str = ""
    page_url: str = ""
    page_title: str = ""
    element_tag: str = ""
    element_id: str = ""
    element_class: str = ""
    element_text: str = ""
    element_selector: str = ""
    x_position: int | None = None
    y_position: int | None = None
    error_message: str = ""
    error_stack: str = ""
    metadata: Metadata = NO_METADATA


class Context(msgspec.Struct, frozen=True):
    """What a client says about its surroundings."""

    screen_resolution: str = ""
    referrer: str | None = None
    """An empty one is an answer too."""
    device_fingerprint: str = ""
    custom_properties: dict[str, Any] = {}


class _Versioned(msgspec.Struct):
    v: int


class _OfSession(_Versioned):
    """What every record of a session carries."""

    received_at: int
    settings: dict[str, Any]
    visitor_id: str = ""
    user_agent: str = ""
    ip: str = ""


class EventBatch(_OfSession, kw_only=True):
    """A record of kind `events`."""

    events: list[Event]
    sent_at: int | None = None
    context: Context | None = None


class Digest(_OfSession, kw_only=True):
    """A record of kind `digest`."""

    at: int
    window_id: str
    event_count: int
    signals: list[dict[str, Any]]
    first: int | None = None
    last: int | None = None


class _Source(_Versioned):
    src: int


class _Moment(_Versioned):
    at: int


_BATCH = msgspec.json.Decoder(EventBatch)
_DIGEST = msgspec.json.Decoder(Digest)
_SOURCE = msgspec.json.Decoder(_Source)
_MOMENT = msgspec.json.Decoder(_Moment)


def read_batch(record: LogRecord) -> EventBatch:
    """Decode a record of kind `events`.

    Raises:
        RecordRefused: it is malformed, or written by a newer version.
    """
    return _read(_BATCH, record)


def read_digest(record: LogRecord) -> Digest:
    """Decode a record of kind `digest`.

    Raises:
        RecordRefused: it is malformed, or written by a newer version.
    """
    return _read(_DIGEST, record)


def read_source(record: LogRecord) -> int:
    """Return the offset in the recordings topic that a digest or its tick stands for.

    Raises:
        RecordRefused: the record is malformed, or written by a newer version.
    """
    return _read(_SOURCE, record).src


def read_moment(record: LogRecord) -> int:
    """Return the moment, epoch ms, up to which a tick says that the recordings have been digested.

    Raises:
        RecordRefused: the record is malformed, or written by a newer version.
    """
    return _read(_MOMENT, record).at


def _read(decoder: msgspec.json.Decoder[R], record: LogRecord) -> R:
    try:
        made = decoder.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_unreadable(record)
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    if made.v > messages.FORMAT:
        _refuse_unreadable(record)
    return made


def _refuse_unreadable(record: LogRecord) -> None:
    """Refuse what is no JSON object or of a newer format: only then does it matter what else is wrong with it."""
    try:
        messages.decode_object(record.value)
    except messages.MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    except messages.NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, str(error)) from error
