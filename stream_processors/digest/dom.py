"""The document of one window as a recording tells it, reduced to what rules and selectors need.

A tree is a map from rrweb's node id to a row `[parent, tag, data, next, previous, first, last]`. Links are ids, 0 is
none: rows hold no references to each other, so they are cheap to make, to drop and to encode (1.2 against 1.8 us a node
for linked objects, measured). `data` is the attributes of an element (None if it has none) or the text of a text node,
as far as they are kept (`kept`).

The tree also remembers what a chunk changed (`removed`, `added`, `changed`), so that the chunk's effect can be stored
as a delta (`tree_codec`). An invariant makes that simple: a node added since the last delta has only such descendants,
because taking a node away takes its descendants along, and rrweb adds them again with a node that it moves.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

from stream_processors.digest import rrweb
from stream_processors.digest.kept import TYPED_TAGS, hide_typed, kept_attributes, kept_value, restyle, short_text
from stream_processors.digest.sheets import kept_text

PARENT, TAG, DATA, NEXT, PREVIOUS, FIRST, LAST = range(7)

TEXT_TAG: Final = ""
DOCUMENT_TAG: Final = "#document"
OTHER_TAG: Final = "#"
"""Doctypes and comments: kept because siblings name them."""

MAX_NODES = 60_000
"""Nodes in a window, 15 MB in memory; the largest page seen in 92 real recordings had 9,420."""
MAX_NODE_ID = 2**31 - 1

_NO_ATTRIBUTES: Mapping[str, str] = {}

Row = list[Any]
Added = tuple[int, int, dict[str, Any]]
"""Parent, next sibling (0: none), serialised node."""


class DamagedTree(Exception):
    """The recording contradicts itself, or is larger than a window may be: the document is unknown from here on."""


def attributes_of(row: Row) -> Mapping[str, str]:
    """Return an element's attributes; none for a node that has none or is no element."""
    data = row[DATA]
    return data if data.__class__ is dict else _NO_ATTRIBUTES


