"""What a pointer hit: the control that was meant, and whether a click on it can be judged at all.

rrweb names the innermost node, often an icon's path. What the user meant is the control around it.
"""

from typing import NamedTuple

from schemas.signals import Element, NotJudged
from stream_processors.digest.dom import DATA, TAG, Tree, is_typed_into
from stream_processors.digest.selector import describe

_CONTROL_TAGS = frozenset({"a", "button", "summary", "label", "input", "select", "textarea", "option"})
_CONTROL_ROLES = frozenset(
    {"button", "link", "menuitem", "menuitemcheckbox", "menuitemradio", "tab", "checkbox", "radio", "switch", "option"}
)
_MAX_CONTROL_LEVELS = 8
_OWN_PICKER_TYPES = frozenset({"file", "color"})
_MEDIA_TAGS = frozenset({"video", "audio"})
_DISABLING_TAGS = frozenset({"button", "input", "select", "textarea", "option", "optgroup", "fieldset"})


class Target(NamedTuple):
    """What was hit; `node` is rrweb's id of the control, or of the hit node if it lies in none."""

    node: int
    chain: list[int]
    """The hit node and its ancestors, nearest first; empty if the node is unknown."""
    is_control: bool
    is_disabled: bool


def find_target(tree: Tree | None, hit: int) -> Target:
    """Find the control around the hit node."""
    chain = tree.chain(hit) if tree is not None else []
    if tree is None or not chain:
        return Target(node=hit, chain=[], is_control=False, is_disabled=False)
    control = next((node for node in chain[:_MAX_CONTROL_LEVELS] if _is_control(tree, node)), 0)
    return Target(
        node=control or hit,
        chain=chain,
        is_control=bool(control),
        is_disabled=any(_is_disabled(tree, node) for node in chain),
    )


def describe_target(tree: Tree | None, target: Target) -> Element | None:
    """Describe the control; None if it is unknown."""
    return describe(tree, target.node) if tree is not None and target.chain else None


def why_not_judged(tree: Tree | None, target: Target) -> NotJudged | None:
    """Return why a click there says nothing, from the hit node outwards; a link only if nothing else is said."""
    if tree is None or not target.chain:
        return NotJudged.UNKNOWN_NODE
    weak = None
    for node in target.chain:
        tag, attributes = tree.rows[node][TAG], tree.rows[node][DATA]
        if not isinstance(attributes, dict):
            attributes = {}
        reason = _strong_reason(tag, attributes)
        if reason is not None:
            return reason
        weak = weak or _weak_reason(tag, attributes)
    return weak


def _strong_reason(tag: str, attributes: dict[str, str]) -> NotJudged | None:
    if tag == "input" and attributes.get("type", "").lower() in _OWN_PICKER_TYPES:
        return NotJudged.SELECT
    if tag in ("input", "textarea") and is_typed_into(tag, attributes):
        is_slider = attributes.get("type", "").lower() == "range"
        return None if is_slider or "disabled" in attributes else NotJudged.TEXT_ENTRY
    if tag in ("select", "option"):
        return NotJudged.SELECT
    if tag == "canvas":
        return NotJudged.CANVAS
    if tag in _MEDIA_TAGS:
        return NotJudged.MEDIA
    if attributes.get("contenteditable", "false").lower() != "false" or attributes.get("role") == "textbox":
        return NotJudged.EDITABLE
    if tag == "a" and "download" in attributes:
        return NotJudged.DOWNLOAD
    if tag == "a" and attributes.get("target", "") not in ("", "_self"):
        return NotJudged.NEW_WINDOW
    return None


def _weak_reason(tag: str, attributes: dict[str, str]) -> NotJudged | None:
    if tag == "a" and _leads_somewhere(attributes.get("href") or attributes.get("xlink:href") or ""):
        return NotJudged.LINK
    if "popovertarget" in attributes or "commandfor" in attributes:
        return NotJudged.POPOVER
    return None


def _leads_somewhere(href: str) -> bool:
    return bool(href) and not href.endswith("#") and not href.lower().startswith("javascript:")


def _is_control(tree: Tree, node: int) -> bool:
    tag, attributes = tree.rows[node][TAG], tree.rows[node][DATA]
    if tag in _CONTROL_TAGS:
        return True
    return isinstance(attributes, dict) and (attributes.get("role") in _CONTROL_ROLES or "onclick" in attributes)


def _is_disabled(tree: Tree, node: int) -> bool:
    tag, attributes = tree.rows[node][TAG], tree.rows[node][DATA]
    return tag in _DISABLING_TAGS and isinstance(attributes, dict) and "disabled" in attributes
