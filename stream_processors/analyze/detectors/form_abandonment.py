"""Form abandonment: the user began a form and did not send it.

At least `min_fields` fields of a form were changed, it was not submitted afterwards, and then the page was left or the
session ended. A page is left by a leave event or by a view of another path in the same window; a view of the same path
with another query or fragment may be the form's next step. Hiding a page is not leaving it. One finding per form and
page view; its time is the last touch.

Fields outside of a form are no form: who makes the signals names the form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from schemas.signals import Element, FormSubmit, FormTouch, Leave, PageView, Signal
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.thresholds import switch, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

SUBMIT_GRACE_MS = 1000
"""A submit may be told shortly after the leave that it causes."""

MAX_FORMS = 16
"""Forms touched and not settled; the one touched longest ago is let go."""

MAX_FIELDS = 30
"""Names of fields remembered of a form."""

MAX_LEAVES = 16


@dataclass(frozen=True, slots=True)
class FormAbandonmentConfig:
    """Thresholds of form abandonment."""

    enabled: bool = switch()
    min_fields: int = whole(1, low=1, high=100)


@dataclass(slots=True)
class FormMemory:
    """Forms that were touched, submits, and the moments at which pages were left."""

    forms: list[list[Any]] = field(default_factory=list)
    """window, form, page_url, first touch, last touch, names of fields."""
    submits: list[list[Any]] = field(default_factory=list)
    """t, window, form."""
    leaves: list[list[Any]] = field(default_factory=list)
    """t, window, due, page that came (empty for a leave event)."""
    left: dict[str, int] = field(default_factory=dict)
    """When a touched form was last left, by window: a touch from before is too late."""


@dataclass(frozen=True, slots=True)
class FormAbandonmentDetector:
    """The rule with its thresholds."""

    config: FormAbandonmentConfig = FormAbandonmentConfig()

    memory = FormMemory
    signals = (FormTouch, FormSubmit, Leave, PageView)

    def on_signal(self, memory: FormMemory, signal: Signal, *, due: int) -> Sequence[Verdict]:
        """Take note of a touch, a submit or a leave."""
        if not self.config.enabled:
            return ()
        match signal:
            case FormTouch():
                _touch(memory, signal)
            case FormSubmit():
                memory.submits.append([signal.t, signal.window, signal.form])
                memory.submits.sort()
                del memory.submits[:-MAX_FORMS]
            case Leave() if not signal.hidden:
                _leave(memory, signal.t, signal.window, due, "")
            case PageView():
                _leave(memory, signal.t, signal.window, due, _path(signal.url))
            case _:
                pass
        return ()

    def on_time(self, memory: FormMemory, moment: int) -> Sequence[Verdict]:
        """Judge the forms whose page was left."""
        found: list[Verdict] = []
        for t, window, due, path in memory.leaves:
            if due > moment:
                continue
            for form in [form for form in memory.forms if _leaves(form, t, window, path)]:
                found += self._judge(memory, form, t)
                memory.left[form[0]] = max(t, memory.left.get(form[0], 0))
                memory.forms.remove(form)
                if form[4] > t:
                    memory.forms.append([*form[:3], form[4], form[4], form[5]])
        memory.leaves = [row for row in memory.leaves if row[2] > moment]
        while len(memory.left) > MAX_FORMS:
            del memory.left[next(iter(memory.left))]
        return found

    def on_end(self, memory: FormMemory) -> Sequence[Verdict]:
        """Judge what is left: the end of the session leaves every page."""
        found = list(self.on_time(memory, FOREVER))
        for form in memory.forms:
            found += self._judge(memory, form, form[4])
        return found

    def _judge(self, memory: FormMemory, form: list[Any], left: int) -> list[Verdict]:
        window, name, page_url, first, last, fields = form
        if len(fields) < self.config.min_fields or any(
            first <= t <= max(left, last) + SUBMIT_GRACE_MS and _same(window, where) and what in ("", name)
            for t, where, what in memory.submits
        ):
            return []
        return [
            Verdict(
                kind=FindingKind.FORM_ABANDONMENT,
                t=min(last, left),
                trigger=f"{name}/{page_url}/{first}",
                severity=Severity.MEDIUM,
                page_url=page_url,
                element=Element(tag="form", selector=name),
                evidence={"fields": len(fields), "field_names": sorted(fields), "spent_ms": min(last, left) - first},
            )
        ]

    def wake_at(self, memory: FormMemory) -> int:
        """Return when the first leave is due that leaves a form."""
        return min(
            (
                due
                for t, window, due, path in memory.leaves
                if any(_leaves(form, t, window, path) for form in memory.forms)
            ),
            default=0,
        )


def _touch(memory: FormMemory, touch: FormTouch) -> None:
    if touch.t <= memory.left.get(touch.window, 0):
        return
    for form in memory.forms:
        if form[:3] == [touch.window, touch.form, touch.page_url]:
            form[3], form[4] = min(form[3], touch.t), max(form[4], touch.t)
            if touch.field not in form[5] and len(form[5]) < MAX_FIELDS:
                form[5] = sorted([*form[5], touch.field])
            return
    memory.forms.append([touch.window, touch.form, touch.page_url, touch.t, touch.t, [touch.field]])
    if len(memory.forms) > MAX_FORMS:
        memory.forms.remove(min(memory.forms, key=lambda form: form[4]))


def _leave(memory: FormMemory, t: int, window: str, due: int, path: str) -> None:
    memory.leaves.append([t, window, due, path])
    memory.leaves.sort()
    del memory.leaves[:-MAX_LEAVES]


def _leaves(form: list[Any], t: int, window: str, path: str) -> bool:
    """Return whether the page with this form was left at `t`, by going to `path` or by a leave event."""
    return bool(form[3] <= t and _same(form[0], window) and (not path or path != _path(form[2])))


def _same(window: str, other: str) -> bool:
    return window == other or not window or not other


def _path(url: str) -> str:
    """Return what tells pages apart: host and path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return parts.netloc + (parts.path or "/")
