"""The document of a window between chunks: a base and the deltas since, as bytes, decoded once it is needed.

A new base is made when the deltas outgrow four times the base (or 4 kB): measured on real recordings this writes least,
with at most 24 ms to rebuild. It happens at the end of a chunk, so it depends on the log alone.
"""

from dataclasses import dataclass, field

from stream_processors.digest import tree_codec
from stream_processors.digest.dom import Tree

MAX_DOCUMENT_BYTES = 1_000_000
"""Base and deltas of one document; 66 kB was the most in 92 real recordings. A larger one is forgotten."""
REBASE_FACTOR = 4
MIN_BASE_BYTES = 4_096


@dataclass(slots=True)
class Document:
    """A document; one without a base has been decoded and is new."""

    base: bytes = b""
    deltas: list[bytes] = field(default_factory=list)
    tree: Tree | None = None

    def decoded(self) -> Tree:
        """Return the document."""
        if self.tree is None:
            self.tree = Tree()
            for part in (self.base, *self.deltas):
                tree_codec.apply(self.tree, part)
        return self.tree

    def size(self) -> int:
        """Return the bytes it takes."""
        return len(self.base) + sum(map(len, self.deltas))

    def store(self) -> None:
        """Keep what the chunk changed."""
        tree = self.tree
        if tree is None:
            return
        if self.base:
            delta = tree_codec.encode_delta(tree)
            self.deltas += [delta] if delta else []
        if not self.base or sum(map(len, self.deltas)) > REBASE_FACTOR * max(len(self.base), MIN_BASE_BYTES):
            self.base, self.deltas = tree_codec.encode_base(tree), []
        tree.forget_changes()
