"""What a pointer hit: the control that was meant, and whether a click on it can be judged at all.

rrweb names the innermost node, often an icon's path. What the user meant is the control around it.

What is drawn, not built, shows in no recording: a canvas, the inside of a plug-in, of another site's frame, of a custom
element that the recorder found empty (a closed shadow root). A click there is not judged, nor one on the controls
beside a canvas, which draw on it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.signals import Element, NotJudged
from stream_processors.digest.dom import (
    FIRST,
    NEXT,
    OTHER_TAG,
    PREVIOUS,
    TAG,
    TEXT_TAG,
    Row,
    Tree,
    attributes_of,
)
from stream_processors.digest.kept import is_typed_into
from stream_processors.digest.selector import describe

_CONTROL_TAGS = frozenset({"a", "button", "summary", "label", "input", "select", "textarea", "option"})
_CONTROL_ROLES = frozenset(
    {"button", "link", "menuitem", "menuitemcheckbox", "menuitemradio", "tab", "checkbox", "radio", "switch", "option"}
)
_MAX_CONTROL_LEVELS = 8
_MAX_BAR_LEVELS = 3
"""A control, its group, the bar."""
_MAX_BOXES = 4
_MAX_GAP = 3
_PAGE_TAGS = frozenset({"main", "body", "html"})
_OWN_PICKER_TYPES = frozenset({"file", "color"})
_STRONG_TAGS: Mapping[str, NotJudged] = {
    "input": NotJudged.TEXT_ENTRY,
    "textarea": NotJudged.TEXT_ENTRY,
    "select": NotJudged.SELECT,
    "option": NotJudged.SELECT,
    "canvas": NotJudged.CANVAS,
    "video": NotJudged.MEDIA,
    "audio": NotJudged.MEDIA,
    "object": NotJudged.CANVAS,
    "embed": NotJudged.CANVAS,
    "a": NotJudged.LINK,
}
"""Tags that decide by themselves; those with `input`, `textarea` and `a` depend on attributes."""
_DISABLING_TAGS = frozenset({"button", "input", "select", "textarea", "option", "optgroup", "fieldset"})


class Target(NamedTuple):
    """What was hit; `node` is rrweb's id of the control, or of the hit node if it lies in none."""

    node: int
    chain: list[int]
    """The hit node and its ancestors, nearest first; empty if the node is unknown."""
    is_control: bool


def find_target(tree: Tree | None, hit: int) -> Target:
    """Find the control around the hit node."""
    chain = tree.chain(hit) if tree is not None else []
    if tree is None or not chain:
        return Target(node=hit, chain=[], is_control=False)
    rows = tree.rows
    for node in chain[:_MAX_CONTROL_LEVELS]:
        if _is_control(rows[node]):
            return Target(node=node, chain=chain, is_control=True)
    return Target(node=hit, chain=chain, is_control=False)


def is_disabled(tree: Tree | None, target: Target) -> bool:
    """Tell whether the browser sends no clicks there, because a form control around it is disabled."""
    if tree is None:
        return False
    rows = (tree.rows[node] for node in target.chain)
    return any(row[TAG] in _DISABLING_TAGS and "disabled" in attributes_of(row) for row in rows)


def describe_target(tree: Tree | None, target: Target) -> Element | None:
    """Describe the control; None if it is unknown."""
    return describe(tree, target.node) if tree is not None and target.chain else None


def why_not_judged(tree: Tree | None, target: Target) -> NotJudged | None:
    """Return why a click there says nothing, from the hit node outwards; a link only if nothing else is said."""
    if tree is None or not target.chain:
        return NotJudged.UNKNOWN_NODE
    weak = None
    for node in target.chain:
        row = tree.rows[node]
        attributes = attributes_of(row)
        reason = _strong_reason(row[TAG], attributes)
        if reason is not None:
            return reason
        if weak is None:
            weak = _weak_reason(row[TAG], attributes)
    if weak is None and (_is_closed(tree, target) or _draws(tree, target)):
        return NotJudged.CANVAS
    return weak


def _is_closed(tree: Tree, target: Target) -> bool:
    """Tell whether a frame or a custom element was hit whose inside is not in the recording."""
    row = tree.rows[target.node]
    return target.node == target.chain[0] and not row[FIRST] and ("-" in row[TAG] or row[TAG] == "iframe")


def _draws(tree: Tree, target: Target) -> bool:
    """Tell whether a canvas is beside a control, or beside the bar that it is in."""
    if not target.is_control:
        return False
    start = target.chain.index(target.node)
    for node in target.chain[start : start + _MAX_BAR_LEVELS]:
        if tree.rows[node][TAG] in _PAGE_TAGS:
            return False
        if any(_shows_canvas(tree, beside) for beside in _beside(tree, node)):
            return True
    return False


def _beside(tree: Tree, node: int) -> list[int]:
    """Return the elements next to a node."""
    found = []
    for link in (PREVIOUS, NEXT):
        sibling = tree.rows[node][link]
        for _ in range(_MAX_GAP):
            if not sibling or tree.rows[sibling][TAG] not in (TEXT_TAG, OTHER_TAG):
                break
            sibling = tree.rows[sibling][link]
        if sibling and tree.rows[sibling][TAG] not in (TEXT_TAG, OTHER_TAG):
            found.append(sibling)
    return found


def _shows_canvas(tree: Tree, node: int) -> bool:
    """Tell whether an element is a canvas, or hardly more than a box around one."""
    for _ in range(_MAX_BOXES):
        if tree.rows[node][TAG] == "canvas":
            return True
        node = next((child for child in tree.children(node, limit=_MAX_GAP) if tree.rows[child][TAG] != TEXT_TAG), 0)
        if not node:
            return False
    return False


def _strong_reason(tag: str, attributes: Mapping[str, str]) -> NotJudged | None:
    if tag in _STRONG_TAGS:
        return _reason_of_tag(tag, attributes)
    if attributes.get("contenteditable", "false").lower() != "false" or attributes.get("role") == "textbox":
        return NotJudged.EDITABLE
    return None


def _reason_of_tag(tag: str, attributes: Mapping[str, str]) -> NotJudged | None:
    kind = attributes.get("type", "").lower()
    if tag == "input" and kind in _OWN_PICKER_TYPES:
        return NotJudged.SELECT
    if tag in ("input", "textarea"):
        is_entry = kind != "range" and "disabled" not in attributes and is_typed_into(tag, attributes)
        return NotJudged.TEXT_ENTRY if is_entry else None
    if tag == "a":
        if "download" in attributes:
            return NotJudged.DOWNLOAD
        return NotJudged.NEW_WINDOW if attributes.get("target", "") not in ("", "_self") else None
    return _STRONG_TAGS[tag]


def _weak_reason(tag: str, attributes: Mapping[str, str]) -> NotJudged | None:
    if tag == "a" and _leads_somewhere(attributes.get("href") or attributes.get("xlink:href") or ""):
        return NotJudged.LINK
    if "popovertarget" in attributes or "commandfor" in attributes:
        return NotJudged.POPOVER
    return None


def _leads_somewhere(href: str) -> bool:
    return bool(href) and not href.endswith("#") and not href.lower().startswith("javascript:")


def _is_control(row: Row) -> bool:
    if row[TAG] in _CONTROL_TAGS:
        return True
    attributes = attributes_of(row)
    return attributes.get("role") in _CONTROL_ROLES or "onclick" in attributes
