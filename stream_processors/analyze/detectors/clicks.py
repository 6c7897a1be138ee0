"""Rage, dead, slow and error clicks: four rules over one memory of clicks and of what may answer them.

Clicks are judged a burst at a time (a click alone is a burst of one), once every click of the burst is due. Each click
is judged once; a click that comes late joins the clicks already judged around it.

Most structured clicks can be nothing: no burst, no error near, no answers in the session by which one could be dead.
Those wait `LAZY_MS` longer, or until something wakes the session anyway, because each waking costs a state written.
"""

import zlib
from collections.abc import Mapping, Sequence
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
)
from stream_processors.analyze.detectors import dead_click, error_click, rage_click, slow_response
from stream_processors.analyze.detectors.click_memory import ClickMemory
from stream_processors.analyze.detectors.click_rows import DUE, FLAGS, Alone, Flag, T, What
from stream_processors.analyze.detectors.dead_click import DeadClickConfig
from stream_processors.analyze.detectors.detector import FOREVER, Handler
from stream_processors.analyze.detectors.error_click import ErrorClickConfig
from stream_processors.analyze.detectors.fingerprint import fingerprint
from stream_processors.analyze.detectors.known_click import KnownClick, known_clicks
from stream_processors.analyze.detectors.rage_click import RageClickConfig
from stream_processors.analyze.detectors.slow_response import SlowResponseConfig
from stream_processors.analyze.detectors.verdict import Verdict

LAZY_MS = 30_000
"""A session with a click in three seconds then holds 14 open clicks, 4 kB, and is woken every 40 s."""

MAX_ERROR_MESSAGE = 300
MAX_TEXT = 200
"""Characters of an element's text and classes in a finding."""

MAX_SELECTOR = 512

_ENTRY = frozenset((NotJudged.TEXT_ENTRY, NotJudged.SELECT, NotJudged.EDITABLE))
_DRAWN = frozenset((NotJudged.CANVAS, NotJudged.MEDIA))
_MARKS: dict[ChangeKind, tuple[int, bool]] = {
    ChangeKind.DOM: (What.EFFECT, True),
    ChangeKind.STYLE: (What.EFFECT, False),
    ChangeKind.CANVAS: (What.EFFECT, False),
    ChangeKind.MEDIA: (What.EFFECT, False),
    ChangeKind.INPUT: (What.EFFECT, False),
    ChangeKind.SCROLL: (What.SCROLL, False),
    ChangeKind.SELECTION: (What.SELECTION, False),
    ChangeKind.FOCUS: (What.FOCUS, False),
    ChangeKind.NAVIGATION: (What.NAVIGATION, False),
    ChangeKind.SNAPSHOT: (What.NAVIGATION, False),
    ChangeKind.VISIBILITY: (What.UNSEEN, True),
    ChangeKind.NETWORK: (What.UNSEEN, True),
    ChangeKind.CUSTOM: (What.UNSEEN, False),
    ChangeKind.GAP: (What.UNKNOWN, False),
}
"""What each kind of change means to a click, and whether a structured one proves that the session sends answers: custom
events do not, they are the application's own."""

_NO_ELEMENT = Element()


