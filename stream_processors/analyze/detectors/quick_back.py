"""Quick backs: the user goes to a page and at once back again; what was behind the link was not what it promised.

Three page views in a row in one window, A, B, A, with at most `max_stay_ms` between the last two. Views of the same
page in a row are one. The finding's page is B, its time the return.

Whether the next view is a return depends on the last two pages of its window alone. So of old views only these are
kept, and what a return that waits to be judged is made of: whatever is viewed meanwhile does not change it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.signals import PageView
from stream_processors.analyze.detectors.detector import FOREVER, Handler, in_turn
from stream_processors.analyze.detectors.thresholds import switch, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

KEEP_MS = 30_000
"""A view that comes late may still belong between those of so much event time; of what was before, two are needed."""

MAX_VIEWS = 16
"""Page views remembered at most, up to 2 kB each."""

TOLD_TWICE_MS = 2000
"""An SDK and a recording tell of the same return within so much time."""

MAX_REPORTED = 16

_DUE = 3
"""Where a view holds its due time."""


@dataclass(frozen=True, slots=True)
class QuickBackConfig:
    """Thresholds of quick backs."""

    enabled: bool = switch()
    max_stay_ms: int = whole(2000, low=100, high=60_000)


@dataclass(slots=True)
class QuickBackMemory:
    """Recent page views in order of time, and the returns that were reported."""

    views: list[list[Any]] = field(default_factory=list)
    """t, window, url, due (0 once judged)."""
    reported: list[int] = field(default_factory=list)
    wake: int = 0


@dataclass(frozen=True, slots=True)
class QuickBackDetector:
    """The rule with its thresholds."""

    config: QuickBackConfig = QuickBackConfig()

    memory = QuickBackMemory

    def handlers(self) -> Mapping[type[Any], Handler]:
        """Page views only."""
        return {PageView: self._on_page_view} if self.config.enabled else {}

    def _on_page_view(self, memory: QuickBackMemory, view: PageView, due: int) -> Sequence[Verdict]:
        memory.views.append([view.t, view.window, view.url, due])
        memory.views.sort()
        if len(memory.views) > 2:
            floor = memory.views[-1][0] - KEEP_MS
            waiting = (first[0] for first, _, back, _ in self._returns(memory) if back[_DUE])
            memory.views = _needed(memory.views[-MAX_VIEWS:], min((floor, *waiting)))
        self._set_wake(memory)
        return ()

    def _set_wake(self, memory: QuickBackMemory) -> None:
        memory.wake = next((due for _, _, back, due in self._returns(memory) if back[_DUE]), 0)

    def _returns(self, memory: QuickBackMemory) -> Iterator[tuple[list[Any], list[Any], list[Any], int]]:
        """Yield the three views of each quick return, and when to judge it."""
        rows: dict[str, list[list[Any]]] = {}
        for view, due in in_turn(memory.views, _DUE):
            seen = rows.setdefault(view[1], [])
            if seen and seen[-1][2] == view[2]:
                continue
            if len(seen) >= 2 and seen[-2][2] == view[2] and view[0] - seen[-1][0] <= self.config.max_stay_ms:
                yield seen[-2], seen[-1], view, due
            seen.append(view)

    def on_time(self, memory: QuickBackMemory, moment: int) -> Sequence[Verdict]:
        """Report the returns that are due."""
        found: list[Verdict] = []
        for _, left, back, due in self._returns(memory):
            t, _, url, own_due = back
            if due > moment or not own_due:
                continue
            back[_DUE] = 0
            if any(abs(t - other) <= TOLD_TWICE_MS for other in memory.reported):
                continue
            memory.reported.append(t)
            found.append(
                Verdict(
                    kind=FindingKind.QUICK_BACK,
                    t=t,
                    trigger=str(t),
                    severity=Severity.LOW,
                    page_url=left[2],
                    evidence={"stay_ms": t - left[0], "back_to": url},
                )
            )
        del memory.reported[:-MAX_REPORTED]
        self._set_wake(memory)
        return found

    def on_end(self, memory: QuickBackMemory) -> Sequence[Verdict]:
        """Report every return that is left."""
        return self.on_time(memory, FOREVER)

    def wake_at(self, memory: QuickBackMemory) -> int:
        """Return when the first return is due."""
        return memory.wake


def _needed(views: Sequence[list[Any]], floor: int) -> list[list[Any]]:
    """Return the views from `floor` on, and of each window the last two pages before."""
    pages: dict[str, list[list[Any]]] = {}
    for view in views:
        before = pages.setdefault(view[1], [])
        if view[0] < floor and not (before and before[-1][2] == view[2]):
            before.append(view)
            del before[:-2]
    recent = [view for view in views if view[0] >= floor]
    return sorted(view for before in pages.values() for view in before) + recent
