"""Places of a page that change by themselves: tickers, clocks, carousels. What happens there answers nobody.

A place is known for its own changes in two ways:

- it changed *while idle*: at two or more moments of this page, spread over a while, at which nobody had pressed, typed
  or scrolled for 2.6 s, which is longer than a click waits for its answer. A few slow answers that arrive one after the
  other are no ticker: they come within a moment, so the first and the last must lie apart;
- it changes *to a beat*: three times running after the same pause. That is a timer, whatever the user does meanwhile.
  What comes right after an input is not counted, so a person who presses evenly is none.

Two changes there are an answer all the same:

- one *between the beats* of a place that keeps one: a headline put into a feed that else grows each two seconds. On a
  busy machine a timer comes late, so it is between only if its beat has come already, and some time ago;
- a *prompt* one: it comes so soon after an input that hardly any of the places that change by themselves would, by
  their usual pauses, have changed just then (one time in twenty). So "next" on a carousel that turns each 5 s is
  answered, while on a page where prices change each 400 ms nothing can be told.

Both need what was seen before and nothing later, so a verdict never depends on what is still to come.

An element that scrolls by itself (a marquee, for 8 s without a pause; a carousel, to a beat) is no input of a user.
"""

from dataclasses import dataclass, field
from typing import Any

IDLE_MS = 2_600
SETTLING_MS = 800
"""A page that has just loaded still builds itself."""
SAME_MOMENT_MS = 60
MIN_MOMENTS = 2
MIN_SPAN_MS = 1_500

BEATS = 3
"""Equal pauses in a row that make a beat."""
MIN_BEAT_MS = 400
"""Faster timers are lost in their own jitter."""
JITTER_MS = 60
JITTER_SHARE = 0.01
"""How far equal pauses differ: by some frames on a busy machine, and by what the timer does itself."""
MAX_MISSED_BEATS = 4
"""A timer may change nothing for some turns, or stand still in a dialog."""
MIN_BETWEEN_BEAT_MS = 1_000
BETWEEN_SHARE = 0.25
"""What is between beats comes so much of a pause after the last one; timers were seen 370 ms late under load."""
AFTER_INPUT_MS = 300
"""What comes so soon after an input tells nothing of a beat, unless only that one was lacking."""

PROMPT_SHARE = 0.05
MAX_PROMPT_MS = 1_000

SCROLL_PAUSE_MS = 400
"""rrweb tells of a scroll each 100 ms."""
MAX_SCROLL_MS = 8_000
"""Nobody scrolls for so long without a pause."""
MAX_SCROLLED = 16

MAX_PLACES = 256
"""Known places of a page; the one that has not changed for longest is forgotten first."""

Place = tuple[int, str]
"""A node id, and what of it: an attribute's name, `#text`, empty for its list of children, or `@` and another kind."""


