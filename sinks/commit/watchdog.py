"""End a process whose sink stands still without saying why: a thread that looks at the sinks from outside.

A sink stands still if the broker has records that wait in a partition of its own, the partition is stored no further,
and no try has failed meanwhile. A try that fails says in the log what it waits for and is made again, for as long as it
takes: that is no standstill. Neither is a database that does not answer at all, or that is at work for the sink, so it
is asked before the end; its own timeout bounds a statement. A broker that does not answer cannot say that records wait.

Ending the process is safe at any moment: what is not in with its offset is read again. It is also the only thing that
ends a thread that hangs.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

CHECK_S = 10.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a partition may stand still while records wait, seconds."""

    ready_s: float = 20.0
    """Then the process is not ready; a batch takes less than 1 s, taking over a frozen owner's partition 12 s."""
    alive_s: float = 60.0
    """Then it ends, if the database is not what it waits for."""


class Standing(NamedTuple):
    """A sink at a moment."""

    positions: Mapping[int, int]
    """By partition that the group gave it: the offset that is stored next, 0 until the partition is taken over."""
    failures: int
    """Tries that failed and were repeated, since its start."""


class Wait(NamedTuple):
    """A partition with records that wait."""

    position: int
    failures: int
    since_s: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which partitions of a sink stand still, since when; a policy that is given the time."""

    waits: Mapping[int, Wait] = field(default_factory=dict)

    def look(self, standing: Standing, ends: Mapping[int, int], *, now_s: float) -> "Judgement":
        """Return the judgement after a look; `ends` says which offset the broker gives next, where it answers."""
        waits = {}
        for part, position in standing.positions.items():
            if position < ends.get(part, 0):
                seen = self.waits.get(part)
                is_same = seen is not None and seen[:2] == (position, standing.failures)
                waits[part] = seen if seen is not None and is_same else Wait(position, standing.failures, now_s)
        return Judgement(waits)

    def standstill(self, *, now_s: float, patience_s: float) -> str | None:
        """Return which partition has stood still for longer than the patience, or None."""
        for part, wait in sorted(self.waits.items()):
            if now_s - wait.since_s > patience_s:
                return f"stands at {wait.position} in partition {part} while records wait"
        return None


@dataclass(frozen=True, slots=True)
class Watched:
    """A sink under watch."""

    standing: Callable[[], Standing]
    ends: Callable[[], Mapping[int, int]]
    """The offset that the broker gives next in each partition of its topic; nothing while it does not answer."""
    waits_for_database: Callable[[], bool]
    """Whether the database does not answer, or is at work for the sink."""


class Watchdog:
    """Looks at the sinks of a process until it is closed, or one of them has to end."""

    def __init__(
        self,
        sinks: Mapping[str, Watched],
        *,
        end: Callable[[str, str], object],
        clock: Callable[[], float],
        patience: Patience | None = None,
        check_s: float = CHECK_S,
    ) -> None:
        self._sinks = sinks
        self._end = end
        self._clock = clock
        self._patience = patience or Patience()
        self._check_s = check_s
        self._judgements: dict[str, Judgement] = {name: Judgement() for name in sinks}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; a look that is under way may go on for a while."""
        self._closing.set()

    def reasons(self) -> list[str]:
        """Return which sinks stand still, for the readiness of the process."""
        now_s, patience_s = self._clock(), self._patience.ready_s
        found = {
            name: judgement.standstill(now_s=now_s, patience_s=patience_s)
            for name, judgement in self._judgements.items()
        }
        return [f"sink {name} {reason}" for name, reason in found.items() if reason]

    def _run(self) -> None:
        while not self._closing.wait(self._check_s):
            for name, watched in self._sinks.items():
                self._look(name, watched)

    def _look(self, name: str, watched: Watched) -> None:
        standing = watched.standing()
        ends = watched.ends() if standing.positions else {}
        now_s = self._clock()
        judgement = self._judgements[name].look(standing, ends, now_s=now_s)
        reason = judgement.standstill(now_s=now_s, patience_s=self._patience.alive_s)
        if reason and watched.waits_for_database():
            judgement, reason = Judgement(), None
        self._judgements[name] = judgement
        if reason and not self._closing.is_set():
            self._end(name, reason)