@dataclass(frozen=True, slots=True)
class ClickDetectors:
    """The four rules with their thresholds."""

    rage: RageClickConfig = field(default_factory=RageClickConfig)
    dead: DeadClickConfig = field(default_factory=DeadClickConfig)
    error: ErrorClickConfig = field(default_factory=ErrorClickConfig)
    slow: SlowResponseConfig = field(default_factory=SlowResponseConfig)

    memory = ClickMemory

    def handlers(self) -> Mapping[type[Any], Handler]:
        """Clicks and errors are judged; all the rest may answer a click."""
        return {
            Click: self._on_click,
            ScriptError: self._on_error,
            Change: self._on_change,
            PointerDown: _on_down,
            PageView: _on_page_view,
            FormSubmit: _on_form_submit,
            Leave: _on_leave,
        }

    def _on_change(self, memory: ClickMemory, change: Change, _due: int) -> Sequence[Verdict]:
        if change.background:
            return ()
        what, proves = _MARKS[change.what]
        window = memory.window(change.window) if change.window else 0
        if change.undoes:
            memory.add_mark([change.undoes, What.UNDONE, window, _place(change)])
        elif change.lone:
            memory.add_mark([change.t, What.LONE, window, 0])
        elif what == What.EFFECT:
            memory.add_mark([change.t, what, window, _place(change)])
        else:
            memory.add_mark([change.t, what, window, change.node if what == What.FOCUS else 0])
        if proves and not change.window and not 0 < memory.answering_since <= change.t:
            memory.answering_since = change.t
            for open_due in memory.open_dues():
                _wake(memory, open_due)
        return ()

    def _on_click(self, memory: ClickMemory, click: Click, due: int) -> Sequence[Verdict]:
        flags = _flags(click)
        e = click.element or _NO_ELEMENT
        page = memory.page(click.page_url)
        details = [e.tag, e.id, e.classes[:MAX_TEXT], e.text[:MAX_TEXT], e.selector[:MAX_SELECTOR], e.component, page]
        lead = click.t - click.down if 0 < click.down <= click.t else -1
        window = memory.window(click.window) if click.window else 0
        memory.add_click([click.t, click.x, click.y, window, click.node, flags, lead, due, details])
        _wake(memory, self._look_at(memory, click.t, flags, due))
        return ()

    def _look_at(self, memory: ClickMemory, t: int, flags: int, due: int) -> int:
        """Return when to look at an open click: when it is due, if it may be a finding."""
        reach = (self.rage.min_clicks - 1) * self.rage.max_gap_ms
        may_be_found = (
            dead_click.judgeable(t, flags, answering_since=memory.answering_since, config=self.dead)
            or memory.clicks_between(t - reach, t + reach) >= self.rage.min_clicks
            or any(-error_click.EARLY_MS <= error[0] - t <= self.error.window_ms for error in memory.errors)
        )
        return due if may_be_found else due + LAZY_MS

    def _on_error(self, memory: ClickMemory, error: ScriptError, due: int) -> Sequence[Verdict]:
        message = error.message[:MAX_ERROR_MESSAGE]
        memory.add_error([error.t, fingerprint(error.message), message, Alone.UNKNOWN])
        if memory.clicks_between(error.t - self.error.window_ms, error.t + error_click.EARLY_MS):
            _wake(memory, due)
        return ()

    def on_time(self, memory: ClickMemory, moment: int) -> Sequence[Verdict]:
        """Judge the bursts that are over, in order of time: what comes before within reach is judged before."""
        found: list[Verdict] = []
        reach = max(self.rage.max_gap_ms, self.dead.repeat_ms, error_click.REPEAT_MS)
        clicks = known_clicks(memory.clicks if memory.errors else memory.open_clicks(reach))
        errors = error_click.own_errors(memory, clicks, config=self.error)
        blocked_until = 0
        for start, end in rage_click.bursts(clicks, self.rage):
            if clicks[start].t > blocked_until and all(clicks[at].due <= moment for at in range(start, end)):
                found += self._judge(clicks, start, end, memory, errors)
            else:
                blocked_until = clicks[end - 1].t + reach
        memory.prune()
        memory.wake = self._next_wake(memory, moment)
        return found

    def _next_wake(self, memory: ClickMemory, moment: int) -> int:
        opened = [row for row in memory.clicks if row[DUE]]
        later = [row for row in opened if row[DUE] > moment]
        lazy = len(later) == len(opened)  # else what is due waits for one of these
        times = (self._look_at(memory, row[T], row[FLAGS], row[DUE]) if lazy else row[DUE] for row in later)
        return min(times, default=0)

    def _judge(
        self,
        clicks: Sequence[KnownClick],
        start: int,
        end: int,
        memory: ClickMemory,
        errors: dict[int, list[list[Any]]],
    ) -> list[Verdict]:
        """Judge the burst clicks[start:end]."""
        burst = clicks[start:end]
        fresh = [at for at in range(start, end) if not clicks[at].has(Flag.SETTLED)]
        found: list[Verdict] = []
        for at in fresh:
            click = clicks[at]
            error = error_click.judge(click, errors[click.t], memory, config=self.error) if click.t in errors else None
            if error is not None:
                if not self._repeats(clicks, at, Flag.ERRED, error_click.REPEAT_MS):
                    found.append(error)
                click.mark(Flag.ERRED)
            if dead_click.judgeable(click.t, click.flags, answering_since=memory.answering_since, config=self.dead):
                found += self._judge_silence(clicks, at, memory)
        rage = rage_click.judge(burst, memory, config=self.rage) if fresh else None
        if rage is not None:
            found.append(rage)
        if fresh:
            burst[0].mark(Flag.FIRST)
        for click in burst:
            if rage is not None:
                click.mark(Flag.RAGED)
            click.settle()
        return found

    def _judge_silence(self, clicks: Sequence[KnownClick], at: int, memory: ClickMemory) -> list[Verdict]:
        """Judge a click by what did not follow it, or late."""
        click = clicks[at]
        # a recorded click elsewhere is known by its pointer-down already
        elsewhere = self._elsewhere(clicks, at) if click.has(Flag.STRUCTURED) else None
        silent_until = dead_click.silent_until(click, memory, elsewhere=elsewhere, config=self.dead)
        if silent_until is None:
            return []
        verdict, flag = None, Flag.SLOW
        if silent_until == click.t + self.dead.deadline_ms:
            verdict = slow_response.judge(click, memory, silent_until=silent_until, config=self.slow)
        if verdict is None:
            verdict, flag = dead_click.judge(click, memory, silent_until=silent_until, config=self.dead), Flag.DEAD
        if verdict is None:
            return []
        repeats = self._repeats(clicks, at, flag, self.dead.repeat_ms)
        click.mark(flag)
        return [] if repeats else [verdict]

    def _elsewhere(self, clicks: Sequence[KnownClick], at: int) -> int | None:
        """Return the time of the next click on another place."""
        click = clicks[at]
        later = (clicks[i] for i in range(at + 1, len(clicks)))
        return next((c.t for c in later if not c.near(click, self.dead.radius_px)), None)

    def _repeats(self, clicks: Sequence[KnownClick], at: int, flag: int, within_ms: int) -> bool:
        """Return whether a click on the same place shortly before has the flag already."""
        click = clicks[at]
        for i in range(at - 1, -1, -1):
            if click.t - clicks[i].t > within_ms:
                return False
            if clicks[i].has(flag) and clicks[i].near(click, self.dead.radius_px):
                return True
        return False

    def on_end(self, memory: ClickMemory) -> Sequence[Verdict]:
        """Judge every burst."""
        return self.on_time(memory, FOREVER)

    def wake_at(self, memory: ClickMemory) -> int:
        """Return when the next burst may be over."""
        return memory.wake


def _on_down(memory: ClickMemory, down: PointerDown, _due: int) -> Sequence[Verdict]:
    memory.add_mark([down.t, What.DOWN, memory.window(down.window), down.node])
    return ()


def _on_page_view(memory: ClickMemory, view: PageView, _due: int) -> Sequence[Verdict]:
    memory.add_mark([view.t, What.NAVIGATION, memory.window(view.window), 0])
    return ()


def _on_form_submit(memory: ClickMemory, submit: FormSubmit, _due: int) -> Sequence[Verdict]:
    memory.add_mark([submit.t, What.UNSEEN, memory.window(submit.window), 0])
    return ()


def _on_leave(memory: ClickMemory, leave: Leave, _due: int) -> Sequence[Verdict]:
    memory.add_mark([leave.t, What.UNKNOWN, memory.window(leave.window), 0])
    return ()


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
        flags |= Flag.UNJUDGED | (Flag.DRAWN if click.not_judged in _DRAWN else 0)
    return flags
