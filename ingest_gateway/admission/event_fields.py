"""The fields of an event: which there are, what each may hold, and how it is made to fit its column.

Theory. An event is flat and uses the names of the columns of `traceflow_events`. A field of the wrong type refuses the
event, because a silent conversion would hide an SDK's bug for months. A text that is too long is cut, because a stack
trace's head is worth more than none. A field that is no column goes to `metadata`, because the client meant something
by it. Null counts as absent.

Limits are in bytes of UTF-8, as Postgres counts them. Indexed texts stay within 2,048 bytes, since a btree entry holds
at most 2,704.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from ingest_gateway.admission.event_time import json_type
from schemas.reasons import Reason

TEXT_LIMITS: dict[str, int] = {
    "event_name": 256,
    "page_url": 2_048,
    "page_title": 1_024,
    "element_tag": 64,
    "element_id": 256,
    "element_class": 1_024,
    "element_text": 1_024,
    "element_selector": 2_048,
    "error_message": 4_096,
    "error_stack": 16_384,
}
"""Text columns and the bytes at which they are cut."""

INTEGERS = frozenset(
    ("x_position", "y_position", "viewport_width", "viewport_height", "scroll_depth", "time_on_page_ms")
)
"""Integer columns: a fraction is rounded, the range is that of int4."""

HANDLED_APART = frozenset(("id", "timestamp", "event_type", "metadata", "session_id", "visitor_id"))
"""Fields that `events` reads itself."""

EVENT_TYPE_LIMIT = 64
"""Bytes of an event_type; a longer one is a bug of the client, and cutting it would make a type that nobody sent."""

RESERVED_EVENT_TYPES = frozenset(
    (
        "rage_click",
        "error_click",
        "form_abandonment",
        "dead_click",
        "slow_load",
        "quick_back",
        "thrashed_cursor",
    )
)
"""Kinds of findings: TraceFlow alone makes these rows. `error` is a finding too, and a client's to send."""

METADATA_LIMIT = 65_536
"""Bytes of an event's metadata as JSON, unknown fields included; not measured in bodies smaller than that."""

DEPTH_LIMIT = 32
"""Levels of objects and arrays in metadata; the encoder of the log ends at 254."""

INT4_MIN, INT4_MAX = -(1 << 31), (1 << 31) - 1

COMMON_EVENT_TYPES = frozenset(
    (
        "click",
        "scroll",
        "error",
        "pageview",
        "input",
        "form_submit",
        "web_vital",
        "dom_change",
        "network",
        "visibility",
        "page_leave",
        "custom",
    )
)
"""Types that detectors know; any other is stored all the same."""

_INTEGER, _APART = 0, -1
# By field: the characters of a text that fit whatever they are (4 bytes each at most), or what it is instead.
_ROOM: dict[str, int] = {
    **{name: limit // 4 for name, limit in TEXT_LIMITS.items()},
    **dict.fromkeys(INTEGERS, _INTEGER),
    **dict.fromkeys(HANDLED_APART, _APART),
}


class EventRefusal(Exception):
    """One event is refused and its neighbours are not; the message names the field."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def columns(sent: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a copy of an event with every column made to fit, and apart from it the fields that are no columns.

    Fields that `events` reads itself stay in the copy as they came. One look-up and one or two comparisons a field:
    this loop is a quarter of a request's CPU.

    Raises:
        EventRefusal: if a column's value has the wrong type or is out of range.
    """
    fitting = sent.copy()
    unknown: dict[str, Any] = {}
    for name, value in sent.items():
        room = _ROOM.get(name)
        if room is None:
            unknown[name] = fitting.pop(name)
        elif room > 0:
            if type(value) is str:
                if len(value) > room:
                    fitting[name] = cut(value, TEXT_LIMITS[name])
            elif value is None:
                del fitting[name]
            else:
                raise wrong_type(name, "a string", value)
        elif room == _INTEGER and not (type(value) is int and INT4_MIN <= value <= INT4_MAX):
            if value is None:
                del fitting[name]
            else:
                fitting[name] = _int4(name, value)
    return fitting, unknown


def event_type(sent: dict[str, Any]) -> str:
    """Return the event's type.

    Raises:
        EventRefusal: if it is missing, empty, no string, too long, or the name of a finding.
    """
    value = sent.get("event_type")
    if type(value) is str and value in COMMON_EVENT_TYPES:
        return value
    if type(value) is not str:
        if value is None:
            raise EventRefusal(Reason.EVENT_TYPE_MISSING, "event_type is missing")
        raise wrong_type("event_type", "a string", value)
    if value in RESERVED_EVENT_TYPES:
        raise EventRefusal(Reason.EVENT_TYPE_RESERVED, f"event_type {value} is a finding, which only TraceFlow makes")
    if not value.strip():
        raise EventRefusal(Reason.EVENT_TYPE_MISSING, "event_type is empty")
    if len(value) > EVENT_TYPE_LIMIT or len(value.encode()) > EVENT_TYPE_LIMIT:
        raise EventRefusal(Reason.EVENT_FIELD_INVALID, f"event_type is longer than {EVENT_TYPE_LIMIT} bytes")
    return value


def metadata(sent: Any, unknown: dict[str, Any], *, measure: bool) -> dict[str, Any]:
    """Join what the client sent as metadata with its unknown fields; a name that both hold keeps both.

    Its size is measured only on demand: within a body that is smaller than the limit it cannot exceed it.

    Raises:
        EventRefusal: if it is no object, nests too deeply or is too large.
    """
    if sent is None:
        joined = unknown
    elif type(sent) is not dict:
        raise wrong_type("metadata", "an object", sent)
    elif unknown:
        joined = {**sent, **{name if name not in sent else f"event.{name}": unknown[name] for name in unknown}}
    else:
        joined = sent
    for value in joined.values():
        if type(value) is dict or type(value) is list:
            if deeper_than(joined.values(), DEPTH_LIMIT - 1):
                raise EventRefusal(Reason.EVENT_FIELD_INVALID, f"metadata nests deeper than {DEPTH_LIMIT} levels")
            break
    if measure and (size := len(orjson.dumps(joined))) > METADATA_LIMIT:
        raise EventRefusal(Reason.EVENT_TOO_LARGE, f"metadata is {size} bytes, at most {METADATA_LIMIT}")
    return joined


def cut(text: str, limit: int) -> str:
    """Cut a text to `limit` bytes of UTF-8 without cutting a character."""
    encoded = text[:limit].encode()
    return text if len(text) <= limit and len(encoded) <= limit else encoded[:limit].decode("utf-8", "ignore")


def deeper_than(values: Iterable[Any], levels: int) -> bool:
    """Tell whether any of these values nests more than `levels` objects or arrays."""
    nested = [value for value in values if type(value) is dict or type(value) is list]
    while nested and levels:
        levels -= 1
        nested = [
            inner
            for value in nested
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is dict or type(inner) is list
        ]
    return bool(nested)


def wrong_type(name: str, expected: str, value: Any) -> EventRefusal:
    """Return the refusal of a field of the wrong type; the value itself is never repeated."""
    return EventRefusal(Reason.EVENT_FIELD_INVALID, f"{name} must be {expected}, not {json_type(value)}")


def _int4(name: str, value: Any) -> int:
    if type(value) is not int and type(value) is not float:
        raise wrong_type(name, "a number", value)
    if not INT4_MIN <= value <= INT4_MAX:
        raise EventRefusal(Reason.EVENT_FIELD_INVALID, f"{name} is not between {INT4_MIN} and {INT4_MAX}")
    return round(value)
