"""What happened in the browser, normalised: detectors see these signals whatever they came from.

A digest carries signals as JSON objects `{"k": <tag>, "t": …}`; `encode` and `decode` translate. Times are event time,
epoch milliseconds; coordinates are CSS pixels in the viewport of the top page. Fields that hold their default are left
out on the wire.

Signals are values that nobody changes. They are not declared frozen, because making a frozen `Change` costs 2.6 us
instead of 0.4, and there is about one signal an event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar


class ChangeKind(StrEnum):
    """What changed: the possible answers to a click."""

    DOM = "dom"
    STYLE = "style"
    CANVAS = "canvas"
    MEDIA = "media"
    INPUT = "input"
    SCROLL = "scroll"
    SELECTION = "selection"
    FOCUS = "focus"
    NAVIGATION = "navigation"
    SNAPSHOT = "snapshot"
    VISIBILITY = "visibility"
    NETWORK = "network"
    CUSTOM = "custom"
    GAP = "gap"
    """Part of the recording is missing here: whatever happened meanwhile may have been the answer."""


class NotJudged(StrEnum):
    """Why a click can never be called dead: its effect is not to be seen in the page."""

    TEXT_ENTRY = "text_entry"
    SELECT = "select"
    CANVAS = "canvas"
    MEDIA = "media"
    EDITABLE = "editable"
    LINK = "link"
    POPOVER = "popover"
    DOWNLOAD = "download"
    NEW_WINDOW = "new_window"
    MODIFIER = "modifier"
    KEYBOARD = "keyboard"
    UNKNOWN_NODE = "unknown_node"


@dataclass(slots=True, unsafe_hash=True)
class Element:
    """The element that was hit, as the columns `element_*` of `traceflow_events` hold it."""

    tag: str = ""
    id: str = ""
    classes: str = ""
    text: str = ""
    selector: str = ""
    component: str = ""
    """The nearest ancestor with data-component, an id or a landmark role: where a developer would look."""


@dataclass(slots=True, unsafe_hash=True)
class Click:
    """A primary click; a press on a disabled control, which gives no click event, has `press` set."""

    tag: ClassVar[str] = "click"
    t: int
    x: int = 0
    y: int = 0
    window: str = ""
    node: int = 0
    """rrweb's node id within the window's page; 0 if unknown or known from a structured event."""
    element: Element | None = None
    page_url: str = ""
    not_judged: NotJudged | None = None
    press: bool = False
    """Then `t` is the pointer-down."""
    down: int = 0
    """Event time of the click's own pointer-down, 0 if none was seen: a pause between clicks ends there, and from there
    on a change can be the answer."""
    event_id: str = ""
    """The row of a click known from a structured event."""


@dataclass(slots=True, unsafe_hash=True)
class PointerDown:
    """A pointer went down: the last moment at which a change can still be an earlier click's answer elsewhere."""

    tag: ClassVar[str] = "down"
    t: int
    window: str = ""
    node: int = 0


@dataclass(slots=True, unsafe_hash=True)
class Change:
    """Something in the page changed, or left it: it may answer a click.

    A digest sends only changes that lie near a click (from shortly before its pointer-down), and of those the first of
    each place since that pointer-down: what the eye cannot see (the same text written again) and what moves no focus
    away from the click is left out. A scroll counts at most 300 ms after a click, a selection 600 ms.
    """

    tag: ClassVar[str] = "change"
    t: int
    what: ChangeKind = ChangeKind.DOM
    window: str = ""
    node: int = 0
    place: str = ""
    """What of the node changed: an attribute's name, `#text`, or empty for its list of children."""
    background: bool = False
    """The same place also changes while nobody does anything: no answer."""
    lone: bool = False
    """Nodes were only taken away, none of them around the click's target, and nothing else changed at that moment:
    later than 400 ms after a click it is no answer (a toast that goes)."""
    undoes: int = 0
    """Event time of the change at the same node and place that this one takes back so soon that it was a mere effect of
    pressing: then neither of the two is an answer."""


