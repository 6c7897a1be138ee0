"""Rage, dead and error clicks: three rules over one memory of clicks and of what may answer them.

Clicks are judged a burst at a time (a click alone is a burst of one), once every click of the burst is due. Each click
is judged once; a click that comes late joins the clicks already judged around it.

Most structured clicks can be nothing: no burst, no error near, no answers in the session by which one could be dead.
Those wait `LAZY_MS` longer, or until something wakes the session anyway, because each waking costs a state written.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.signals import (
    Change,
    ChangeKind,
    Click,
    Element,
    FormSubmit,
    Leave,
    NotJudged,
    PageView,
    PointerDown,
    ScriptError,
    Signal,
)
from stream_processors.analyze.detectors import dead_click, error_click, rage_click
from stream_processors.analyze.detectors.click_memory import MAX_IDLE, ClickMemory, Flag, KnownClick, What, known_clicks
from stream_processors.analyze.detectors.dead_click import DeadClickConfig
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.error_click import ErrorClickConfig
from stream_processors.analyze.detectors.fingerprint import fingerprint
from stream_processors.analyze.detectors.rage_click import RageClickConfig
from stream_processors.analyze.detectors.verdict import Verdict

LAZY_MS = 60_000
"""A session with a click a second then holds 60 open clicks, 18 kB, and is woken once a minute."""

MAX_ERROR_MESSAGE = 300

_ENTRY = frozenset((NotJudged.TEXT_ENTRY, NotJudged.SELECT, NotJudged.EDITABLE))
_MARKS = {
    ChangeKind.DOM: What.EFFECT,
    ChangeKind.STYLE: What.EFFECT,
    ChangeKind.CANVAS: What.EFFECT,
    ChangeKind.MEDIA: What.EFFECT,
    ChangeKind.INPUT: What.EFFECT,
    ChangeKind.WINDOW: What.EFFECT,
    ChangeKind.SCROLL: What.SCROLL,
    ChangeKind.SELECTION: What.SELECTION,
    ChangeKind.FOCUS: What.FOCUS,
    ChangeKind.NAVIGATION: What.NAVIGATION,
    ChangeKind.SNAPSHOT: What.NAVIGATION,
    ChangeKind.VISIBILITY: What.UNSEEN,
    ChangeKind.NETWORK: What.UNSEEN,
    ChangeKind.CUSTOM: What.UNSEEN,
    ChangeKind.GAP: What.UNKNOWN,
}
_PROOF = frozenset((ChangeKind.DOM, ChangeKind.NETWORK, ChangeKind.VISIBILITY))
"""Structured changes that show that a session sends answers; custom events are the application's and prove nothing."""


