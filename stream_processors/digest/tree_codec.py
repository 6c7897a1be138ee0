"""The document of a window as bytes: a base, and deltas that follow it.

A delta says what a tree has become since the last one: which nodes went, which came (as runs of neighbours with all
their descendants), which old ones have other data. The base is the delta from nothing, so there is one format:

    [removed, runs, ids, depths, tag_table, tags, counts, name_table, names, values]

- removed: ids of the topmost nodes that went;
- runs: parent, previous sibling (0: the first child) and number of nodes of each run, flat;
- ids, depths: the nodes in pre-order, ids as differences to the last, depth 0 for the tops of a run; the old nodes
  with other data follow, without depth;
- tags, as places in their table; counts: how many attributes each element has; names of all attributes, as places in
  their table; values of all attributes and all texts, in order.

Columns as JSON under zstd: 3.6 bytes and 1 us a node on pages of 4,000 nodes. A table of values too took 15 % more
space and twice the time: zstd finds what repeats by itself. Columns are filled and read by C loops, which is what
makes it fast.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from operator import sub
from typing import Any

from stream_processors.digest.dom import DATA, FIRST, LAST, NEXT, PARENT, PREVIOUS, TAG, TEXT_TAG, Row, Tree
from stream_processors.digest.packing import pack, unpack


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
    columns = unpack(data)
    removed, runs, ids, depths, tag_table, tags, counts, name_table, names, values = columns
    for node in removed:
        tree.remove(node)
    tag_of, name_of = map(tag_table.__getitem__, tags), map(name_table.__getitem__, names)
    nodes = zip(accumulate(ids), _rows(tag_of, counts, name_of, iter(values)), strict=True)
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
    """Collects the columns of one delta; tags and names as the strings themselves until `pack`."""

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
        rows, ids, depths, tags = tree.rows, self.ids, self.depths, self.tags
        counts, names, values = self.counts, self.names, self.values
        before = len(depths)
        node, depth = top, 0
        while True:
            row = rows[node]
            _, tag, data, after, _, child, _ = row
            ids.append(node)
            depths.append(depth)
            tags.append(tag)
            if not tag:
                values.append(data)
            elif data is None:
                counts.append(0)
            else:
                counts.append(len(data))
                names += data
                values += data.values()
            if child:
                node = child
                depth += 1
                continue
            while not after and node != top:
                node = row[PARENT]
                depth -= 1
                row = rows[node]
                after = row[NEXT]
            if node == top:
                return len(depths) - before
            node = after

    def add_data(self, row: Row) -> None:
        """Add the data of one old node."""
        tag, data = row[TAG], row[DATA]
        self.tags.append(tag)
        if tag == TEXT_TAG:
            self.values.append(data)
        else:
            self.counts.append(len(data or ()))
            self.names += data or ()
            self.values += (data or {}).values()

    def pack(self, removed: list[int]) -> bytes:
        """Return the bytes."""
        tag_table, tags = _tabulate(self.tags)
        name_table, names = _tabulate(self.names)
        ids = [*self.ids[:1], *map(sub, self.ids[1:], self.ids)]
        columns = [
            removed,
            self.runs,
            ids,
            self.depths,
            tag_table,
            tags,
            self.counts,
            name_table,
            names,
            self.values,
        ]
        return pack(columns)


def _tabulate(column: list[str]) -> tuple[list[str], list[int]]:
    """Return each string once, and the column as places among them."""
    table = list(dict.fromkeys(column))
    place = dict(zip(table, range(len(table)), strict=True))
    return table, list(map(place.__getitem__, column))