@dataclass(slots=True, unsafe_hash=True)
class PageView:
    """A page, or a route of a single-page application, was shown."""

    tag: ClassVar[str] = "page"
    t: int
    url: str = ""
    title: str = ""
    referrer: str = ""
    window: str = ""


@dataclass(slots=True, unsafe_hash=True)
class Leave:
    """The page was left or hidden."""

    tag: ClassVar[str] = "leave"
    t: int
    url: str = ""
    window: str = ""
    hidden: bool = False
    """Only hidden (another tab), not left."""


@dataclass(slots=True, unsafe_hash=True)
class ScriptError:
    """A script error, an unhandled rejection, or an exception that the page wrote to the console."""

    tag: ClassVar[str] = "error"
    t: int
    message: str = ""
    stack: str = ""
    page_url: str = ""
    event_id: str = ""
    """The row of an error known from a structured event; empty if known from a recording alone."""


@dataclass(slots=True, unsafe_hash=True)
class FormTouch:
    """A form field was changed; values are never carried."""

    tag: ClassVar[str] = "touch"
    t: int
    form: str = ""
    field: str = ""
    page_url: str = ""
    window: str = ""


@dataclass(slots=True, unsafe_hash=True)
class FormSubmit:
    """A form was submitted."""

    tag: ClassVar[str] = "submit"
    t: int
    form: str = ""
    page_url: str = ""
    window: str = ""


@dataclass(slots=True, unsafe_hash=True)
class CursorTurn:
    """The cursor turned back, one of several times within a moment: single turns are left out."""

    tag: ClassVar[str] = "turn"
    t: int
    axis: str = ""
    """`x` or `y`: along which it turned."""
    x: int = 0
    y: int = 0
    page_url: str = ""
    window: str = ""


@dataclass(slots=True, unsafe_hash=True)
class WebVital:
    """A web vital: LCP, FCP, TTFB and INP in ms, CLS without a unit."""

    tag: ClassVar[str] = "vital"
    t: int
    name: str = ""
    value: float = 0.0
    page_url: str = ""
    event_id: str = ""


Signal = Click | PointerDown | Change | PageView | Leave | ScriptError | FormTouch | FormSubmit | CursorTurn | WebVital

_BY_TAG: dict[str, type[Any]] = {
    kind.tag: kind
    for kind in (Click, PointerDown, Change, PageView, Leave, ScriptError, FormTouch, FormSubmit, CursorTurn, WebVital)
}
_FIELDS: dict[str, frozenset[str]] = {tag: frozenset(f.name for f in fields(kind)) for tag, kind in _BY_TAG.items()}
_CHANGES = frozenset(ChangeKind)
_ELEMENT_FIELDS = frozenset(f.name for f in fields(Element))


def encode(signal: Signal) -> dict[str, Any]:
    """Translate a signal to its JSON object."""
    out: dict[str, Any] = {"k": signal.tag}
    for name in signal.__slots__:
        value = getattr(signal, name)
        if value or name == "t":
            out[name] = _encode_element(value) if isinstance(value, Element) else value
    return out


def _encode_element(element: Element) -> dict[str, str]:
    return {name: value for name in element.__slots__ if (value := getattr(element, name))}


def decode(data: Mapping[str, Any]) -> Signal | None:
    """Translate back; None for a tag or kind of change that this version does not know, unknown fields are passed over.

    Raises:
        TypeError, ValueError, KeyError: if the object is none that `encode` made.
    """
    kind = _BY_TAG.get(data["k"])
    if kind is None or data.get("what", ChangeKind.DOM) not in _CHANGES:
        return None
    known = _FIELDS[data["k"]]
    values = {name: value for name, value in data.items() if name in known}
    if (element := values.get("element")) is not None:
        values["element"] = Element(**{f: v for f, v in element.items() if f in _ELEMENT_FIELDS})
    if "what" in values:
        values["what"] = ChangeKind(values["what"])
    if "not_judged" in values:
        values["not_judged"] = NotJudged(values["not_judged"])
    signal: Signal = kind(**values)
    return signal
