"""How an element is named: a CSS selector that survives the next deployment, its text, and where it belongs.

A selector starts at the nearest ancestor with an id or a test attribute that a person chose, and goes down by tags,
classes that say what an element is (not which state it is in) and places among siblings. Generated ids and hashed
classes are left out, because they differ from visitor to visitor and would split one issue into thousands.
"""

import re
from collections.abc import Iterator, Mapping

from schemas.signals import Element
from stream_processors.digest.dom import (
    DATA,
    DOCUMENT_TAG,
    FIRST,
    NEXT,
    OTHER_TAG,
    PARENT,
    PREVIOUS,
    TAG,
    TEXT_TAG,
    Tree,
    attributes_of,
)
from stream_processors.digest.kept import is_typed_into
from stream_processors.digest.texts import FINGERPRINT, clean

MAX_LEVELS = 8
MAX_TEXT_CHARS = 120
MAX_NAME_CHARS = 200
MAX_SELECTOR_CHARS = 500
_MAX_SIBLINGS = 500
_MAX_VISITED = 300

_TEST_ATTRIBUTES = ("data-testid", "data-test-id", "data-test", "data-cy", "data-qa")
_LANDMARK_TAGS = frozenset({"header", "nav", "main", "aside", "footer", "form", "section", "article", "dialog"})
_LANDMARK_ROLES = frozenset(
    {"banner", "navigation", "main", "complementary", "contentinfo", "form", "region", "search", "dialog", "menu"}
)
_GENERATED = re.compile(r"\d{3,}|[:.]|[0-9a-f]{8}|^(?:radix|headlessui|mui|react-select|ember|yui)", re.ASCII)
_PLAIN_CLASS = re.compile(r"[a-z][a-z_-]{2,29}", re.ASCII)
_STATE_CLASS = re.compile(
    r"(?:is|has|js|ng|v)-.*|.*(?:active|open|opened|closed|selected|disabled|enabled|hover|focus|focused|visible|hidden"
    r"|show|shown|loading|loaded|pressed|checked|expanded|collapsed|current|error|invalid|valid|dirty|touched)"
)
_SPACE = re.compile(r"\s+")
_SKIPPED_TEXT_TAGS = frozenset({"script", "style", "noscript", "textarea", "select", "template"})
_SPOKEN_ATTRIBUTES = ("aria-label", "title", "alt", "placeholder")


def describe(tree: Tree, node: int) -> Element:
    """Describe an element of the tree as the columns `element_*` do."""
    row = tree.rows[node]
    attributes = _attributes(tree, node)
    return Element(
        tag=_clean(row[TAG]),
        id=_clean(attributes.get("id", "")),
        classes=_clean(attributes.get("class", "")),
        text=text_of(tree, node),
        selector=selector_of(tree, node),
        component=component_of(tree, node),
    )


def selector_of(tree: Tree, node: int) -> str:
    """Return a CSS selector for the element."""
    parts: list[str] = []
    while node and len(parts) < MAX_LEVELS:
        tag = tree.rows[node][TAG]
        if tag in (DOCUMENT_TAG, TEXT_TAG, OTHER_TAG):
            break
        anchor = _anchor(_attributes(tree, node))
        parts.append(anchor or _step(tree, node))
        if anchor or tag in ("body", "html"):
            break
        node = tree.rows[node][PARENT]
    return clean(" > ".join(reversed(parts)), limit=MAX_SELECTOR_CHARS)


def component_of(tree: Tree, node: int) -> str:
    """Return the element's data-component, or else what its nearest named ancestor is called."""
    own = _attributes(tree, node).get("data-component")
    if own:
        return _clean(own)
    for ancestor in tree.chain(tree.rows[node][PARENT]):
        attributes, tag = _attributes(tree, ancestor), tree.rows[ancestor][TAG]
        if attributes.get("data-component"):
            return _clean(attributes["data-component"])
        if _is_chosen(attributes.get("id", "")):
            return "#" + _clean(attributes["id"])
        if tag in _LANDMARK_TAGS:
            return _clean(tag)
        if attributes.get("role") in _LANDMARK_ROLES:
            return _clean(attributes["role"])
    return ""


