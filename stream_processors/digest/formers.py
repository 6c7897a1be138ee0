"""What places of the document were when the pointer went down, so that it shows whether they really changed.

A place is as before if it holds the same text or value, or a list of the same children, or of new children that look
like the ones they replaced. What is not in the document, or too large to be compared, is never "as before".

Classes that only say how a control feels (it has the focus, the pointer is over it, it is being pressed) do not count.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from stream_processors.digest.background import Place
from stream_processors.digest.dom import DATA, FIRST, NEXT, TAG, Tree, attributes_of
from stream_processors.digest.texts import checksum

MAX_FORMERS = 16
MAX_CHILDREN = 100
"""A longer list is not compared: any change of it counts."""
MAX_FINGERPRINT_NODES = 60

UNKNOWN: Final = object()
"""What a place is that is not in the document, or too large."""

_FEEL_CLASS = re.compile(
    r"(?:[\w-]*[-_:])?(?:focus|focused|focus-?visible|focus-?within|hover|hovered|pressed|ripple[\w-]*)", re.IGNORECASE
)
_FEEL_ATTRIBUTE = re.compile(r"tabindex|data-(?:[a-z]+-)?(?:focus|hover|press)[a-z-]*")


@dataclass(slots=True)
class Former:
    """What one place was."""

    value: Any
    """An attribute's value, a text, or the ids of the children."""
    gone: dict[int, str] = field(default_factory=dict)
    """Fingerprints of the children that went since."""
    changed: int = 0
    """Since when the place differs; 0 if it does not."""


@dataclass(slots=True)
class Formers:
    """The places touched since the pointer went down; state that outlives a chunk."""

    places: dict[Place, Former] = field(default_factory=dict)

    def remember(self, tree: Tree, place: Place) -> None:
        """Keep what a place is before it changes for the first time."""
        if place not in self.places and len(self.places) < MAX_FORMERS:
            value = value_at(tree, place)
            if value is not UNKNOWN:
                self.places[place] = Former(value)

    def remember_gone(self, tree: Tree, place: Place, child: int) -> None:
        """Keep what a child looked like that is about to go."""
        former = self.places.get(place)
        if former is not None and child in former.value:
            former.gone[child] = fingerprint(tree, child)

    def is_as_before(self, tree: Tree, place: Place, former: Former) -> bool:
        """Tell whether a place is what it was."""
        now = value_at(tree, place)
        if place[1] or not isinstance(now, list):
            return bool(now == former.value)
        if len(now) != len(former.value):
            return False
        return all(
            was == child or (former.gone.get(was, "") != "" and former.gone[was] == fingerprint(tree, child))
            for was, child in zip(former.value, now, strict=True)
        )

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        return [[*place, f.value, list(f.gone.items()), f.changed] for place, f in self.places.items()]

    @classmethod
    def load(cls, data: list[Any]) -> "Formers":
        """Make it again."""
        return cls({(node, name): Former(value, dict(gone), changed) for node, name, value, gone, changed in data})


def is_feel(name: str) -> bool:
    """Tell whether an attribute only says how a control feels."""
    return _FEEL_ATTRIBUTE.fullmatch(name) is not None


def value_at(tree: Tree, place: Place) -> Any:
    """Return what a place is: a text, an attribute's value (None without it), the ids of the children, or UNKNOWN."""
    node, name = place
    row = tree.rows.get(node)
    if row is None or name.startswith("@"):
        return UNKNOWN
    if name == "#text":
        return row[DATA]
    if name:
        value = attributes_of(row).get(name)
        return _without_feel(value) if name == "class" and value else value
    children: list[int] = []
    child = row[FIRST]
    while child:
        if len(children) == MAX_CHILDREN:
            return UNKNOWN
        children.append(child)
        child = tree.rows[child][NEXT]
    return children


def fingerprint(tree: Tree, node: int) -> str:
    """Return what a subtree looks like, whatever its ids; empty if it is large."""
    rows = tree.rows
    parts: list[str] = []
    stack = [node]
    while stack:
        if len(parts) + len(stack) > MAX_FINGERPRINT_NODES:
            return ""
        row = rows[stack.pop()]
        parts.append(f"{row[TAG]}\0{row[DATA]}")
        child = row[FIRST]
        if child:
            parts.append("<")
        while child and len(stack) <= MAX_FINGERPRINT_NODES:
            stack.append(child)
            child = rows[child][NEXT]
    return checksum("\n".join(parts))


def _without_feel(classes: str) -> str | None:
    """Return the classes that say more; None if there is none, as for an element without any."""
    return " ".join(name for name in classes.split() if not _FEEL_CLASS.fullmatch(name)) or None
