"""Form abandonment: the user began a form and did not send it.

At least `min_fields` fields of a form were changed, it was not submitted afterwards, and then the page was left or the
session ended. A page is left by a leave event or by a view of another path in the same window; a view of the same path
with another query or fragment may be the form's next step. Hiding a page is not leaving it. One finding per form and
page view; its time is the last touch.

A leave may become known after touches that came behind it, so recent touches are remembered one by one: each belongs to
the first leave after it. Of one field, those within a second are one, the first; of those that no leave can come
between any more, the first of each field and the last are enough.

Fields outside of a form are no form: who makes the signals names the form.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from schemas.signals import Element, FormSubmit, FormTouch, Leave, PageView
from stream_processors.analyze.detectors.detector import FOREVER, Handler, in_turn
from stream_processors.analyze.detectors.thresholds import switch, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

SUBMIT_GRACE_MS = 1000
"""A submit may be told shortly after the leave that it causes."""

MAX_FORMS = 16
"""Forms touched and not settled; the one touched longest ago is let go."""

MAX_FIELDS = 30
"""Names of fields remembered of a form, and told."""

SAME_TOUCH_MS = 1000
"""An SDK tells of each key; nobody leaves a page and is back in its form within a second."""

MAX_TOUCHES = 64
"""Latest touches remembered of a form, 20 bytes each besides the name of the field."""

KEEP_MS = 30_000
"""Event time within which a touch or a leave may still come late."""

MAX_LEAVES = 32
"""Leaves that wait, 30 bytes each: SDK and recording tell of up to four when one page follows another."""

_DUE = 2
"""Where a leave holds its due time."""

_TOUCHES = 4
"""Where a form holds its touches."""


@dataclass(frozen=True, slots=True)
class FormAbandonmentConfig:
    """Thresholds of form abandonment."""

    enabled: bool = switch()
    min_fields: int = whole(1, low=1, high=100)


@dataclass(slots=True)
class FormMemory:
    """Forms that were touched, submits, and the moments at which pages were left."""

    forms: list[list[Any]] = field(default_factory=list)
    """window, form, page_url, its path (hashed), touches: t and name of the field each, in order."""
    submits: list[list[Any]] = field(default_factory=list)
    """t, window, bare name of the form."""
    leaves: list[list[Any]] = field(default_factory=list)
    """t, window, due, path of the page that came (hashed; 0 for a leave event)."""
    left: dict[str, int] = field(default_factory=dict)
    """When a touched form was last left, by window: a touch from before is too late."""
    wake: int = 0

    def __post_init__(self) -> None:
        self.forms = [form if isinstance(form[_TOUCHES], list) else _of_format_2(form) for form in self.forms]


@dataclass(frozen=True, slots=True)
class FormAbandonmentDetector:
    """The rule with its thresholds."""

    config: FormAbandonmentConfig = FormAbandonmentConfig()

    memory = FormMemory

    def handlers(self) -> Mapping[type[Any], Handler]:
        """Touches and submits of forms, and what leaves their page."""
        if not self.config.enabled:
            return {}
        return {FormTouch: _on_touch, FormSubmit: _on_submit, Leave: _on_leave, PageView: _on_page_view}

    def on_time(self, memory: FormMemory, moment: int) -> Sequence[Verdict]:
        """Judge the forms whose page was left."""
        found: list[Verdict] = []
        waiting = []
        for leave, due in in_turn(memory.leaves, _DUE):
            if due > moment:
                waiting.append(leave)
                continue
            t, left = leave[0], []
            for form in memory.forms:
                if _leaves(form, leave):
                    *what, touches = form
                    left.append([*what, [touch for touch in touches if touch[0] <= t]])
                    form[_TOUCHES] = [touch for touch in touches if touch[0] > t]
                    memory.left[form[0]] = max(t, memory.left.get(form[0], 0))
            memory.forms = [form for form in memory.forms if form[_TOUCHES]]
            found += [verdict for form in _told_once(left) if (verdict := self._judge(memory, form, t))]
        memory.leaves = waiting
        while len(memory.left) > MAX_FORMS:
            del memory.left[next(iter(memory.left))]
        _set_wake(memory)
        return found

    def on_end(self, memory: FormMemory) -> Sequence[Verdict]:
        """Judge what is left: the end of the session leaves every page."""
        found = list(self.on_time(memory, FOREVER))
        left = _told_once(memory.forms)
        return found + [verdict for form in left if (verdict := self._judge(memory, form, form[_TOUCHES][-1][0]))]

    def _judge(self, memory: FormMemory, form: list[Any], left: int) -> Verdict | None:
        window, name, page_url, _, touches = form
        first, last = touches[0][0], touches[-1][0]
        fields = sorted({field for _, field in touches})[:MAX_FIELDS]
        if len(fields) < self.config.min_fields or any(
            first <= t <= left + SUBMIT_GRACE_MS and _same(window, where) and what in ("", _bare(name))
            for t, where, what in memory.submits
        ):
            return None
        return Verdict(
            kind=FindingKind.FORM_ABANDONMENT,
            t=last,
            trigger=f"{_bare(name)}/{page_url}/{first}",
            severity=Severity.MEDIUM,
            page_url=page_url,
            element=Element(tag="form", selector=name),
            evidence={"fields": len(fields), "field_names": fields, "spent_ms": last - first},
        )

    def wake_at(self, memory: FormMemory) -> int:
        """Return when the first leave is due that leaves a form."""
        return memory.wake


def _on_touch(memory: FormMemory, touch: FormTouch, _due: int) -> Sequence[Verdict]:
    if touch.t <= memory.left.get(touch.window, 0):
        return ()
    what = [touch.window, touch.form, touch.page_url]
    form = next((form for form in memory.forms if form[:3] == what), None)
    if form is None:
        memory.forms.append([*what, _path(touch.page_url), [[touch.t, touch.field]]])
        if len(memory.forms) > MAX_FORMS:
            memory.forms.remove(min(memory.forms, key=lambda form: form[_TOUCHES][-1][0]))
    else:
        floor = min((form[_TOUCHES][-1][0] - KEEP_MS, *(leave[0] for leave in memory.leaves)))
        form[_TOUCHES] = _needed(_with_touch(form[_TOUCHES], [touch.t, touch.field]), floor)
    _set_wake(memory)
    return ()


def _with_touch(touches: Sequence[list[Any]], touch: list[Any]) -> list[list[Any]]:
    """Return the touches and one more; of those that are one, the first."""
    t, field = touch
    same = next((one for one in touches if one[1] == field and one[0] // SAME_TOUCH_MS == t // SAME_TOUCH_MS), touch)
    return sorted([min(same, touch), *(other for other in touches if other is not same)])


def _needed(touches: Sequence[list[Any]], floor: int) -> list[list[Any]]:
    """Return the touches from `floor` on, and of those before the first of each field and the last."""
    floor = max(floor, touches[-MAX_TOUCHES:][0][0])
    old = [touch for touch in touches if touch[0] < floor]
    firsts: dict[str, list[Any]] = {}
    for touch in old:
        if len(firsts) < MAX_FIELDS:
            firsts.setdefault(touch[1], touch)
    needed = [touch for touch in old if touch is firsts.get(touch[1]) or touch is old[-1]]
    return [*needed, *touches[len(old) :]]


def _of_format_2(form: list[Any]) -> list[Any]:
    """Return a form of a state that kept the first touch, the last, and the names of the fields."""
    *what, first, last, fields = form
    return [*what, sorted([*([first, field] for field in fields), [last, fields[0]]])]


def _on_submit(memory: FormMemory, submit: FormSubmit, _due: int) -> Sequence[Verdict]:
    row = [submit.t, submit.window, _bare(submit.form)]
    if row not in memory.submits:
        memory.submits.append(row)
        memory.submits.sort()
    del memory.submits[:-MAX_FORMS]
    return ()


def _on_leave(memory: FormMemory, leave: Leave, due: int) -> Sequence[Verdict]:
    if not leave.hidden:
        _leave(memory, leave.t, leave.window, due, 0)
    return ()


def _on_page_view(memory: FormMemory, view: PageView, due: int) -> Sequence[Verdict]:
    _leave(memory, view.t, view.window, due, _path(view.url))
    return ()


def _told_once(forms: Sequence[list[Any]]) -> list[list[Any]]:
    """Put together what an SDK (which knows no window) and a recording tell of one form."""
    told: dict[tuple[str, str], list[list[Any]]] = {}
    for form in sorted(forms, key=lambda form: (form[0] == "", form)):
        others = told.setdefault((_bare(form[1]), form[2]), [])
        if form[0] == "" and others:
            *what, touches = others[0]
            others[0] = [*what, sorted([*touches, *form[_TOUCHES]])]
        else:
            others.append(form)
    return [form for others in told.values() for form in others]


def _bare(name: str) -> str:
    """Return a form's name without what marks it as an id: an SDK may say `signup`, a recording `#signup`."""
    return name.removeprefix("#")


