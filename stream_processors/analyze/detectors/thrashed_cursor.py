"""Thrashed cursor: the user shakes the mouse, because the page does not do what it should, or does nothing at all.

The cursor turns back at least `min_turns` times within `window_ms` along one axis: a hand that looks for something
turns two or three times a second, one that shakes five and more. Turns each at most `PAUSE_MS` after the last are one
shake, on both axes together one finding; its time and place are those of the first turn.

Only recordings tell of the cursor. Their digest sends turns of at least 30 px to both sides, four or more within 2 s on
an axis (so no lower threshold and no longer window can be set), and none while a button is down, over a canvas or a
film, or of fingers: dragging, drawing and scrubbing go to and fro because they work.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.signals import CursorTurn
from stream_processors.analyze.detectors.detector import FOREVER, Handler
from stream_processors.analyze.detectors.thresholds import switch, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

PAUSE_MS = 1000
"""Who shakes turns each 100 to 400 ms; after a second without a turn something else goes on."""

MAX_TURNS = 200
"""Turns that wait to be judged, 60 bytes each besides their page: 20 s of shaking."""

MAX_URL = 500
"""A turn carries its page's address; of a longer one this is enough to find the page."""

_T, _WINDOW, _DUE = 0, 2, 6
"""Where a row holds its time, its window and its due time."""

Row = list[Any]
"""t, axis, window, x, y, page_url, due."""


@dataclass(frozen=True, slots=True)
class ThrashedCursorConfig:
    """Thresholds of thrashed cursors."""

    enabled: bool = switch()
    min_turns: int = whole(10, low=4, high=50)
    window_ms: int = whole(2000, low=500, high=2000)


@dataclass(slots=True)
class ThrashedCursorMemory:
    """Turns that wait, in order of time, and the span and window of the latest shake that was reported."""

    turns: list[Row] = field(default_factory=list)
    reported: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ThrashedCursorDetector:
    """The rule with its thresholds."""

    config: ThrashedCursorConfig = ThrashedCursorConfig()

    memory = ThrashedCursorMemory

    def handlers(self) -> Mapping[type[Any], Handler]:
        """See turns of the cursor only."""
        return {CursorTurn: _on_turn} if self.config.enabled else {}

    def on_time(self, memory: ThrashedCursorMemory, moment: int) -> Sequence[Verdict]:
        """Judge the shakes whose every turn is due."""
        found: list[Verdict] = []
        waiting: list[Row] = []
        for shake in _shakes(memory.turns):
            if any(turn[_DUE] > moment for turn in shake):
                waiting += shake
            elif self._is_thrash(shake) and not _is_known(shake, memory.reported):
                found.append(_verdict(shake))
                memory.reported = [shake[0][_T], shake[-1][_T], shake[0][_WINDOW]]
        memory.turns = waiting
        return found

    def _is_thrash(self, shake: Sequence[Row]) -> bool:
        for axis in ("x", "y"):
            times = [turn[_T] for turn in shake if turn[1] == axis]
            ends = zip(times, times[self.config.min_turns - 1 :], strict=False)
            if any(last - first <= self.config.window_ms for first, last in ends):
                return True
        return False

    def on_end(self, memory: ThrashedCursorMemory) -> Sequence[Verdict]:
        """Judge every shake that is left."""
        return self.on_time(memory, FOREVER)

    def wake_at(self, memory: ThrashedCursorMemory) -> int:
        """Return when the first shake is over and due."""
        return min((max(turn[_DUE] for turn in shake) for shake in _shakes(memory.turns)), default=0)


def _on_turn(memory: ThrashedCursorMemory, turn: CursorTurn, due: int) -> Sequence[Verdict]:
    row: Row = [turn.t, turn.axis, turn.window, turn.x, turn.y, turn.page_url[:MAX_URL], due]
    if any(row[:5] == known[:5] for known in memory.turns):
        return ()
    memory.turns.append(row)
    memory.turns.sort()
    del memory.turns[:-MAX_TURNS]
    return ()


def _shakes(turns: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the turns that belong together, in order of their first."""
    open_shakes: dict[str, list[Row]] = {}
    over: list[list[Row]] = []
    for turn in turns:
        shake = open_shakes.get(turn[_WINDOW])
        if shake is None or turn[_T] - shake[-1][_T] > PAUSE_MS:
            shake = open_shakes[turn[_WINDOW]] = []
            over.append(shake)
        shake.append(turn)
    yield from over


def _is_known(shake: Sequence[Row], reported: Sequence[Any]) -> bool:
    """Tell whether a shake goes on with the one that was reported: part of it came late."""
    if reported[2:] != [shake[0][_WINDOW]]:
        return False
    return bool(shake[0][_T] - reported[1] <= PAUSE_MS and reported[0] - shake[-1][_T] <= PAUSE_MS)


def _verdict(shake: Sequence[Row]) -> Verdict:
    t, _, _, x, y, page_url, _ = shake[0]
    return Verdict(
        kind=FindingKind.THRASHED_CURSOR,
        t=t,
        trigger=str(t),
        severity=Severity.LOW,
        page_url=page_url,
        position=(x, y),
        evidence={"turns": len(shake), "span_ms": shake[-1][_T] - t},
    )