@dataclass(slots=True)
class Habit:
    """How one place changes by itself."""

    moments: int = 0
    """Idle ones."""
    first: int = 0
    last: int = 0
    pauses: int = 0
    """Number of pauses between idle moments, without an input in between, and their sum in ms."""
    paused_ms: int = 0
    beat_at: int = 0
    beat_ms: int = 0
    beats: int = 0
    """When the last beat was due, the pause between beats, and how many there were in a row."""
    changed: int = 0
    """When the place last changed."""
    between: int = 0
    """When it last changed between two beats, if that was since the last one."""

    def is_idle_known(self) -> bool:
        """Tell whether it was seen to change while nobody did anything."""
        return self.moments >= MIN_MOMENTS and self.last - self.first >= MIN_SPAN_MS

    def turns(self, t: int) -> int:
        """Return how many pauses after the last beat a change is: each turn lasts until the next beat may come."""
        return int((t - self.beat_at + self.jitter()) // self.beat_ms) if self.beat_ms >= MIN_BEAT_MS else 0

    def is_equal(self, t: int, turns: int) -> bool:
        """Tell whether a change comes when the beat is due."""
        return 1 <= turns <= MAX_MISSED_BEATS and t - self.beat_at - turns * self.beat_ms <= self.jitter()

    def jitter(self) -> float:
        """Return how far a beat may be from when it is due."""
        return max(JITTER_MS, JITTER_SHARE * self.beat_ms)

    def pause_ms(self) -> float:
        """Return the usual pause between changes that the place makes by itself; 0 if unknown."""
        if self.beats >= BEATS:
            return self.beat_ms
        return self.paused_ms / self.pauses if self.pauses and self.is_idle_known() else 0


@dataclass(slots=True)
class Background:
    """What is known of the current page of a window."""

    page_start: int = 0
    last_input: int = 0
    places: dict[Place, Habit] = field(default_factory=dict)
    scrolled: dict[int, list[int]] = field(default_factory=dict)
    """Start and last event of each element's latest scrolling, and whether it began on a beat."""

    def start_page(self, t: int) -> None:
        """Forget everything: node ids begin anew."""
        self.page_start, self.places, self.scrolled = t, {}, {}

    def is_idle(self, t: int) -> bool:
        """Tell whether a change now would be the page's own doing."""
        if t - self.page_start < SETTLING_MS:
            return False
        return self.last_input <= self.page_start or t - self.last_input >= IDLE_MS

    def see(self, place: Place, t: int) -> None:
        """Note that the place changed."""
        if t - self.page_start < SETTLING_MS:
            return
        places = self.places
        habit = places.pop(place, None)
        if habit is None:
            if len(places) >= MAX_PLACES:
                del places[next(iter(places))]
            habit = Habit()
        places[place] = habit
        if self.is_idle(t):
            self._see_idle(habit, t)
        self._see_beat(habit, t)

    def is_own(self, place: Place, t: int) -> bool:
        """Tell whether a change of the place, already seen, is the page's own doing."""
        habit = self.places.get(place)
        if habit is None:
            return False
        if habit.beats >= BEATS:
            if t - habit.between <= SAME_MOMENT_MS:
                return False
            return t - habit.beat_at <= SAME_MOMENT_MS or not self._is_prompt(habit, t)
        return habit.is_idle_known() and not self._is_prompt(habit, t)

    def is_new(self, place: Place, t: int) -> bool:
        """Tell whether a change of the place, already seen, is its first since the page had settled."""
        habit = self.places.get(place)
        return habit is None or (t - habit.beat_at <= SAME_MOMENT_MS and not habit.beat_ms)

    def scroll(self, node: int, t: int) -> bool:
        """Note a scroll; return whether the element scrolls by itself, so that it is no input."""
        run = self.scrolled.pop(node, None)
        if run is None or t - run[1] > SCROLL_PAUSE_MS:
            self.see((node, "@scroll"), t)
            run = [t, t, int(self.is_own((node, "@scroll"), t))]
        elif len(self.scrolled) >= MAX_SCROLLED:
            del self.scrolled[next(iter(self.scrolled))]
        run[1] = t
        self.scrolled[node] = run
        is_own = bool(run[2]) or t - run[0] >= MAX_SCROLL_MS
        if not is_own:
            self.last_input = t
        return is_own

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        places = [[*place, *(getattr(habit, name) for name in Habit.__slots__)] for place, habit in self.places.items()]
        return [self.page_start, self.last_input, places, list(self.scrolled.items())]

    @classmethod
    def load(cls, data: list[Any]) -> "Background":
        """Make it again."""
        page_start, last_input, places, *rest = data  # format 1 knew no scrolling, and three numbers of a habit
        habits = {(node, what): Habit(*habit) for node, what, *habit in places}
        return cls(page_start, last_input, habits, dict(*rest))

    def _is_prompt(self, habit: Habit, t: int) -> bool:
        after_ms, pause_ms = t - self.last_input, habit.pause_ms()
        if not 0 <= after_ms <= min(PROMPT_SHARE * pause_ms, MAX_PROMPT_MS):
            return False
        pauses = (other.pause_ms() for other in self.places.values())
        return after_ms * sum(1 / pause for pause in pauses if pause) <= PROMPT_SHARE

    def _see_idle(self, habit: Habit, t: int) -> None:
        if not habit.moments:
            habit.moments, habit.first, habit.last = 1, t, t
        elif t - habit.last > SAME_MOMENT_MS:
            if self.last_input < habit.last:
                habit.pauses += 1
                habit.paused_ms += t - habit.last
            habit.moments += 1
            habit.last = t

    def _see_beat(self, habit: Habit, t: int) -> None:
        last, habit.changed = habit.changed, t
        if not habit.beat_at:
            habit.beat_at = t
        if t - last <= SAME_MOMENT_MS or not last:
            return
        turns, is_input = habit.turns(t), t - self.last_input <= AFTER_INPUT_MS
        if habit.beats < BEATS:
            is_equal = habit.is_equal(t, turns)
            if is_input and not (is_equal and habit.beats == BEATS - 1):
                return
            if is_equal:
                habit.beats += 1
            else:
                habit.beat_ms, habit.beats = t - habit.beat_at, 1
            habit.beat_at = t
        elif 1 <= turns <= MAX_MISSED_BEATS:
            habit.beat_at = t if habit.is_equal(t, turns) else habit.beat_at + turns * habit.beat_ms
            habit.between = 0
        elif (
            not turns and habit.beat_ms >= MIN_BETWEEN_BEAT_MS and (t - habit.beat_at >= BETWEEN_SHARE * habit.beat_ms)
        ):
            if habit.between and not is_input:
                habit.beat_at, habit.beat_ms, habit.beats, habit.between = t, 0, 0, 0
            else:
                habit.between = t
        elif turns:
            habit.beat_at, habit.beat_ms, habit.beats, habit.between = t, 0, 0, 0
