"""What a detector says: a finding before it has an id and an owner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.signals import Element


class FindingKind(StrEnum):
    """The kinds of findings, which are also event types of their rows."""

    ERROR = "error"
    RAGE_CLICK = "rage_click"
    ERROR_CLICK = "error_click"
    FORM_ABANDONMENT = "form_abandonment"
    DEAD_CLICK = "dead_click"
    SLOW_LOAD = "slow_load"
    QUICK_BACK = "quick_back"
    THRASHED_CURSOR = "thrashed_cursor"


class Severity(StrEnum):
    """How much a finding hurts the user; each detector says by which rule."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One finding of a detector."""

    kind: FindingKind
    t: int
    """Event time of what set it off, epoch ms."""
    trigger: str
    """Names what set it off, unique within session and kind, and the same on every replay: the id is made of it."""
    severity: Severity
    page_url: str = ""
    element: Element | None = None
    position: tuple[int, int] | None = None
    """x and y of the click, CSS px; None if unknown."""
    error_message: str = ""
    error_stack: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that made the rule say so."""
    event_row: bool = True
    """False if the event that set it off is already a row of `traceflow_events`."""