@dataclass(frozen=True, slots=True)
class ClickDetectors:
    """The three rules with their thresholds."""

    rage: RageClickConfig = field(default_factory=RageClickConfig)
    dead: DeadClickConfig = field(default_factory=DeadClickConfig)
    error: ErrorClickConfig = field(default_factory=ErrorClickConfig)

    memory = ClickMemory
    signals = (Click, PointerDown, Change, PageView, Leave, FormSubmit, ScriptError)

    def on_signal(self, memory: ClickMemory, signal: Signal, *, due: int) -> Sequence[Verdict]:
        """Take note of a click, or of what may answer one."""
        match signal:
            case Change():
                self._on_change(memory, signal)
            case Click():
                self._on_click(memory, signal, due)
            case PointerDown():
                memory.add_mark([signal.t, What.DOWN, memory.window(signal.window), signal.node])
            case ScriptError():
                self._on_error(memory, signal, due)
            case PageView():
                memory.add_mark([signal.t, What.NAVIGATION, memory.window(signal.window), 0])
            case FormSubmit():
                memory.add_mark([signal.t, What.UNSEEN, memory.window(signal.window), 0])
            case Leave():
                memory.add_mark([signal.t, What.UNKNOWN, memory.window(signal.window), 0])
            case _:
                raise TypeError(f"not a signal of clicks: {signal!r}")
        return ()

    def _on_change(self, memory: ClickMemory, change: Change) -> None:
        if change.background:
            return
        window = memory.window(change.window)
        what = What.LONE if change.lone else _MARKS[change.what]
        if change.undoes:
            memory.add_mark([change.undoes, What.UNDONE, window, _place(change)])
        elif what == What.EFFECT:
            memory.add_mark([change.t, what, window, _place(change)])
        else:
            memory.add_mark([change.t, what, window, change.node if what == What.FOCUS else 0])
        if not memory.answering and not change.window and change.what in _PROOF:
            memory.answering = True
            for open_due in memory.open_dues():
                _wake(memory, open_due)

    def _on_click(self, memory: ClickMemory, click: Click, due: int) -> None:
        flags = _flags(click)
        e = click.element or Element()
        details = [e.tag, e.id, e.classes, e.text, e.selector, e.component, click.page_url]
        lead = click.t - click.down if 0 < click.down <= click.t else -1
        window = memory.window(click.window)
        memory.add_click([click.t, click.x, click.y, window, click.node, flags, lead, due, details])
        _wake(memory, due if self._may_be_found(memory, click, flags) else due + LAZY_MS)

    def _may_be_found(self, memory: ClickMemory, click: Click, flags: int) -> bool:
        if dead_click.judgeable(flags, answering=memory.answering):
            return True
        reach = (self.rage.min_clicks - 1) * self.rage.max_gap_ms
        if memory.clicks_between(click.t - reach, click.t + reach) >= self.rage.min_clicks:
            return True
        return any(-error_click.EARLY_MS <= error[0] - click.t <= self.error.window_ms for error in memory.errors)

    def _on_error(self, memory: ClickMemory, error: ScriptError, due: int) -> None:
        memory.add_error([error.t, fingerprint(error.message), due, error.message[:MAX_ERROR_MESSAGE]])
        near = memory.clicks_between(error.t - self.error.window_ms, error.t + error_click.EARLY_MS)
        _wake(memory, due if near else due + LAZY_MS)

    def on_time(self, memory: ClickMemory, moment: int) -> Sequence[Verdict]:
        """Judge the bursts that are over."""
        clicks = known_clicks(memory.clicks)
        errors = self._own_errors(memory, clicks, moment)
        found: list[Verdict] = []
        for burst in rage_click.bursts(clicks, self.rage):
            if max(click.due for click in burst) <= moment:
                found += self._judge(burst, clicks, memory, errors)
        memory.prune()
        memory.wake = 0
        for due in memory.open_dues():
            _wake(memory, max(due, moment + 1))
        return found

    def _own_errors(self, memory: ClickMemory, clicks: Sequence[KnownClick], moment: int) -> dict[int, list[list[Any]]]:
        """Return the errors of each click by its time; count those that are due and belong to none."""
        own: dict[int, list[list[Any]]] = {}
        for error in memory.errors:
            click = error_click.owner(error[0], clicks, self.error)
            if click is not None:
                own.setdefault(click.t, []).append(error)
            elif 0 < error[2] <= moment and (error[1] in memory.idle or len(memory.idle) < MAX_IDLE):
                memory.idle[error[1]] = memory.idle.get(error[1], 0) + 1
            if error[2] <= moment:
                error[2] = 0
        return own

    def _judge(
        self,
        burst: Sequence[KnownClick],
        clicks: Sequence[KnownClick],
        memory: ClickMemory,
        errors: dict[int, list[list[Any]]],
    ) -> list[Verdict]:
        found: list[Verdict] = []
        fresh = [click for click in burst if not click.has(Flag.SETTLED)]
        for click in fresh:
            error = error_click.judge(click, errors.get(click.t, ()), memory, config=self.error)
            if error is not None:
                if not _repeats(click, clicks, Flag.ERRED, error_click.REPEAT_MS, self.dead.radius_px):
                    found.append(error)
                click.mark(Flag.ERRED)
            elsewhere = _next_elsewhere(click, clicks, self.dead.radius_px)
            dead = dead_click.judge(click, memory, elsewhere=elsewhere, config=self.dead)
            if dead is not None:
                if not _repeats(click, clicks, Flag.DEAD, self.dead.repeat_ms, self.dead.radius_px):
                    found.append(dead)
                click.mark(Flag.DEAD)
        rage = rage_click.judge(burst, memory, config=self.rage) if fresh else None
        if rage is not None:
            found.append(rage)
            for click in burst:
                click.mark(Flag.RAGED)
        for click in burst:
            click.settle()
        return found

    def on_end(self, memory: ClickMemory) -> Sequence[Verdict]:
        """Judge every burst."""
        return self.on_time(memory, FOREVER)

    def wake_at(self, memory: ClickMemory) -> int:
        """Return when the next burst may be over."""
        return memory.wake


def _wake(memory: ClickMemory, at: int) -> None:
    if not memory.wake or at < memory.wake:
        memory.wake = at


def _place(change: Change) -> int:
    """Return a number that stands for what changed."""
    return zlib.crc32(f"{change.node}/{change.place}".encode("utf-8", "replace"))


def _flags(click: Click) -> int:
    flags = Flag.STRUCTURED if click.event_id else 0
    if click.not_judged is NotJudged.KEYBOARD:
        flags |= Flag.KEYBOARD
    elif click.not_judged in _ENTRY:
        flags |= Flag.ENTRY
    elif click.not_judged is not None:
        flags |= Flag.UNJUDGED
    return flags


def _next_elsewhere(click: KnownClick, clicks: Sequence[KnownClick], radius_px: int) -> int | None:
    """Return the time of the next click on another place."""
    return next((c.t for c in clicks if c.t > click.t and not c.near(click, radius_px)), None)


def _repeats(click: KnownClick, clicks: Sequence[KnownClick], flag: int, within_ms: int, radius_px: int) -> bool:
    """Return whether a click on the same place shortly before has the flag already."""
    return any(
        c.has(flag) and 0 <= click.t - c.t <= within_ms and c is not click and c.near(click, radius_px) for c in clicks
    )
