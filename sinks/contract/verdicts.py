"""What is said about a record or a row, and what stops a sink."""

from dataclasses import dataclass, field

from schemas.reasons import Reason


class RecordRefused(Exception):
    """The record cannot be used as a whole: it is parked with `reason`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SinkHalted(Exception):
    """Going on would lose or corrupt data, and a restart will not help: the message says what a person has to do."""


Owner = tuple[str, str]
"""Project and session."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one row of a record, or the whole record (index -1), is parked."""

    reason: Reason
    detail: str = ""
    index: int = -1


@dataclass(slots=True)
class NewRows:
    """Sessions and recordings whose rows a transaction made: what the owner of their project pays for."""

    sessions: set[Owner] = field(default_factory=set)
    recordings: set[Owner] = field(default_factory=set)
