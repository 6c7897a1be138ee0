"""Places of a page that change by themselves: tickers, clocks, carousels. What happens there answers nobody.

A place is learned when it changed at two or more idle moments of this page, spread over a while: nobody had pressed,
typed or scrolled for 2.6 s, which is longer than a click waits for its answer. It counts from the second moment on,
never backwards, so a verdict does not depend on what comes later. A few slow answers that arrive one after the other
are no ticker: they come within a moment, so the first and the last must lie apart.
"""

from dataclasses import dataclass, field
from typing import Any

IDLE_MS = 2_600
SETTLING_MS = 800
"""A page that has just loaded still builds itself."""
SAME_MOMENT_MS = 60
MIN_MOMENTS = 2
MIN_SPAN_MS = 1_500
MAX_PLACES = 256
"""Learned places of a page; the oldest is forgotten first."""

Place = tuple[int, str]
"""A node id, and what of it: an attribute's name, `#text`, empty for its list of children, or `@` and another kind."""


@dataclass(slots=True)
class Background:
    """What is known of the current page of a window."""

    page_start: int = 0
    last_input: int = 0
    places: dict[Place, list[int]] = field(default_factory=dict)
    """Number of idle moments, first and last of them."""

    def start_page(self, t: int) -> None:
        """Forget everything: node ids begin anew."""
        self.page_start, self.places = t, {}

    def is_idle(self, t: int) -> bool:
        """Tell whether a change now would be the page's own doing."""
        if t - self.page_start < SETTLING_MS:
            return False
        return self.last_input <= self.page_start or t - self.last_input >= IDLE_MS

    def learn(self, place: Place, t: int) -> None:
        """Note that the place changed in an idle moment."""
        known = self.places.get(place)
        if known is None:
            if len(self.places) >= MAX_PLACES:
                del self.places[next(iter(self.places))]
            self.places[place] = [1, t, t]
        elif t - known[2] > SAME_MOMENT_MS:
            known[0] += 1
            known[2] = t

    def __contains__(self, place: Place) -> bool:
        known = self.places.get(place)
        return known is not None and known[0] >= MIN_MOMENTS and known[2] - known[1] >= MIN_SPAN_MS

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        places = [[*place, *known] for place, known in self.places.items()]
        return [self.page_start, self.last_input, places]

    @classmethod
    def load(cls, data: list[Any]) -> "Background":
        """Make it again."""
        page_start, last_input, places = data
        return cls(page_start, last_input, {(node, what): known for node, what, *known in places})
