"""rrweb's vocabulary, and its events in order: unpacked, in the order of their time, without those that have none.

Numbers as in rrweb 1 and 2 (`packages/types`). An event is `{"type", "data", "timestamp"}`. Two packings are known:
- packFn of rrweb: the event is a string, its characters the bytes of a zlib stream of the event's JSON;
- posthog-js, `cv: "2024-10"`: the data of a full snapshot, or the lists of a mutation, are strings whose characters are
  the bytes of a gzip stream of their JSON.
"""

from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from schemas.reasons import Reason
from stream_processors.digest.chunk import Inflater, parse_json
from stream_processors.logic import RecordRefused

# types of events
DOM_CONTENT_LOADED, LOAD, FULL_SNAPSHOT, INCREMENTAL, META, CUSTOM, PLUGIN = range(7)

# sources of incremental events
MUTATION = 0
MOUSE_MOVE = 1
MOUSE_INTERACTION = 2
SCROLL = 3
VIEWPORT_RESIZE = 4
INPUT = 5
TOUCH_MOVE = 6
MEDIA_INTERACTION = 7
STYLE_SHEET_RULE = 8
CANVAS_MUTATION = 9
DRAG = 12
STYLE_DECLARATION = 13
SELECTION = 14
ADOPTED_STYLE_SHEET = 15

# types of mouse interactions
MOUSE_UP = 0
MOUSE_DOWN = 1
CLICK = 2
CONTEXT_MENU = 3
DOUBLE_CLICK = 4
FOCUS = 5
BLUR = 6
TOUCH_START = 7
TOUCH_END = 9
TOUCH_CANCEL = 10

# types of DOM nodes
DOCUMENT, DOCTYPE, ELEMENT, TEXT, CDATA, COMMENT = range(6)

LATEST_MS = 253_402_300_799_999
"""The end of year 9999: what Postgres and every client can still say."""

JUMP_MS = 60_000
"""A clock that goes back or forth by so much was set; recorders write events out of order by seconds at most."""

MAX_EVENTS = 200_000
"""A chunk that takes 3 s to read at worst; a busy page makes some hundred events a second."""

_POSTHOG_FIELDS = ("texts", "attributes", "removes", "adds")


class Event(NamedTuple):
    """One rrweb event: its time in epoch ms, its type, its data."""

    t: int
    type: int
    data: dict[str, Any]


def read_events(chunk: Any, inflater: Inflater) -> list[Event]:
    """Return the chunk's events in order of time; events of one instant keep their order.

    Where the browser's clock was set back, by `JUMP_MS` or more, what was written before stays before.

    What is no event, or has a time outside 1970 to 9999, is passed over: one bad event costs no good one.

    Raises:
        RecordRefused: `chunk_not_rrweb` if it is no array, or none of its items is an event; `chunk_too_large` with
            too many events.
    """
    if not isinstance(chunk, list):
        raise RecordRefused(Reason.CHUNK_NOT_RRWEB, "not an array")
    if len(chunk) > MAX_EVENTS:
        raise RecordRefused(Reason.CHUNK_TOO_LARGE, f"more than {MAX_EVENTS} events")
    events: list[Event] = []
    for item in chunk:
        event = _unpack(item, inflater) if isinstance(item, str) else item
        if not isinstance(event, dict):
            continue
        kind, t, data = event.get("type"), event.get("timestamp"), event.get("data")
        if not isinstance(kind, int) or not isinstance(t, int | float) or not 0 < t <= LATEST_MS:
            continue
        if "cv" in event:
            data = _inflate_fields(data, inflater)
        events.append(Event(int(t), kind, data if isinstance(data, dict) else {}))
    if chunk and not events:
        raise RecordRefused(Reason.CHUNK_NOT_RRWEB, "no item is an rrweb event")
    jumps = [at for at in range(1, len(events)) if events[at].t <= events[at - 1].t - JUMP_MS]
    if not jumps:
        events.sort(key=itemgetter(0))
        return events
    parts = pairwise((0, *jumps, len(events)))
    return [event for begin, end in parts for event in sorted(events[begin:end], key=itemgetter(0))]


def _unpack(packed: str, inflater: Inflater) -> Any:
    """Return the event in a string of packFn; None if it is damaged."""
    return _inflate_latin1(packed, inflater)


def _inflate_fields(data: Any, inflater: Inflater) -> Any:
    if isinstance(data, str):
        return _inflate_latin1(data, inflater)
    if isinstance(data, dict):
        for name in _POSTHOG_FIELDS:
            if isinstance(data.get(name), str):
                data[name] = _inflate_latin1(data[name], inflater)
    return data


def _inflate_latin1(text: str, inflater: Inflater) -> Any:
    try:
        return parse_json(inflater.inflate(text.encode("latin-1")))
    except UnicodeEncodeError:
        return None
    except RecordRefused as refused:
        if refused.reason is Reason.CHUNK_TOO_LARGE:
            raise
        return None
