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
from stream_processors.analyze.records import Event

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


def signals_of(event: Event) -> Sequence[Signal]:
    """Return the signals of one event, all at its time."""
    make = _RULES.get(event.event_type)
    return make(event) if make is not None else ()


def place_of(event: Event) -> str:
    """Return what tells an event apart from others of its kind and time."""
    kind = event.event_type
    if kind == "click":
        return f"{event.x_position}/{event.y_position}/{event.element_selector}"
    if kind == "error":
        return event.error_message
    if kind == "web_vital":
        return f"{event.event_name}/{event.page_url}"
    return event.page_url


def _click(event: Event) -> Sequence[Signal]:
    if event.event_name in _NOT_PRIMARY or event.metadata.trusted is False:
        return ()
    x, y = event.x_position, event.y_position
    tag, selector, text = event.element_tag, event.element_selector, event.element_text
    element, node = None, 0
    if tag or selector:
        element = Element(tag, event.element_id, event.element_class, text, selector)
        node = _node(selector or f"{tag}#{event.element_id}", text)
    return (
        Click(
            t=event.timestamp,
            x=x or 0,
            y=y or 0,
            node=node,
            element=element,
            page_url=event.page_url,
            not_judged=NotJudged.KEYBOARD if x == 0 and y == 0 else _not_judged(tag.lower(), event.metadata.type),
            event_id=event.id,
        ),
    )


def _node(selector: str, text: str) -> int:
    """Return a number for the element that was described: negative, so that it is never one of rrweb's node ids."""
    return -1 - zlib.crc32(f"{selector}|{text}".encode("utf-8", "replace"))


def _not_judged(tag: str, type_: Any) -> NotJudged | None:
    if tag == "input":
        return None if _text(type_) in _BUTTON_TYPES else NotJudged.TEXT_ENTRY
    return _UNJUDGED_TAGS.get(tag)


def _pageview(event: Event) -> Sequence[Signal]:
    return (PageView(event.timestamp, event.page_url, event.page_title, _text(event.metadata.referrer)),)


def _error(event: Event) -> Sequence[Signal]:
    return (ScriptError(event.timestamp, event.error_message, event.error_stack, event.page_url, event.id),)


def _input(event: Event) -> Sequence[Signal]:
    change = Change(event.timestamp, ChangeKind.INPUT)
    form = _text(event.metadata.form)
    if not form:
        return (change,)
    field = _text(event.metadata.field) or event.element_selector
    return (change, FormTouch(event.timestamp, form[:MAX_NAME], field[:MAX_NAME], event.page_url))


def _form_submit(event: Event) -> Sequence[Signal]:
    return (FormSubmit(event.timestamp, _text(event.metadata.form)[:MAX_NAME], event.page_url),)


def _web_vital(event: Event) -> Sequence[Signal]:
    value = event.metadata.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return ()
    return (WebVital(event.timestamp, event.event_name.upper(), float(value), event.page_url, event.id),)


def _visibility(event: Event) -> Sequence[Signal]:
    change = Change(event.timestamp, ChangeKind.VISIBILITY)
    if event.event_name != "hidden":
        return (change,)
    return (change, Leave(event.timestamp, event.page_url, hidden=True))


def _page_leave(event: Event) -> Sequence[Signal]:
    return (Leave(event.timestamp, event.page_url),)


def _change(what: ChangeKind) -> Callable[[Event], Sequence[Signal]]:
    def make(event: Event) -> Sequence[Signal]:
        return (Change(event.timestamp, what),)

    return make


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


_RULES: dict[str, Callable[[Event], Sequence[Signal]]] = {
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
