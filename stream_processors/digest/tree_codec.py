"""The document of a window as bytes: a base, and deltas that follow it.

A delta says what a tree has become since the last one: which nodes went, which came (as runs of neighbours with all
their descendants), which old ones have other data. The base is the delta from nothing, so there is one format:

    [strings, removed, runs, ids, depths, tags, counts, names, values]

- strings: each tag, attribute name, value and text once; everything else refers to it by index;
- removed: ids of the topmost nodes that went;
- runs: parent, previous sibling (0: the first child) and number of nodes of each run, flat;
- ids, depths: the nodes in pre-order, ids as differences to the last, depth 0 for the tops of a run; the old nodes
  with other data follow, without depth;
- tags; counts: how many attributes each element has; names of all attributes; their values, and each text.

Columns of small numbers as JSON under zstd: 4.2 bytes a node on pages of 4,000 nodes. Byte planes took 7 % less and
more time, zlib as much space and twice the time; columns are filled and read by C loops, which is what makes it fast.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from operator import sub
from typing import Any

import orjson
import zstandard

from stream_processors.digest.dom import DATA, FIRST, LAST, NEXT, PARENT, PREVIOUS, TAG, TEXT_TAG, Row, Tree

_LEVEL = 3


def encode_base(tree: Tree) -> bytes:
    """Encode the whole tree."""
    columns = _Columns()
    if tree.root:
        columns.runs += [0, 0, columns.add_subtree(tree, tree.root)]
    return columns.pack([])


def encode_delta(tree: Tree) -> bytes:
    """Encode what changed since `forget_changes`; empty if nothing did."""
    if not (tree.removed or tree.added or tree.changed):
        return b""
    columns = _Columns()
    for start in sorted(node for node in tree.added if _begins_run(tree, node)):
        row = tree.rows[start]
        count, node = 0, start
        while node and node in tree.added:
            count += columns.add_subtree(tree, node)
            node = tree.rows[node][NEXT]
        columns.runs += [row[PARENT], row[PREVIOUS], count]
    for node in sorted(tree.changed):
        columns.ids.append(node)
        columns.add_data(tree.rows[node])
    return columns.pack(tree.removed)


def apply(tree: Tree, data: bytes) -> None:
    """Bring a tree to the state after the delta (or, if it is empty, to the base)."""
    strings, removed, runs, ids, depths, tags, counts, names, values = orjson.loads(zstandard.decompress(data))
    for node in removed:
        tree.remove(node)
    lookup = strings.__getitem__
    nodes = zip(accumulate(ids), _rows(map(lookup, tags), counts, map(lookup, names), map(lookup, values)), strict=True)
    depth = iter(depths)
    for parent, previous, count in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        _insert_run(tree, parent, previous, zip(islice(depth, count), nodes, strict=False))
    for node, row in nodes:
        tree.rows[node][DATA] = row[DATA]
    tree.forget_changes()


def _insert_run(tree: Tree, parent: int, previous: int, nodes: Iterator[tuple[int, tuple[int, Row]]]) -> None:
    rows = tree.rows
    path = [parent]
    for depth, (node, row) in nodes:
        del path[depth + 1 :]
        path.append(node)
        if depth:
            row[PARENT] = path[depth]
            above = rows[path[depth]]
            row[PREVIOUS] = last = above[LAST]
            if last:
                rows[last][NEXT] = node
            else:
                above[FIRST] = node
            above[LAST] = node
            rows[node] = row
        elif parent:
            row[PARENT] = parent
            tree.insert(node, row, previous)
            previous = node
        else:
            rows[node], tree.root = row, node


def _rows(tags: Iterator[str], counts: Sequence[int], names: Iterator[str], values: Iterator[str]) -> Iterator[Row]:
    """Make the nodes' rows, not yet linked."""
    attribute_counts = iter(counts)
    for tag in tags:
        data: Any
        if tag == TEXT_TAG:
            data = next(values)
        else:
            count = next(attribute_counts)
            data = dict(zip(islice(names, count), values, strict=False)) if count else None
        yield [0, tag, data, 0, 0, 0, 0]


def _begins_run(tree: Tree, node: int) -> bool:
    row = tree.rows[node]
    return row[PARENT] not in tree.added and row[PREVIOUS] not in tree.added


class _Columns:
    """Collects the columns of one delta; tags, names and values as the strings themselves until `pack`."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.ids: list[int] = []
        self.depths: list[int] = []
        self.tags: list[str] = []
        self.counts: list[int] = []
        self.names: list[str] = []
        self.values: list[str] = []

    def add_subtree(self, tree: Tree, top: int) -> int:
        """Add a node and its descendants in pre-order; return how many."""
        rows, ids, depths, add_data = tree.rows, self.ids, self.depths, self.add_data
        before = len(depths)
        node, depth = top, 0
        while True:
            row = rows[node]
            ids.append(node)
            depths.append(depth)
            add_data(row)
            if row[FIRST]:
                node, depth = row[FIRST], depth + 1
                continue
            while node != top and not row[NEXT]:
                node, depth = row[PARENT], depth - 1
                row = rows[node]
            if node == top:
                return len(depths) - before
            node = row[NEXT]

    def add_data(self, row: Row) -> None:
        """Add a node's own data."""
        tag, data = row[TAG], row[DATA]
        self.tags.append(tag)
        if tag == TEXT_TAG:
            self.values.append(data)
        elif data is None:
            self.counts.append(0)
        else:
            self.counts.append(len(data))
            self.names.extend(data)
            self.values.extend(data.values())

    def pack(self, removed: list[int]) -> bytes:
        """Return the bytes."""
        index = {text: i for i, text in enumerate(dict.fromkeys((*self.tags, *self.names, *self.values)))}
        tags, names, values = (list(map(index.__getitem__, column)) for column in (self.tags, self.names, self.values))
        ids = [*self.ids[:1], *map(sub, self.ids[1:], self.ids)]
        columns = [list(index), removed, self.runs, ids, self.depths, tags, self.counts, names, values]
        return zstandard.compress(orjson.dumps(columns), _LEVEL)
