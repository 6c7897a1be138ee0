"""The focus of a window: where it is, what its coming and going shows, and when it leaves the page.

- A control that is pressed takes the focus: that is no answer. Focus that moves elsewhere is (`answers`).
- Where a style sheet reveals something at a *holder* (`sheets`) as the focus comes into it, its coming and its going
  are changes of the holder. Focus that moves within a holder goes and comes at one moment: the change is taken back.
- On a touch screen a tap does the same for what is shown under the pointer: the holders around the tap are entered,
  those around the last one left.
- Focus that goes although nothing was pressed went to something else: another window, a dialog of the system, a file
  picker. The browser says no more than that, but it is no silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.signals import ChangeKind, Signal
from stream_processors.digest import sheets
from stream_processors.digest.answers import Answers
from stream_processors.digest.background import Background
from stream_processors.digest.dom import DATA, FIRST, TAG, Tree, attributes_of
from stream_processors.digest.sheets import FOCUS, FOCUS_WITHIN, HOVER, Holder, read_holders

FOCUS_PLACE, HOVER_PLACE = "@focus", "@hover"
SAME_MOVE_MS = 50
"""From blur to focus when the focus moves: one task, but 23 ms were seen on a busy machine."""
MAX_LOOKS = 300
"""Looks through a document for its sheets, in one chunk: a person makes some, a script could make thousands."""


@dataclass(slots=True)
class Focus:
    """The focus of one window; state that outlives a chunk."""

    left: int = 0
    """The node that lost it last, and when."""
    left_at: int = 0
    hovered: list[int] = field(default_factory=list)
    """The holders under the last tap."""
    looks: int = 0

    def on_page(self) -> None:
        """Begin anew with a new page."""
        self.left, self.left_at, self.hovered = 0, 0, []

    def on_focus(
        self, t: int, node: int, *, tree: Tree | None, answers: Answers, background: Background, out: list[Signal]
    ) -> None:
        """Take in that a node has got the focus."""
        answers.note_focus(t, node, background, out)
        if tree is None or not answers.is_open(t):
            return
        entered = self._holders_around(tree, node)
        was = self._holders_around(tree, self.left) if entered and t - self.left_at <= SAME_MOVE_MS else []
        for holder in entered:
            if holder in was:
                answers.take_back(t, (holder, FOCUS_PLACE), since=self.left_at, out=out)
            else:
                answers.report(t, ChangeKind.DOM, (holder, FOCUS_PLACE), background, out)

    def on_blur(
        self,
        t: int,
        node: int,
        *,
        is_pressed: bool,
        tree: Tree | None,
        answers: Answers,
        background: Background,
        out: list[Signal],
    ) -> None:
        """Take in that a node has lost the focus; `is_pressed` if a pointer is down, which would explain it."""
        self.left, self.left_at = node, t
        if not answers.is_open(t):
            return
        if not is_pressed:
            answers.report(t, ChangeKind.VISIBILITY, (0, ""), background, out)
        if tree is not None:
            for holder in self._holders_around(tree, node):
                answers.report(t, ChangeKind.DOM, (holder, FOCUS_PLACE), background, out)

    def on_tap(
        self, t: int, node: int, *, tree: Tree, answers: Answers, background: Background, out: list[Signal]
    ) -> None:
        """Take in that a finger has tapped a node: the pointer is there now."""
        before, self.hovered = self.hovered, self._find(tree, tree.chain(node), (HOVER,))
        for holder in sorted(set(before) ^ set(self.hovered)):
            answers.report(t, ChangeKind.DOM, (holder, HOVER_PLACE), background, out)

    def end_chunk(self) -> None:
        """Begin to count anew."""
        self.looks = 0

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        return [self.left, self.left_at, self.hovered]

    @classmethod
    def load(cls, data: list[Any]) -> "Focus":
        """Make it again."""
        return cls(*data)

    def _holders_around(self, tree: Tree, node: int) -> list[int]:
        return self._find(tree, tree.chain(node), (FOCUS_WITHIN, FOCUS)) if node else []

    def _find(self, tree: Tree, chain: Sequence[int], kinds: Sequence[str]) -> list[int]:
        """Return the nodes of a chain that hold something; what only shows with the focus itself, at the first only."""
        self.looks += 1
        holders = [h for h in holders_of(tree) if h.kind in kinds] if chain and self.looks <= MAX_LOOKS else []
        if not holders:
            return []
        found = []
        for node in chain:
            row = tree.rows[node]
            attributes = attributes_of(row)
            if any((h.kind != FOCUS or node == chain[0]) and h.matches(row[TAG], attributes) for h in holders):
                found.append(node)
        return found


def holders_of(tree: Tree) -> list[Holder]:
    """Return what the sheets of a document hold."""
    rows = tree.rows
    found: list[Holder] = []
    for row in rows.values():
        if row[TAG] in sheets.TAGS:
            text = rows[row[FIRST]] if row[FIRST] else row
            kept = attributes_of(row).get(sheets.TEXT_ATTRIBUTE) or (
                sheets.of_text(text[DATA]) if not text[TAG] else ""
            )
            found += read_holders(kept)
    return found
