"""Error clicks: a click that set off a script error.

An error belongs to the last click before it, if that is at most `window_ms` earlier; handlers of pointer-down fail
shortly before the click event, so `EARLY_MS` of grace. An error that had come although nobody had clicked, at least
`IDLE_TIMES` times before the click, is the page's own (a poll, a timer) and no click's. What comes by itself afterwards
says nothing: it may go on because of the click. Clicks on one place, each at most `REPEAT_MS` after the last, are one
finding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream_processors.analyze.detectors.click_memory import ClickMemory
from stream_processors.analyze.detectors.click_rows import ALONE, Alone
from stream_processors.analyze.detectors.known_click import KnownClick
from stream_processors.analyze.detectors.thresholds import switch, whole
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

EARLY_MS = 100
"""A person holds the button for 55 to 115 ms."""

IDLE_TIMES = 2
REPEAT_MS = 1000


@dataclass(frozen=True, slots=True)
class ErrorClickConfig:
    """Thresholds of error clicks."""

    enabled: bool = switch()
    window_ms: int = whole(2000, low=100, high=30_000)


def owner(t: int, clicks: Sequence[KnownClick], config: ErrorClickConfig) -> KnownClick | None:
    """Return the click that an error at `t` belongs to; `clicks` are in order of time."""
    found = None
    for click in clicks:
        if click.t > t + EARLY_MS:
            break
        found = click
    return found if found is not None and t - found.t <= config.window_ms else None


def own_errors(
    memory: ClickMemory, clicks: Sequence[KnownClick], *, config: ErrorClickConfig
) -> dict[int, list[list[Any]]]:
    """Return the errors of each click by its time, and note of each error whether it has a click."""
    own: dict[int, list[list[Any]]] = {}
    for error in memory.errors:
        click = owner(error[0], clicks, config)
        if click is not None:
            own.setdefault(click.t, []).append(error)
            error[ALONE] = Alone.NO
        elif error[ALONE] == Alone.UNKNOWN:
            error[ALONE] = Alone.YES
    return own


def judge(
    click: KnownClick, errors: Sequence[list[Any]], memory: ClickMemory, *, config: ErrorClickConfig
) -> Verdict | None:
    """Judge a click by the errors that belong to it, in order of time."""
    if not config.enabled:
        return None
    own = [error for error in errors if memory.idle_errors(error[1], click.t) < IDLE_TIMES]
    if not own:
        return None
    t, fingerprint, message, _ = own[0]
    return Verdict(
        kind=FindingKind.ERROR_CLICK,
        t=click.t,
        trigger=f"{click.t}/{click.x}/{click.y}",
        severity=Severity.HIGH,
        page_url=memory.pages[click.page],
        element=click.element,
        position=(click.x, click.y) if click.placed else None,
        error_message=message,
        evidence={"error_after_ms": t - click.t, "errors": len(own), "fingerprint": fingerprint},
    )
