"""Errors: script errors and unhandled rejections, told apart by the fingerprint of their message.

A structured error is a row of `traceflow_events` already: its finding feeds the UX issues only, and is made at once. An
error known from a recording alone needs a row, and waits until the structured one has had the time to come: the same
fingerprint within `TWIN_MS` is the same error, and counts once. Recorded errors of one fingerprint, each at most
`REPEAT_MS` after the last, are one finding, because a loop writes the console full; the first of them decides. How long
the loop is nobody can know by then, so the finding does not say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.signals import ScriptError
from stream_processors.analyze.detectors.detector import FOREVER, Handler
from stream_processors.analyze.detectors.fingerprint import fingerprint
from stream_processors.analyze.detectors.thresholds import switch
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

TWIN_MS = 2000
REPEAT_MS = 1000

MAX_KNOWN = 64
"""Errors remembered of either kind, 30 bytes each: a twin comes within a flush or two."""

MAX_PENDING = 16
"""Recorded errors that wait, up to 6 kB each; a page that makes more within 13 s repeats itself."""

MAX_MESSAGE = 2000
MAX_STACK = 2000


@dataclass(frozen=True, slots=True)
class ErrorConfig:
    """Thresholds of errors."""

    enabled: bool = switch()


@dataclass(slots=True)
class ErrorMemory:
    """Errors known by time and fingerprint, and the recorded ones that wait."""

    structured: list[list[Any]] = field(default_factory=list)
    recorded: list[list[Any]] = field(default_factory=list)
    """The latest of each loop."""
    pending: list[list[Any]] = field(default_factory=list)
    """First t, fingerprint, due, message, stack, page_url, last t; sorted."""
    reported: list[list[Any]] = field(default_factory=list)
    """Recorded errors that were given a row."""


@dataclass(frozen=True, slots=True)
class ErrorDetector:
    """The rule with its thresholds."""

    config: ErrorConfig = ErrorConfig()

    memory = ErrorMemory

    def handlers(self) -> Mapping[type[Any], Handler]:
        """Errors only."""
        return {ScriptError: self._on_error} if self.config.enabled else {}

    def _on_error(self, memory: ErrorMemory, signal: ScriptError, due: int) -> Sequence[Verdict]:
        mark = fingerprint(signal.message)
        if not signal.event_id:
            _hold_back(memory, signal, mark, due)
            return ()
        _remember(memory.structured, signal.t, mark)
        if _known(memory.reported, signal.t, signal.t, mark, TWIN_MS):
            return ()
        return [
            Verdict(
                kind=FindingKind.ERROR,
                t=signal.t,
                trigger=signal.event_id,
                severity=Severity.MEDIUM,
                page_url=signal.page_url,
                error_message=signal.message,
                error_stack=signal.stack,
                evidence={"fingerprint": mark, "source": "event"},
                event_row=False,
            )
        ]

    def on_time(self, memory: ErrorMemory, moment: int) -> Sequence[Verdict]:
        """Report the recorded errors whose structured twin has not come."""
        found: list[Verdict] = []
        for first, mark, due, message, stack, page_url, last, *_ in memory.pending:
            if due > moment:
                continue
            repeated = _known(memory.recorded, first, last, mark, REPEAT_MS)
            _remember(memory.recorded, last, mark)
            if repeated or _known(memory.structured, first, first, mark, TWIN_MS):
                continue
            _remember(memory.reported, first, mark)
            found.append(
                Verdict(
                    kind=FindingKind.ERROR,
                    t=first,
                    trigger=f"{first}/{mark}",
                    severity=Severity.MEDIUM,
                    page_url=page_url,
                    error_message=message,
                    error_stack=stack,
                    evidence={"fingerprint": mark, "source": "recording"},
                )
            )
        memory.pending = [row for row in memory.pending if row[2] > moment]
        return found

    def on_end(self, memory: ErrorMemory) -> Sequence[Verdict]:
        """Report every recorded error that is left."""
        return self.on_time(memory, FOREVER)

    def wake_at(self, memory: ErrorMemory) -> int:
        """Return when the first recorded error is due."""
        return min((row[2] for row in memory.pending), default=0)


def _hold_back(memory: ErrorMemory, error: ScriptError, mark: str, due: int) -> None:
    """Keep a recorded error; one that repeats others becomes one with them."""
    message, stack = error.message[:MAX_MESSAGE], error.stack[:MAX_STACK]
    row: list[Any] = [error.t, mark, due, message, stack, error.page_url, error.t]
    others = []
    for other in memory.pending:
        if other[1] == mark and row[0] - other[6] <= REPEAT_MS and other[0] - row[6] <= REPEAT_MS:
            early = min(row, other)
            row = [early[0], mark, min(row[2], other[2]), *early[3:6], max(row[6], other[6])]
        else:
            others.append(other)
    memory.pending = sorted([*others, row])[-MAX_PENDING:]


def _remember(rows: list[list[Any]], t: int, mark: str) -> None:
    rows.append([t, mark])
    rows.sort()
    del rows[:-MAX_KNOWN]


def _known(rows: Sequence[list[Any]], first: int, last: int, mark: str, within_ms: int) -> bool:
    return any(row[1] == mark and first - within_ms <= row[0] <= last + within_ms for row in rows)
