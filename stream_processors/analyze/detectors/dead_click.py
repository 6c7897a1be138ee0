"""Dead clicks: the user clicks and nothing comes of it.

A click is dead if no answer comes within `deadline_ms`, or before a pointer goes down elsewhere, if that is earlier:
what follows then answers the later click. One that is answered after its deadline is slow, not dead (`slow_response`).
Answers are

- from the moment the pointer went down (a tenth of all controls answers before the click event): a change that is
  seen, a request that starts, a page in another window, an event of the application; who makes the signals leaves out
  what is no answer (places that change by themselves, the same text written again) or says that it was undone at once;
  what was only taken away counts up to `LONE_MS` after the click;
- a navigation of its own window from the click on;
- a scroll at most `scroll_ms` after the click, a selection at most `selection_ms`, focus that moves to another element.

Not judged are clicks whose effect is not to be seen (text entry, links, media, downloads ...), clicks made by keys, and
clicks known from structured events alone unless the session has sent a structured answer by their deadline: without
those silence says nothing, and what is sent later can be known when a click is judged, or not yet. A page that was left
or hidden within the window, or a gap in the recording, makes a click unknown: its answer may have come unseen.

Clicks on one place, each at most `repeat_ms` after the last, are one finding.

What default rrweb cannot show looks like silence: a native dialog, a window of another site that opens without taking
the focus, an answer in a header alone. A recording's digest follows a click for 10 s, so no later deadline can be set.
"""

from dataclasses import dataclass

from stream_processors.analyze.detectors.click_memory import ClickMemory
from stream_processors.analyze.detectors.click_rows import Flag, What
from stream_processors.analyze.detectors.known_click import KnownClick
from stream_processors.analyze.detectors.rage_click import LONE_MS, ignored, same_page
from stream_processors.analyze.detectors.thresholds import selectors, switch, texts, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

LONG_PRESS_MS = 1500
"""A pointer that went down so long before a click belongs to it."""

DOWN_EARLY_MS = 15
"""Clocks of the recorder's events differ by so much: an effect of pointer-down may be stamped before it."""

EARLY_MS = 100
"""Where no pointer-down is known: a person holds the button for 55 to 115 ms."""

CONTROLS = frozenset(("button", "a", "input", "label", "summary", "select", "option"))
"""A dead click on one of these is worse than one on plain content."""


@dataclass(frozen=True, slots=True)
class DeadClickConfig:
    """Thresholds of dead clicks."""

    enabled: bool = switch()
    deadline_ms: int = whole(2500, low=100, high=10_000)
    scroll_ms: int = whole(300, low=0, high=10_000)
    selection_ms: int = whole(600, low=0, high=10_000)
    repeat_ms: int = whole(1000, low=0, high=10_000)
    radius_px: int = whole(30, low=0, high=1000)
    ignored_texts: tuple[str, ...] = texts()
    ignored_selectors: tuple[str, ...] = selectors()


def judge(click: KnownClick, memory: ClickMemory, *, silent_until: int, config: DeadClickConfig) -> Verdict | None:
    """Judge a click that had no answer (see `silent_until`)."""
    element = click.element
    if not config.enabled or ignored(element, config.ignored_texts, config.ignored_selectors):
        return None
    return Verdict(
        kind=FindingKind.DEAD_CLICK,
        t=click.t,
        trigger=f"{click.t}/{click.x}/{click.y}",
        severity=Severity.MEDIUM if element.tag.lower() in CONTROLS else Severity.LOW,
        page_url=memory.pages[click.page],
        element=element,
        position=(click.x, click.y) if click.placed else None,
        evidence={
            "silent_ms": silent_until - click.t,
            "cut_by_next_click": silent_until < click.t + config.deadline_ms,
        },
    )


def silent_until(
    click: KnownClick, memory: ClickMemory, *, elsewhere: int | None, config: DeadClickConfig
) -> int | None:
    """Return to when a judgeable click had no answer, if it had none at all; else, or if it is unknown, None.

    Its window is over; `elsewhere` is the time of the next click on another place.
    """
    start = _start(click, memory)
    if start <= memory.forgotten:
        return None
    deadline = click.t + config.deadline_ms
    end = min(deadline, _next_down(click, memory, deadline, config), deadline if elsewhere is None else elsewhere)
    if any(
        _answers(click, mark, memory, config) or (mark[1] == What.UNKNOWN and same_page(mark[2], click.window))
        for mark in memory.marks_between(start, end)
    ):
        return None
    return end


def judgeable(t: int, flags: int, *, answering_since: int, config: DeadClickConfig) -> bool:
    """Return whether silence after a click at `t` with these flags can mean that it is dead."""
    if flags & (Flag.ENTRY | Flag.UNJUDGED | Flag.KEYBOARD):
        return False
    return not flags & Flag.STRUCTURED or 0 < answering_since < t + config.deadline_ms


def _start(click: KnownClick, memory: ClickMemory) -> int:
    """Return from when on a change can be the click's answer."""
    if click.down is not None:
        return click.down - DOWN_EARLY_MS
    downs = [
        t
        for t, what, window, _ in memory.marks_between(click.t - LONG_PRESS_MS, click.t + 1)
        if what == What.DOWN and same_page(window, click.window)
    ]
    return downs[-1] - DOWN_EARLY_MS if downs else click.t - EARLY_MS


def _next_down(click: KnownClick, memory: ClickMemory, deadline: int, config: DeadClickConfig) -> int:
    """Return when a pointer went down that no longer belongs to this click or its repetitions."""
    last = click.t
    for t, what, window, node in memory.marks_between(click.t + 1, deadline):
        if what != What.DOWN:
            continue
        if node != click.node or window != click.window or t - last > config.repeat_ms:
            return t
        last = t
    return deadline


def _answers(click: KnownClick, mark: list[int], memory: ClickMemory, config: DeadClickConfig) -> bool:
    t, what, window, node = mark
    if what == What.NAVIGATION:
        return t >= click.t or not same_page(window, click.window)
    if not same_page(window, click.window):
        return False
    if what == What.SCROLL:
        return t <= click.t + config.scroll_ms
    if what == What.SELECTION:
        return t <= click.t + config.selection_ms
    if what == What.FOCUS:
        return node != click.node
    if what == What.LONE:
        return t <= click.t + LONE_MS
    return what == What.UNSEEN or (what == What.EFFECT and not memory.undone(mark))
