"""Clicks as the rules see them: each click of the user once, whoever told of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.signals import Element
from stream_processors.analyze.detectors.click_rows import DETAILS, DUE, FLAGS, PAGE, Flag, Row, T

TWIN_MS = 50
TWIN_PX = 5
"""Nobody clicks twice within TWIN_MS. What SDK and recording tell is then one click wherever they place it (one may
count from the top of the page, the other from that of the window); what one of them tells twice (a label and its input)
is one click if it is at one place."""


@dataclass(slots=True)
class KnownClick:
    """One click of the user, put together from the rows that tell of it."""

    t: int
    x: int
    y: int
    window: int
    node: int
    flags: int
    lead: int
    due: int
    rows: list[Row]

    def has(self, flag: int) -> bool:
        """Return whether any of the flags is set."""
        return bool(self.flags & flag)

    @property
    def down(self) -> int | None:
        """Return when its pointer went down, if known."""
        return self.t - self.lead if self.lead >= 0 else None

    @property
    def placed(self) -> bool:
        """Return whether its coordinates are known."""
        return bool(self.x or self.y)

    def mark(self, flag: int) -> None:
        """Note what became of it, in its rows too."""
        self.flags |= flag
        for row in self.rows:
            row[FLAGS] |= flag

    def settle(self) -> None:
        """Note that it has been judged; only its time and place are kept."""
        self.mark(Flag.SETTLED)
        for row in self.rows:
            row[DUE], row[DETAILS] = 0, None

    @property
    def detailed(self) -> bool:
        """Return whether its element and page are known: not once it is settled."""
        return any(row[DETAILS] for row in self.rows)

    @property
    def element(self) -> Element:
        """Return the element, from the first row that knows one."""
        return next((Element(*d[:6]) for d in self._details() if any(d[:6])), Element())

    @property
    def page(self) -> int:
        """Return the page's index in the memory, from the first row that knows it."""
        return next((d[PAGE] for d in self._details() if d[PAGE]), 0)

    def _details(self) -> Iterator[list[Any]]:
        return (row[DETAILS] for row in self.rows if row[DETAILS])

    def near(self, other: "KnownClick", radius_px: int) -> bool:
        """Return whether both hit the same node, or places at most `radius_px` apart."""
        if self.node and self.node == other.node and self.window == other.window:
            return True
        if not (self.placed and other.placed):
            return False
        return (self.x - other.x) ** 2 + (self.y - other.y) ** 2 <= radius_px**2


def known_clicks(rows: Sequence[Row]) -> list[KnownClick]:
    """Put rows that tell of one click together: the recorded one is believed where they differ."""
    clicks: list[KnownClick] = []
    first: Row | None = None
    for row in rows:
        if first is not None and _twins(first, row):
            clicks[-1] = _together([*clicks[-1].rows, row])
        else:
            first = row
            t, x, y, window, node, flags, lead, due, _ = row
            clicks.append(KnownClick(t, x, y, window, node, flags, lead, due, [row]))
    return clicks


def _together(rows: list[Row]) -> KnownClick:
    rows.sort(key=lambda row: row[FLAGS] & Flag.STRUCTURED)
    t, x, y, window, node, flags, lead, _, _ = rows[0]
    for row in rows[1:]:
        flags |= row[FLAGS] & (Flag.SETTLED | Flag.RAGED | Flag.DEAD | Flag.SLOW | Flag.ERRED | Flag.FIRST)
    return KnownClick(t, x, y, window, node, flags, lead, max(row[DUE] for row in rows), rows)


def _twins(first: Row, second: Row) -> bool:
    if second[T] - first[T] > TWIN_MS:
        return False
    if (first[FLAGS] ^ second[FLAGS]) & Flag.STRUCTURED:
        return True
    unplaced = not (first[1] or first[2]) or not (second[1] or second[2])
    return unplaced or (abs(first[1] - second[1]) <= TWIN_PX and abs(first[2] - second[2]) <= TWIN_PX)
