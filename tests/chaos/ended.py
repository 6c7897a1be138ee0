"""Which process of a run ended by itself, how, and what it gave as its reason: read from what the processes said."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.runtime.restart import describe_exit

_LAST_LINES = 5
"""A process that gives a reason says little afterwards: that it has stopped, and with which code."""
_GAVE_UP = re.compile(r"^traceflow: (?P<name>(?P<role>[a-z]+)(?:-\d+)?) ended with exit (?P<code>\d+): ")
"""The last word of `traceflow up` (`deploy.runtime.supervisor`), when a service asks for a person."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended, and should not have."""

    role: str
    """Its service; `traceflow up` itself if none is known."""
    name: str
    code: int | None
    """Its exit code, negative for a signal; None if nobody told."""
    reason: str
    """The line that gave the reason; its last one if none did."""

    @property
    def line(self) -> str:
        """Say it, with the place in front."""
        how = "has ended" if self.code is None else describe_exit(self.code)
        return f"{self.role}: {self.name} {how}: {self.reason or 'it wrote nothing'}"


def end_of_system(log: str) -> Ended:
    """Read from the whole log of `traceflow up` which service ended it."""
    lines = log.splitlines()
    told = next(filter(None, map(_GAVE_UP.match, reversed(lines))), None)
    if told is None:
        return Ended("traceflow up", "nobody says which service", None, reason_in(lines))
    own = [
        said for name, bar, said in (line.partition(" | ") for line in lines) if bar and name.strip() == told["name"]
    ]
    return Ended(told["role"], told["name"], int(told["code"]), reason_in(own))


def reason_in(lines: Sequence[str]) -> str:
    """Return the last of a process's last lines that gives a reason, or its last line."""
    last = [line for line in lines if line.strip()][-_LAST_LINES:]
    return next((line for line in reversed(last) if " reason=" in line), last[-1] if last else "")
