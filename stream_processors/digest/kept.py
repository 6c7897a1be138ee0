"""What is kept of the attributes and texts of a recording.

Long values are kept as a fingerprint, long texts as their beginning and a fingerprint: enough to say "the same again".
What a user typed is kept only as "there is something". Of style sheets only what they reveal by themselves is kept
(`sheets`).
"""

from collections.abc import Mapping
from typing import Any, Final

from stream_processors.digest import sheets
from stream_processors.digest.texts import FINGERPRINT, shorten

MAX_VALUE_CHARS = 64
MAX_TEXT_CHARS = 87
FILLED: Final = "1"
"""Stands for whatever a user typed."""

TYPED_TAGS = frozenset({"input", "textarea", "select"})
_LONGER_CHARS = {"class": 200, "aria-label": 120, "title": 120, "alt": 120, "href": 60}
"""How much is kept of the long values that elements are described by."""
_NAMED_BY_VALUE = frozenset({"submit", "button", "reset", "image", "checkbox", "radio", "hidden"})


def short_value(name: str, value: str) -> str:
    """Return an attribute's value as it is kept: texts for people and links keep their beginning."""
    if len(value) <= MAX_VALUE_CHARS:
        return value
    if name == "href" and value.endswith("#"):
        return "#"  # snapshots make links absolute; that this one leads nowhere is all that matters
    return shorten(value, keep=_LONGER_CHARS.get(name, 0))


def short_text(text: str) -> str:
    """Return a text as it is kept.

    Raises:
        TypeError: it is none.
    """
    if text.__class__ is not str:
        raise TypeError("no text")
    return text if len(text) <= MAX_TEXT_CHARS else shorten(text, keep=MAX_TEXT_CHARS)


def kept_value(name: str, value: Any) -> str | None:
    """Return what is kept of a value: a boolean attribute has the empty string when true, and is absent when false."""
    if value is None or value is False:
        return None
    if name == sheets.TEXT_ATTRIBUTE:
        return sheets.holders_in(str(value)) or None
    return "" if value is True else short_value(name, value if isinstance(value, str) else str(value))


def kept_attributes(tag: str, attributes: dict[str, Any]) -> dict[str, str]:
    """Return the attributes of an element as they are kept; the given ones if nothing about them changes."""
    if tag in sheets.TAGS:
        return _shortened(attributes)
    for value in attributes.values():
        if value.__class__ is not str or len(value) > MAX_VALUE_CHARS:
            attributes = _shortened(attributes)
            break
    if tag in TYPED_TAGS:
        hide_typed(tag, attributes)
    return attributes


def hide_typed(tag: str, attributes: dict[str, str]) -> None:
    """Forget what a user entered, but not that there is something."""
    if attributes.get("value") and is_typed_into(tag, attributes):
        attributes["value"] = FILLED


def is_typed_into(tag: str, attributes: Mapping[str, str]) -> bool:
    """Tell whether the element's value is what the user entered, not what the page says."""
    return tag in TYPED_TAGS and attributes.get("type", "").lower() not in _NAMED_BY_VALUE


def restyle(style: str, properties: dict[str, Any]) -> str:
    """Apply rrweb's style difference, `{property: value | [value, priority] | false}`, to an inline style."""
    if FINGERPRINT in style:
        return shorten(style + str(properties), keep=0)
    pairs = (part.partition(":") for part in style.split(";"))
    values = {name.strip(): value.strip() for name, colon, value in pairs if colon}
    for name, value in properties.items():
        if value is False or value is None:
            values.pop(name, None)
        else:
            values[name] = f"{value[0]} !{value[1]}" if isinstance(value, list) and len(value) == 2 else str(value)
    return short_value("style", "; ".join(f"{name}: {value}" for name, value in values.items()))


def _shortened(attributes: dict[str, Any]) -> dict[str, str]:
    kept = {}
    for name, value in attributes.items():
        if value.__class__ is str and len(value) <= MAX_VALUE_CHARS and name != sheets.TEXT_ATTRIBUTE:
            kept[name] = value
        elif (short := kept_value(name, value)) is not None:
            kept[name] = short
    return kept
