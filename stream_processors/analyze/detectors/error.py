"""Errors: script errors and unhandled rejections, told apart by the fingerprint of their message.

A structured error is a row of `traceflow_events` already: its finding feeds the UX issues only, and is made at once. An
error known from a recording alone needs a row, and waits until the structured one has had the time to come: the same
fingerprint within `TWIN_MS` is the same error, and counts once. Recorded errors of one fingerprint, each at most
`REPEAT_MS` after the last, are one finding, because a loop writes the console full.
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

MAX_PENDING = 32
"""Recorded errors that wait, up to 2.5 kB each; a page that makes more within 13 s repeats itself."""

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
    pending: list[list[Any]] = field(default_factory=list)
    """t, fingerprint, due, message, stack, page_url."""


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
            memory.pending.append(
                [signal.t, mark, due, signal.message[:MAX_MESSAGE], signal.stack[:MAX_STACK], signal.page_url]
            )
            memory.pending.sort(key=lambda row: (row[0], row[1]))
            del memory.pending[:-MAX_PENDING]
            return ()
        _remember(memory.structured, signal.t, mark)
        if _known(memory.recorded, signal.t, mark, TWIN_MS):
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
        for t, mark, due, message, stack, page_url in memory.pending:
            if due > moment:
                continue
            repeated = _known(memory.recorded, t, mark, REPEAT_MS)
            _remember(memory.recorded, t, mark)
            if repeated or _known(memory.structured, t, mark, TWIN_MS):
                continue
            found.append(
                Verdict(
                    kind=FindingKind.ERROR,
                    t=t,
                    trigger=f"{t}/{mark}",
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


def _remember(rows: list[list[Any]], t: int, mark: str) -> None:
    rows.append([t, mark])
    rows.sort()
    del rows[:-MAX_KNOWN]


def _known(rows: Sequence[list[Any]], t: int, mark: str, within_ms: int) -> bool:
    return any(row[1] == mark and abs(row[0] - t) <= within_ms for row in rows)
