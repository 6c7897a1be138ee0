"""Structured events as signals, so that detectors need not know where a signal comes from.

| event_type                | signals                          | fields                                            |
|---------------------------|----------------------------------|---------------------------------------------------|
| click                     | Click                            | element_*, x/y_position, metadata.trusted, .type  |
| pageview                  | PageView                         | page_url, page_title, metadata.referrer           |
| error                     | ScriptError                      | error_message, error_stack                        |
| input                     | FormTouch, Change (input)        | metadata.form, metadata.field                     |
| form_submit               | FormSubmit                       | metadata.form                                     |
| web_vital                 | WebVital                         | event_name, metadata.value                        |
| dom_change                | Change (dom)                     |                                                   |
| network                   | Change (network)                 |                                                   |
| visibility                | Change (visibility), Leave       | event_name `hidden`: the page is hidden           |
| custom                    | Change (custom)                  |                                                   |
| scroll                    | Change (scroll)                  |                                                   |
| page_leave                | Leave                            | page_url                                          |

Other types give none. A click with event_name `dblclick`, `contextmenu` or `auxclick` is no primary click, and one with
`metadata.trusted` false was made by a script. A click whose coordinates are both 0 was made by a key. An `input`
without `metadata.form` belongs to no form.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.messages import Event
from schemas.signals import (
    Change,
    ChangeKind,
    Click,
    Element,
    FormSubmit,
    FormTouch,
    Leave,
    NotJudged,
    PageView,
    ScriptError,
    Signal,
    WebVital,
)

MAX_NAME = 100
"""Characters of a form's or a field's name."""

_NOT_PRIMARY = frozenset(("dblclick", "contextmenu", "auxclick"))
_BUTTON_TYPES = frozenset(("button", "submit", "reset", "checkbox", "radio", "image", "color", "range", "file"))
_UNJUDGED_TAGS: Mapping[str, NotJudged] = {
    "textarea": NotJudged.TEXT_ENTRY,
    "select": NotJudged.SELECT,
    "option": NotJudged.SELECT,
    "canvas": NotJudged.CANVAS,
    "video": NotJudged.MEDIA,
    "audio": NotJudged.MEDIA,
    "a": NotJudged.LINK,
}
_NO_METADATA: Mapping[str, Any] = {}


def signals_of(event: Event) -> Sequence[Signal]:
    """Return the signals of one event, all at its time."""
    make = _RULES.get(event["event_type"])
    return make(event) if make is not None else ()


def place_of(event: Event) -> str:
    """Return what tells an event apart from others of its kind and time."""
    kind = event["event_type"]
    get = event.get
    if kind == "click":
        return f"{get('x_position')}/{get('y_position')}/{get('element_selector')}"
    if kind == "error":
        return f"{get('error_message')}"
    if kind == "web_vital":
        return f"{get('event_name')}/{get('page_url')}"
    return f"{get('page_url')}"


def _click(event: Mapping[str, Any]) -> Sequence[Signal]:
    if event.get("event_name") in _NOT_PRIMARY:
        return ()
    metadata = event.get("metadata") or _NO_METADATA
    if metadata.get("trusted") is False:
        return ()
    get = event.get
    x, y = get("x_position"), get("y_position")
    tag, id_, selector, text = (
        get("element_tag", ""),
        get("element_id", ""),
        get("element_selector", ""),
        get("element_text", ""),
    )
    not_judged = NotJudged.KEYBOARD if x == 0 and y == 0 else _not_judged(tag.lower(), metadata)
    element = Element(tag, id_, get("element_class", ""), text, selector) if tag or selector else None
    return (
        Click(
            t=event["timestamp"],
            x=x or 0,
            y=y or 0,
            node=_node(selector or f"{tag}#{id_}", text) if element is not None else 0,
            element=element,
            page_url=get("page_url", ""),
            not_judged=not_judged,
            event_id=event["id"],
        ),
    )


def _node(selector: str, text: str) -> int:
    """Return a number for the element that was described: negative, so that it is never one of rrweb's node ids."""
    return -1 - zlib.crc32(f"{selector}|{text}".encode("utf-8", "replace"))


def _not_judged(tag: str, metadata: Mapping[str, Any]) -> NotJudged | None:
    if tag == "input":
        return None if _text(metadata.get("type")) in _BUTTON_TYPES else NotJudged.TEXT_ENTRY
    return _UNJUDGED_TAGS.get(tag)


def _pageview(event: Event) -> Sequence[Signal]:
    metadata = event.get("metadata") or _NO_METADATA
    return (
        PageView(
            event["timestamp"], event.get("page_url", ""), event.get("page_title", ""), _text(metadata.get("referrer"))
        ),
    )


def _error(event: Mapping[str, Any]) -> Sequence[Signal]:
    get = event.get
    message, stack = get("error_message", ""), get("error_stack", "")
    return (ScriptError(event["timestamp"], message, stack, get("page_url", ""), event["id"]),)


def _input(event: Event) -> Sequence[Signal]:
    change = Change(event["timestamp"], ChangeKind.INPUT)
    metadata = event.get("metadata") or _NO_METADATA
    form = _text(metadata.get("form"))
    if not form:
        return (change,)
    field = _text(metadata.get("field")) or event.get("element_selector", "")
    return (change, FormTouch(event["timestamp"], form[:MAX_NAME], field[:MAX_NAME], event.get("page_url", "")))


def _form_submit(event: Event) -> Sequence[Signal]:
    metadata = event.get("metadata") or _NO_METADATA
    form = _text(metadata.get("form"))
    return (FormSubmit(event["timestamp"], form[:MAX_NAME], event.get("page_url", "")),)


def _web_vital(event: Event) -> Sequence[Signal]:
    value = (event.get("metadata") or _NO_METADATA).get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return ()
    name, page_url = event.get("event_name", "").upper(), event.get("page_url", "")
    return (WebVital(event["timestamp"], name, float(value), page_url, event["id"]),)


def _visibility(event: Event) -> Sequence[Signal]:
    change = Change(event["timestamp"], ChangeKind.VISIBILITY)
    if event.get("event_name") != "hidden":
        return (change,)
    return (change, Leave(event["timestamp"], event.get("page_url", ""), hidden=True))


def _page_leave(event: Event) -> Sequence[Signal]:
    return (Leave(event["timestamp"], event.get("page_url", "")),)


def _change(what: ChangeKind) -> Callable[[Event], Sequence[Signal]]:
    def make(event: Event) -> Sequence[Signal]:
        return (Change(event["timestamp"], what),)

    return make


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


_RULES: dict[str, Callable[[Any], Sequence[Signal]]] = {
    "click": _click,
    "pageview": _pageview,
    "error": _error,
    "input": _input,
    "form_submit": _form_submit,
    "web_vital": _web_vital,
    "dom_change": _change(ChangeKind.DOM),
    "network": _change(ChangeKind.NETWORK),
    "visibility": _visibility,
    "custom": _change(ChangeKind.CUSTOM),
    "scroll": _change(ChangeKind.SCROLL),
    "page_leave": _page_leave,
}