def text_of(tree: Tree, node: int) -> str:
    """Return the element's text in one line; what a user typed or edits is never returned."""
    attributes, tag = _attributes(tree, node), tree.rows[node][TAG]
    if "contenteditable" in attributes or tag == "textarea":
        return ""
    text = _visible_text(tree, node)
    if not text:
        text = next((attributes[name] for name in _SPOKEN_ATTRIBUTES if attributes.get(name)), "")
    if not text and tag == "input" and not is_typed_into(tag, attributes):
        text = attributes.get("value", "")
    return clean(_SPACE.sub(" ", text).strip(), limit=MAX_TEXT_CHARS).rstrip()


def _visible_text(tree: Tree, node: int) -> str:
    rows = tree.rows
    parts: list[str] = []
    room = 4 * MAX_TEXT_CHARS
    stack = [node]
    for _ in range(_MAX_VISITED):
        if not stack or room < 0:
            break
        current = stack.pop()
        row = rows[current]
        if row[NEXT] and current != node:
            stack.append(row[NEXT])
        if row[TAG] == TEXT_TAG:
            parts.append(row[DATA].partition(FINGERPRINT)[0])
            room -= len(parts[-1])
        elif row[FIRST] and row[TAG] not in _SKIPPED_TEXT_TAGS and "contenteditable" not in attributes_of(row):
            stack.append(row[FIRST])
    return _SPACE.sub(" ", " ".join(parts)).strip()


def _anchor(attributes: Mapping[str, str]) -> str:
    """Return a selector that stands for itself: a chosen id or a test attribute."""
    if _is_chosen(attributes.get("id", "")):
        return "#" + escape(attributes["id"])
    for name in _TEST_ATTRIBUTES:
        if attributes.get(name) and FINGERPRINT not in attributes[name]:
            return f'[{name}="{_quote(attributes[name])}"]'
    return ""


def _step(tree: Tree, node: int) -> str:
    tag, attributes = tree.rows[node][TAG], _attributes(tree, node)
    step = escape(tag)
    name = attributes.get("name", "")
    if name and FINGERPRINT not in name:
        return f'{step}[name="{_quote(name)}"]'
    classes = attributes.get("class", "").partition(FINGERPRINT)[0].split()
    kind = next((c for c in classes if _PLAIN_CLASS.fullmatch(c) and not _STATE_CLASS.fullmatch(c)), "")
    if kind:
        step += "." + kind
    place, alone = _place_of_type(tree, node)
    return step if alone or tag in ("body", "html") else f"{step}:nth-of-type({place})"


def _place_of_type(tree: Tree, node: int) -> tuple[int, bool]:
    """Return the 1-based place among siblings of the same tag, and whether there is no other one."""
    rows = tree.rows
    tag = rows[node][TAG]
    before, after = (
        sum(rows[sibling][TAG] == tag for sibling in _siblings(tree, node, link)) for link in (PREVIOUS, NEXT)
    )
    return before + 1, not (before or after)


def _siblings(tree: Tree, node: int, link: int) -> Iterator[int]:
    for _ in range(_MAX_SIBLINGS):
        node = tree.rows[node][link]
        if not node:
            return
        yield node


def escape(identifier: str) -> str:
    """Escape a CSS identifier, as `CSS.escape` of browsers does."""
    out = []
    for place, char in enumerate(identifier):
        leading = place == 0 or (place == 1 and identifier[0] == "-")
        if char < " " or (char in "0123456789" and leading):
            out.append(f"\\{ord(char):x} ")
        elif char.isalnum() or char > "\x7f" or char == "_" or (char == "-" and identifier != "-"):
            out.append(char)
        else:
            out.append("\\" + char)
    return "".join(out)


def _quote(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\a ")


def _is_chosen(element_id: str) -> bool:
    """Tell whether a person gave this id; generated ones change with every page."""
    return 0 < len(element_id) <= 40 and not _GENERATED.search(element_id)


def _attributes(tree: Tree, node: int) -> Mapping[str, str]:
    return attributes_of(tree.rows[node])


def _clean(text: str) -> str:
    return clean(text, limit=MAX_NAME_CHARS)
