"""What is remembered of a window's pointer between its events, and between chunks."""

from dataclasses import dataclass, field
from typing import Any

from schemas.signals import Click, decode, encode

SAME_PLACE_PX = 6
TAP_CLICK_MS = 700
"""From the finger's leaving to the click: the browser waits for a second tap."""


@dataclass(frozen=True, slots=True)
class Point:
    """A pointer event: when, on which node, where."""

    t: int
    node: int
    x: int
    y: int

    def is_near(self, other: "Point", *, px: int = SAME_PLACE_PX) -> bool:
        """Tell whether two events happened at one place."""
        return abs(self.x - other.x) + abs(self.y - other.y) <= px


@dataclass(slots=True)
class Press:
    """A pointer that went down and up and has no click yet."""

    up: Point
    until: int
    """A click up to here is its own."""
    signal: Click | None
    """None once it is sent."""
    is_certain: bool
    """No click can come: the control is disabled."""


@dataclass(slots=True)
class Pointer:
    """The pointer of one window; state that outlives a chunk."""

    down: Point | None = None
    up_at: int = 0
    """When the pointer of `down` left; 0 while it is down."""
    is_touch: bool = False
    has_menu: bool = False
    last_tap: Point | None = None
    last_click: Point | None = None
    scrolled_at: int = 0
    presses: list[Press] = field(default_factory=list)

    def is_held(self) -> bool:
        """Tell whether a button or a finger is down."""
        return self.down is not None and not self.up_at

    def is_pressed(self, t: int) -> bool:
        """Tell whether the pointer is down, or the mouse events that follow a tap may still come."""
        return self.is_held() or (self.down is not None and (self.is_touch and t - self.up_at <= TAP_CLICK_MS))

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        points = [_dump_point(p) for p in (self.down, self.last_tap, self.last_click)]
        presses = [
            [_dump_point(press.up), press.until, encode(press.signal) if press.signal else None, press.is_certain]
            for press in self.presses
        ]
        return [*points, self.up_at, self.is_touch, self.has_menu, self.scrolled_at, presses]

    @classmethod
    def load(cls, data: list[Any]) -> "Pointer":
        """Make it again."""
        down, last_tap, last_click, up_at, is_touch, has_menu, scrolled_at, presses = data
        return cls(
            down=Point(*down) if down else None,
            up_at=up_at,
            is_touch=is_touch,
            has_menu=has_menu,
            last_tap=Point(*last_tap) if last_tap else None,
            last_click=Point(*last_click) if last_click else None,
            scrolled_at=scrolled_at,
            presses=[Press(Point(*up), until, _click(signal), certain) for up, until, signal, certain in presses],
        )


def _click(data: dict[str, Any] | None) -> Click | None:
    signal = decode(data) if data is not None else None
    return signal if isinstance(signal, Click) else None


def _dump_point(point: Point | None) -> list[int] | None:
    return None if point is None else [point.t, point.node, point.x, point.y]
