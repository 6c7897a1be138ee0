"""Rage clicks: the user clicks one place again and again because nothing helps.

A burst is a chain of clicks, each at most `max_gap_ms` after the last (the pause ends when the pointer goes down), on
the same node or at most `radius_px` from it. A burst of `min_clicks` is rage unless

- it is productive: at least `productive_share` of its clicks, and at least two, had a visible effect of their own, from
  `EARLY_MS` before the click (the pointer goes down first) to `effect_ms` after it, but not beyond the next click.
  Steppers, carousels and date pickers are clicked fast because they work. Where the effect cannot be known (the page
  was left or hidden, part of the recording is missing, the click hit a canvas or a film) the click has the benefit of
  the doubt;
- text is typed or chosen there (clicking into a field often is no rage);
- it is a double or triple click that selects text: at most three clicks with a selection around them;
- the project ignores the element's text or selector.

Double-click and context-menu events, the twin of a touch and clicks made by keys are no clicks here: who makes the
signals leaves them out. A burst ends `max_burst_ms` after its first click, so that a clicking machine is told too. A
burst that was judged and whose first click has been forgotten goes on no more: it has had its time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from schemas.signals import Element
from stream_processors.analyze.detectors.click_memory import ClickMemory
from stream_processors.analyze.detectors.click_rows import Flag, What
from stream_processors.analyze.detectors.known_click import KnownClick
from stream_processors.analyze.detectors.thresholds import number, selectors, switch, texts, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

EARLY_MS = 150
"""From pointer-down to the click a person takes 55 to 115 ms, and a tenth of all controls answers at once."""

NEXT_CLICK_MS = 20
"""What changes so shortly before the next click is its effect: its pointer is down already."""

LONE_MS = 400
"""A toast stays for seconds; what a click takes away goes at once, or after a transition of 300 ms."""

SELECTING_CLICKS = 3
SELECTION_BEFORE_MS = 100
SELECTION_AFTER_MS = 300

FURIOUS_CLICKS = 6
"""From so many clicks on, severity is high."""


@dataclass(frozen=True, slots=True)
class RageClickConfig:
    """Thresholds of rage clicks."""

    enabled: bool = switch()
    min_clicks: int = whole(3, low=2, high=50)
    max_gap_ms: int = whole(1000, low=50, high=1900)
    radius_px: int = whole(30, low=0, high=1000)
    effect_ms: int = whole(700, low=0, high=5000)
    productive_share: float = number(0.6, low=0.0, high=1.0)
    max_burst_ms: int = whole(30_000, low=1000, high=60_000)
    ignored_texts: tuple[str, ...] = texts()
    ignored_selectors: tuple[str, ...] = selectors()


def bursts(clicks: Sequence[KnownClick], config: RageClickConfig) -> list[tuple[int, int]]:
    """Cut clicks, in order of time, into bursts: from where to before where each goes; a click alone is one."""
    starts: list[int] = []
    for at, click in enumerate(clicks):
        if not starts or not _continues(clicks[starts[-1]], clicks[at - 1], click, config):
            starts.append(at)
    return list(pairwise([*starts, len(clicks)]))


def _continues(first: KnownClick, last: KnownClick, click: KnownClick, config: RageClickConfig) -> bool:
    return (
        (click.t if click.down is None else click.down) - last.t <= config.max_gap_ms
        and click.t - first.t <= config.max_burst_ms
        and (click.has(Flag.SETTLED) or not first.has(Flag.SETTLED) or first.has(Flag.FIRST))
        and not click.has(Flag.KEYBOARD)
        and not last.has(Flag.KEYBOARD)
        and click.near(last, config.radius_px)
    )


def judge(burst: Sequence[KnownClick], memory: ClickMemory, *, config: RageClickConfig) -> Verdict | None:
    """Judge a burst that is over; `memory` knows what happened around it."""
    if not config.enabled or len(burst) < config.min_clicks:
        return None
    if any(click.has(Flag.RAGED | Flag.ENTRY) for click in burst) or burst[0].t - EARLY_MS <= memory.forgotten:
        return None
    first, last = burst[0], burst[-1]
    shown = next((click for click in burst if click.detailed), first)
    element = shown.element
    if ignored(element, config.ignored_texts, config.ignored_selectors):
        return None
    if len(burst) <= SELECTING_CLICKS and _selects(first, last, memory):
        return None
    effective = sum(
        _had_effect(click, after, memory, config) for click, after in zip(burst, [*burst[1:], None], strict=True)
    )
    if effective >= max(2, config.productive_share * len(burst)):
        return None
    erred = any(click.has(Flag.ERRED) for click in burst)
    return Verdict(
        kind=FindingKind.RAGE_CLICK,
        t=first.t,
        trigger=f"{first.t}/{first.x}/{first.y}",
        severity=Severity.CRITICAL if erred else Severity.HIGH if len(burst) >= FURIOUS_CLICKS else Severity.MEDIUM,
        page_url=memory.pages[shown.page],
        element=element,
        position=(first.x, first.y) if first.placed else None,
        evidence={"clicks": len(burst), "span_ms": last.t - first.t, "effective_clicks": effective},
    )


def _selects(first: KnownClick, last: KnownClick, memory: ClickMemory) -> bool:
    around = memory.marks_between(first.t - SELECTION_BEFORE_MS, last.t + SELECTION_AFTER_MS + 1)
    return any(what == What.SELECTION and same_page(window, first.window) for _, what, window, _ in around)


def _had_effect(click: KnownClick, after: KnownClick | None, memory: ClickMemory, config: RageClickConfig) -> bool:
    if click.has(Flag.DRAWN):
        return True
    end = click.t + config.effect_ms + 1
    if after is not None:
        end = min(end, after.t - NEXT_CLICK_MS)
    return any(_is_effect(mark, memory, click) for mark in memory.marks_between(click.t - EARLY_MS, end))


def _is_effect(mark: list[int], memory: ClickMemory, click: KnownClick) -> bool:
    t, what, window, _ = mark
    if what == What.NAVIGATION:
        return True
    if not same_page(window, click.window):
        return False
    if what == What.EFFECT:
        return not memory.undone(mark)
    return what in (What.SCROLL, What.UNKNOWN) or (what == What.LONE and t <= click.t + LONE_MS)


def same_page(window: int, other: int) -> bool:
    """Return whether a mark can concern a click's page: the window is the same, or one of them is unknown."""
    return window == other or not window or not other


def ignored(element: Element, ignored_texts: Sequence[str], ignored_selectors: Sequence[str]) -> bool:
    """Return whether the project has asked not to be told about this element."""
    if ignored_texts and element.text.strip().casefold() in ignored_texts:
        return True
    return any(_matches(element, selector) for selector in ignored_selectors)


def _matches(element: Element, selector: str) -> bool:
    names = selector.replace("#", "\0#").replace(".", "\0.").split("\0")
    classes = set(element.classes.split())
    return all(
        name[1:] == element.id
        if name.startswith("#")
        else name[1:] in classes
        if name.startswith(".")
        else not name or name.lower() == element.tag.lower()
        for name in names
    )
