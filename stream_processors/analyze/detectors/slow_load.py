"""Slow loads: a web vital beyond what web.dev calls poor.

One finding per vital and page view: libraries report the same vital again when it grows or when the page is hidden. The
page view is the last one at or before the vital, so a vital waits until the views of its time have come.
"""

import zlib
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.signals import PageView, WebVital
from stream_processors.analyze.detectors.detector import FOREVER, Handler, in_turn
from stream_processors.analyze.detectors.thresholds import number, switch
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

EARLY_VITAL_MS = 500
"""A vital may be stamped with the time it describes, a little before the view is reported."""

VERY_SLOW = 2.0
"""From so many times the threshold on, severity is high."""

KEEP_MS = 30_000
"""Event time within which a view or a vital may still come late; of what was before, the last view is needed."""

MAX_VIEWS = 64
"""Page views by which a vital finds its own, 14 bytes each; SDK and recording tell of each."""

MAX_PENDING = 16
"""Slow vitals that wait; there are five vitals a view."""

MAX_REPORTED = 64


_DUE = 4
"""Where a waiting vital holds its due time."""


@dataclass(frozen=True, slots=True)
class SlowLoadConfig:
    """Thresholds of slow loads."""

    enabled: bool = switch()
    lcp_ms: float = number(4000, low=0, high=600_000)
    fcp_ms: float = number(3000, low=0, high=600_000)
    ttfb_ms: float = number(1800, low=0, high=600_000)
    inp_ms: float = number(500, low=0, high=600_000)
    cls: float = number(0.25, low=0, high=1000)

    def poor(self, name: str) -> float | None:
        """Return the threshold of a vital; None for a name that is none."""
        return {
            "LCP": self.lcp_ms,
            "FCP": self.fcp_ms,
            "TTFB": self.ttfb_ms,
            "INP": self.inp_ms,
            "CLS": self.cls,
        }.get(name)


@dataclass(slots=True)
class SlowLoadMemory:
    """Times of page views, slow vitals that wait, and what has been reported."""

    views: list[int] = field(default_factory=list)
    pending: list[list[Any]] = field(default_factory=list)
    """t, name, value, page_url, due."""
    reported: list[str] = field(default_factory=list)
    """Triggers of the findings."""


@dataclass(frozen=True, slots=True)
class SlowLoadDetector:
    """The rule with its thresholds."""

    config: SlowLoadConfig = SlowLoadConfig()

    memory = SlowLoadMemory

    def handlers(self) -> Mapping[type[Any], Handler]:
        """Page views, and the vitals that tell how they loaded."""
        return {PageView: _on_page_view, WebVital: self._on_vital} if self.config.enabled else {}

    def _on_vital(self, memory: SlowLoadMemory, vital: WebVital, due: int) -> Sequence[Verdict]:
        poor = self.config.poor(vital.name)
        if poor is not None and vital.value > poor:
            memory.pending.append([vital.t, vital.name, vital.value, vital.page_url, due])
            memory.pending.sort(key=lambda row: row[:4])
            del memory.pending[:-MAX_PENDING]
        return ()

    def on_time(self, memory: SlowLoadMemory, moment: int) -> Sequence[Verdict]:
        """Report the first slow vital of each name and page view."""
        found: list[Verdict] = []
        waiting = []
        for row, due in in_turn(memory.pending, _DUE):
            if due > moment:
                waiting.append(row)
                continue
            t, name, value, page_url, _ = row
            view = max((v for v in memory.views if v <= t + EARLY_VITAL_MS), default=0)
            trigger = f"{name}/{view}" if view else f"{name}/page {zlib.crc32(page_url.encode('utf-8', 'replace')):08x}"
            if trigger in memory.reported:
                continue
            memory.reported.append(trigger)
            del memory.reported[:-MAX_REPORTED]
            poor = self.config.poor(name) or 0.0
            found.append(
                Verdict(
                    kind=FindingKind.SLOW_LOAD,
                    t=t,
                    trigger=trigger,
                    severity=Severity.HIGH if value >= VERY_SLOW * poor else Severity.MEDIUM,
                    page_url=page_url,
                    evidence={"vital": name, "value": value, "poor_above": poor},
                )
            )
        memory.pending = waiting
        return found

    def on_end(self, memory: SlowLoadMemory) -> Sequence[Verdict]:
        """Report every slow vital that is left."""
        return self.on_time(memory, FOREVER)

    def wake_at(self, memory: SlowLoadMemory) -> int:
        """Return when the first slow vital is due."""
        return memory.pending[0][_DUE] if memory.pending else 0


def _on_page_view(memory: SlowLoadMemory, view: PageView, _due: int) -> Sequence[Verdict]:
    insort(memory.views, view.t)
    floor = min((memory.views[-1] - KEEP_MS, *(vital[0] for vital in memory.pending[:1])))
    del memory.views[: max(bisect_right(memory.views, floor + EARLY_VITAL_MS) - 1, len(memory.views) - MAX_VIEWS, 0)]
    return ()