class Tree:
    """One window's document; see the module. Methods raise DamagedTree and leave a tree that must be dropped then."""

    __slots__ = ("added", "changed", "removed", "root", "rows")

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.root = 0
        self.removed: list[int] = []
        self.added: set[int] = set()
        self.changed: set[int] = set()

    def load(self, node: dict[str, Any]) -> None:
        """Fill an empty tree from the document node of a full snapshot."""
        try:
            self.root = self._graft(node, 0, None)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedTree(str(error)) from error

    def forget_changes(self) -> None:
        """Begin a new delta."""
        self.removed, self.added, self.changed = [], set(), set()

    def remove(self, node_id: int) -> None:
        """Take a node and its descendants away; one that is unknown is gone already."""
        rows = self.rows
        row = rows.get(node_id)
        if row is None:
            return
        self._unlink(row)
        if node_id not in self.added:
            self.removed.append(node_id)
        stack = [node_id]
        while stack:
            gone = stack.pop()
            row = rows.pop(gone)
            self.added.discard(gone)
            self.changed.discard(gone)
            child = row[FIRST]
            while child:
                stack.append(child)
                child = rows[child][NEXT]

    def add_all(self, adds: list[Added]) -> None:
        """Put nodes in.

        One whose parent or next sibling comes later in the list waits for it; without its sibling it goes to the end,
        without its parent it is left out (the recorder lost it).
        """
        rows = self.rows
        waiting: dict[int, list[Added]] = {}
        ready = list(reversed(adds))
        while ready:
            parent_id, next_id, node = ready.pop()
            missing = parent_id if parent_id not in rows else next_id if next_id and next_id not in rows else 0
            if missing:
                waiting.setdefault(missing, []).append((parent_id, next_id, node))
                continue
            added = self._add(parent_id, next_id, node)
            if waiting and added in waiting:
                ready.extend(reversed(waiting.pop(added)))
        for left in waiting.values():
            for parent_id, _, node in left:
                if parent_id in rows:
                    self._add(parent_id, 0, node)

    def set_text(self, node_id: int, value: str) -> None:
        """Replace the text of a text node."""
        row = self.rows.get(node_id)
        if row is not None and row[TAG] == TEXT_TAG:
            row[DATA] = short_text(value)
            self._touch(node_id)

    def set_attributes(self, node_id: int, values: dict[str, Any]) -> None:
        """Set attributes; None removes one, an object under `style` changes single properties."""
        row = self.rows.get(node_id)
        if row is None or row[TAG] in (TEXT_TAG, OTHER_TAG, DOCUMENT_TAG):
            return
        attributes: dict[str, str] = row[DATA] if row[DATA] is not None else {}
        for name, value in values.items():
            kept = restyle(attributes.get(name, ""), value) if isinstance(value, dict) else kept_value(name, value)
            if kept is None:
                attributes.pop(name, None)
            else:
                attributes[name] = kept
        if row[TAG] in TYPED_TAGS:
            hide_typed(row[TAG], attributes)
        row[DATA] = attributes or None
        self._touch(node_id)

    def children(self, node_id: int, *, limit: int) -> list[int]:
        """Return the ids of the first children in order; a node may have as many as a window has nodes."""
        rows = self.rows
        out: list[int] = []
        child = rows[node_id][FIRST]
        while child and len(out) < limit:
            out.append(child)
            child = rows[child][NEXT]
        return out

    def chain(self, node_id: int, *, limit: int = 200) -> list[int]:
        """Return the node and its ancestors, nearest first; empty for an unknown node."""
        out: list[int] = []
        row = self.rows.get(node_id)
        while row is not None and len(out) < limit:
            out.append(node_id)
            node_id = row[PARENT]
            row = self.rows.get(node_id)
        return out

    def insert(self, node_id: int, row: Row, previous: int) -> None:
        """Link a row in behind a sibling of the same parent; `previous` 0 makes it the first child."""
        rows = self.rows
        parent = rows[row[PARENT]]
        after = rows[previous][NEXT] if previous else parent[FIRST]
        row[PREVIOUS], row[NEXT] = previous, after
        if previous:
            rows[previous][NEXT] = node_id
        else:
            parent[FIRST] = node_id
        if after:
            rows[after][PREVIOUS] = node_id
        else:
            parent[LAST] = node_id
        rows[node_id] = row

    def _touch(self, node_id: int) -> None:
        if node_id not in self.added:
            self.changed.add(node_id)

    def _unlink(self, row: Row) -> None:
        rows = self.rows
        parent = rows.get(row[PARENT])
        if row[PREVIOUS]:
            rows[row[PREVIOUS]][NEXT] = row[NEXT]
        elif parent is not None:
            parent[FIRST] = row[NEXT]
        if row[NEXT]:
            rows[row[NEXT]][PREVIOUS] = row[PREVIOUS]
        elif parent is not None:
            parent[LAST] = row[PREVIOUS]

    def _add(self, parent_id: int, next_id: int, node: dict[str, Any]) -> int:
        try:
            node_id: int = node["id"]
            if node_id in self.rows:
                self.remove(node_id)
                if parent_id not in self.rows:
                    raise DamagedTree(f"node {node_id} is put into itself")
            self._graft(node, parent_id, self.added)
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedTree(str(error)) from error
        before = self.rows.get(next_id)
        beside = before is not None and before[PARENT] == parent_id
        previous = before[PREVIOUS] if before is not None and beside else self.rows[parent_id][LAST]
        self.insert(node_id, self.rows[node_id], previous)
        return node_id

    def _graft(self, node: dict[str, Any], parent_id: int, added: set[int] | None) -> int:
        """Make the rows of a serialised node and of all below it, in one walk; the top row is not yet linked."""
        rows = self.rows
        top: int = node["id"]
        _check_id(top, rows)
        rows[top] = [parent_id, *_tag_and_data(node), 0, 0, 0, 0]
        if added is not None:
            added.add(top)
        stack = [node] if node.get("childNodes") else []
        while stack:
            parent = stack.pop()
            parent_id = parent["id"]
            previous = 0
            row: Row = []
            for child in parent["childNodes"]:
                node_id = child["id"]
                if node_id in rows or node_id.__class__ is not int or not 0 < node_id <= MAX_NODE_ID:
                    _check_id(node_id, rows)
                tag, data = _tag_and_data(child)
                if previous:
                    row[NEXT] = node_id
                else:
                    rows[parent_id][FIRST] = node_id
                rows[node_id] = row = [parent_id, tag, data, 0, previous, 0, 0]
                previous = node_id
                if tag and child.get("childNodes"):
                    stack.append(child)
                if added is not None:
                    added.add(node_id)
            rows[parent_id][LAST] = previous
            if len(rows) > MAX_NODES:
                raise DamagedTree(f"more than {MAX_NODES} nodes")
        return top


def _check_id(node_id: Any, rows: dict[int, Row]) -> None:
    if node_id in rows or node_id.__class__ is not int or not 0 < node_id <= MAX_NODE_ID:
        raise DamagedTree(f"node {node_id!r} occurs twice or is no id")


def _tag_and_data(node: dict[str, Any]) -> tuple[str, Any]:
    kind = node["type"]
    if kind == rrweb.TEXT:
        content = node["textContent"]
        return TEXT_TAG, kept_text(content) if node.get("isStyle") and content.__class__ is str else short_text(content)
    if kind == rrweb.ELEMENT:
        tag = sys.intern(node["tagName"])
        if not tag:
            raise DamagedTree("an element without a tag")
        return tag, kept_attributes(tag, node["attributes"]) or None
    return (DOCUMENT_TAG, None) if kind == rrweb.DOCUMENT else (OTHER_TAG, None)
