"""rrweb's vocabulary, and the order of its events. Numbers as in rrweb 1 and 2 (`packages/types`)."""

from itertools import pairwise
from operator import itemgetter

from schemas.chunks import Event

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

JUMP_MS = 60_000
"""A clock that goes back or forth by so much was set; recorders write events out of order by seconds at most."""


def in_order(events: list[Event]) -> list[Event]:
    """Return a chunk's events, given as they were written, in order of time; those of one instant keep their order.

    Where the browser's clock was set back, by `JUMP_MS` or more, what was written before stays before.
    """
    jumps = [at for at in range(1, len(events)) if events[at].t <= events[at - 1].t - JUMP_MS]
    if not jumps:
        return sorted(events, key=itemgetter(0))
    parts = pairwise((0, *jumps, len(events)))
    return [event for begin, end in parts for event in sorted(events[begin:end], key=itemgetter(0))]
