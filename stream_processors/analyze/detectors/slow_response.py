"""Slow responses: a click that is answered, but only after the time in which people expect an answer.

A click that stays silent to its deadline (`dead_click`) and is then answered by something that is seen, at most
`max_wait_ms` after the click and before the user presses anything else, types or scrolls, is alive: a result that takes
its time without any sign that it is being worked on. It is reported as a slow load of its own kind
(`evidence.response_ms`), not as a dead click. No answer is what only goes away or is taken back at once, what changes
at a place that had changed before (the digest leaves it out: a page moves by itself as well), a request that starts so
late, and another page, in this window or another: whoever finds nothing happen leaves, and a recording does not say who
made the page go.

Only recorded clicks and changes are judged so: structured ones do not say whether a place moves by itself.

Of clicks on one place, each at most `repeat_ms` after the last, the first is reported. Switched off, such clicks count
as dead. A recording's digest follows a click for 10 s, so no longer wait can be set.
"""

from dataclasses import dataclass

from stream_processors.analyze.detectors.click_memory import ClickMemory
from stream_processors.analyze.detectors.click_rows import Flag, What
from stream_processors.analyze.detectors.known_click import KnownClick
from stream_processors.analyze.detectors.rage_click import same_page
from stream_processors.analyze.detectors.thresholds import switch, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

_TURNS = frozenset((What.DOWN, What.NAVIGATION, What.UNKNOWN))
"""What ends the wait: the user, or the page, has turned to something else."""

VERY_SLOW = 2
"""From so many times the deadline on, severity is high."""


@dataclass(frozen=True, slots=True)
class SlowResponseConfig:
    """Thresholds of slow responses."""

    enabled: bool = switch()
    max_wait_ms: int = whole(5000, low=100, high=10_000)


def judge(click: KnownClick, memory: ClickMemory, *, silent_until: int, config: SlowResponseConfig) -> Verdict | None:
    """Judge a click that was silent to its deadline, `silent_until`."""
    if not config.enabled or click.has(Flag.STRUCTURED):
        return None
    for mark in memory.marks_between(silent_until, click.t + config.max_wait_ms + 1):
        t, what, window, _ = mark
        if not same_page(window, click.window):
            continue
        if what == What.EFFECT and window and not memory.undone(mark):
            return _verdict(click, memory, answered=t, deadline_ms=silent_until - click.t)
        if what in _TURNS:
            return None
    return None


def _verdict(click: KnownClick, memory: ClickMemory, *, answered: int, deadline_ms: int) -> Verdict:
    response_ms = answered - click.t
    return Verdict(
        kind=FindingKind.SLOW_LOAD,
        t=click.t,
        trigger=f"response/{click.t}/{click.x}/{click.y}",
        severity=Severity.HIGH if response_ms >= VERY_SLOW * deadline_ms else Severity.MEDIUM,
        page_url=memory.pages[click.page],
        element=click.element,
        position=(click.x, click.y) if click.placed else None,
        evidence={"response_ms": response_ms, "slow_above_ms": deadline_ms},
    )