def _leave(memory: FormMemory, t: int, window: str, due: int, path: int) -> None:
    if any(leave[0] == t and leave[1] == window and leave[3] == path for leave in memory.leaves):
        return
    memory.leaves.append([t, window, due, path])
    memory.leaves.sort()
    floor = memory.leaves[-1][0] - KEEP_MS
    memory.leaves = [
        leave
        for leave in memory.leaves[-MAX_LEAVES:]
        if leave[0] > floor or any(_leaves(form, leave) for form in memory.forms)
    ]
    if memory.forms:
        _set_wake(memory)


def _set_wake(memory: FormMemory) -> None:
    leaving = (due for leave, due in in_turn(memory.leaves, _DUE) if any(_leaves(form, leave) for form in memory.forms))
    memory.wake = next(leaving, 0)


def _leaves(form: list[Any], leave: list[Any]) -> bool:
    """Return whether a form was left: by a leave event, or by going to another path."""
    t, window, _, path = leave
    return bool(form[_TOUCHES][0][0] <= t and _same(form[0], window) and path != form[3])


def _same(window: str, other: str) -> bool:
    return window == other or not window or not other


def _path(url: str) -> int:
    """Return a number that tells pages apart by host and path; never 0."""
    try:
        parts = urlsplit(url)
        page = parts.netloc + (parts.path or "/")
    except ValueError:
        page = url
    return zlib.crc32(page.encode("utf-8", "replace")) or 1
