"""Where the cursor turns back, if it does so again and again: somebody shakes the mouse.

A *turn* is where a movement along one axis ends and goes back, with at least 30 px on both sides, so a trembling hand
makes none. Nor does a cursor that rests for longer than 2 s before it goes back: a turn is told only then, and would
come too late. Recorders sample the cursor each 50 ms, which shows up to ten turns a second. A cursor turns all day
long, so turns are held back until four have come within 2 s on one axis; then these are sent, and those that follow.

Not followed: a cursor whose button is down (a slider, a drawing, a selection) or that is over a canvas or a film
(games, maps, scrubbing), and fingers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from schemas.signals import CursorTurn, Signal
from stream_processors.digest.dom import TAG, Tree

MIN_LEG_PX = 30
WITHIN_MS = 2_000
HELD_BACK = 4
MAX_POSITIONS = 2_000
"""Positions read of one event; a recorder sends ten."""
_DRAWN_TAGS = frozenset({"canvas", "video"})
_AXES = ("x", "y")


@dataclass(slots=True)
class Leg:
    """A movement along one axis; state that outlives a chunk."""

    direction: int = 0
    """1, -1, or 0 before the first movement."""
    extreme: int | None = None
    """The farthest place in this direction, and when the cursor was there."""
    at: int = 0
    x: int = 0
    y: int = 0
    turns: list[list[int]] = field(default_factory=list)
    """Time and place of turns that are held back, or the last one that was sent."""
    is_sending: bool = False

    def move(self, t: int, place: int, x: int, y: int) -> bool:
        """Follow the cursor to a place; return whether it has turned back."""
        if self.extreme is None or t - self.at > WITHIN_MS:
            self.direction, self.extreme, self.at, self.x, self.y = 0, place, t, x, y
            return False
        gone = place - self.extreme
        if not self.direction:
            if abs(gone) < MIN_LEG_PX:
                return False
            self.direction = 1 if gone > 0 else -1
        has_turned = gone * self.direction <= -MIN_LEG_PX
        if has_turned:
            self.turns.append([self.at, self.x, self.y])
            self.direction = -self.direction
        if has_turned or gone * self.direction > 0:
            self.extreme, self.at, self.x, self.y = place, t, x, y
        return has_turned

    def ready(self) -> list[list[int]]:
        """Return the turns that are to be sent now, the latest one included."""
        *before, last = self.turns
        if self.is_sending and before and last[0] - before[-1][0] <= WITHIN_MS:
            self.turns = [last]
            return [last]
        self.is_sending = False
        self.turns = [turn for turn in self.turns if last[0] - turn[0] <= WITHIN_MS]
        if len(self.turns) < HELD_BACK:
            return []
        ready, self.turns, self.is_sending = self.turns, [last], True
        return ready


@dataclass(slots=True)
class Cursor:
    """The cursor of one window; state that outlives a chunk."""

    legs: list[Leg] = field(default_factory=lambda: [Leg(), Leg()])

    def stop(self) -> None:
        """Begin anew: a button is down, or another page is shown."""
        self.legs = [Leg(), Leg()]

    def on_moves(
        self, t: int, positions: Any, *, tree: Tree | None, page_url: str, window: str, out: list[Signal]
    ) -> None:
        """Take in the positions of one event, in order, each with its time before the event's."""
        for at, x, y, node in _read(t, positions):
            row = tree.rows.get(node) if tree is not None else None
            if row is not None and row[TAG] in _DRAWN_TAGS:
                self.stop()
                continue
            for axis, leg, place in zip(_AXES, self.legs, (x, y), strict=True):
                if leg.move(at, place, x, y):
                    out += [
                        CursorTurn(turned, axis=axis, x=its_x, y=its_y, page_url=page_url, window=window)
                        for turned, its_x, its_y in leg.ready()
                    ]

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        return [[getattr(leg, name) for name in Leg.__slots__] for leg in self.legs]

    @classmethod
    def load(cls, data: list[Any]) -> "Cursor":
        """Make it again."""
        return cls([Leg(*leg) for leg in data])


def _read(t: int, positions: Any) -> Iterable[tuple[int, int, int, int]]:
    for position in positions[:MAX_POSITIONS] if isinstance(positions, list) else ():
        if not isinstance(position, dict):
            continue
        get = position.get
        offset, x, y, node = get("timeOffset"), get("x"), get("y"), get("id")
        if _is_place(x) and _is_place(y) and _is_place(offset) and _is_place(node):
            yield t + min(int(offset), 0), int(x), int(y), int(node)


def _is_place(number: Any) -> TypeGuard[float]:
    return isinstance(number, int | float) and -(2**31) < number < 2**31
