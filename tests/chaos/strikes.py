"""Carry out a schedule, and keep the log of what struck, whom, and with what effect."""

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
import psycopg

from tests.chaos.ended import Ended
from tests.chaos.faults import Strike
from tests.chaos.inject import End, Failed, Injector, Missed, NotYet

END_DEADLINE_S = 60.0
"""How long the end of a fault is tried: a server that was taken away has to be back first."""
_POLL_S = 0.1


@dataclass(slots=True)
class FaultLog:
    """What happened; also a file with a line for each fault, written when it has ended."""

    file: Path | None = None
    struck: list[tuple[Strike, str]] = field(default_factory=list)
    missed: list[tuple[Strike, str]] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    """Workers that a fault ended as no fault may."""

    def note(self, strike: Strike, said: str, *, missed: bool) -> None:
        """Write a fault down."""
        (self.missed if missed else self.struck).append((strike, said))
        if self.file is not None:
            line = orjson.dumps({**asdict(strike), "missed" if missed else "did": said})
            with self.file.open("ab") as out:
                out.write(line + b"\n")

    def counts(self) -> list[tuple[str, str, int, int]]:
        """Return victim, fault, how often it struck and how often it missed, in order of their names."""
        struck = Counter((strike.role, str(strike.fault)) for strike, _ in self.struck)
        missed = Counter((strike.role, str(strike.fault)) for strike, _ in self.missed)
        return [(*name, struck[name], missed[name]) for name in sorted(struck | missed)]


def carry_out(
    strikes: Sequence[Strike], injector: Injector, log: FaultLog, *, go_on: Callable[[], bool] = lambda: True
) -> None:
    """Let faults strike and end at their moments, and return when all have ended.

    Call it on the main thread, which is what processes are tied to. Once `go_on` says no, no more strike.
    """
    began = time.monotonic()
    waiting = deque(strikes)
    lasting: list[tuple[float, int, Strike, End]] = []
    while waiting or lasting:
        now_s = time.monotonic() - began
        if not go_on():
            waiting.clear()
        if waiting and waiting[0].at_s <= now_s:
            strike = waiting.popleft()
            if (end := _begin(strike, injector, log)) is not None:
                heapq.heappush(lasting, (now_s + strike.lasts_s, id(end), strike, end))
        elif lasting and lasting[0][0] <= now_s:
            _, _, strike, end = heapq.heappop(lasting)
            try:
                _end(strike, end, log)
            except NotYet:
                heapq.heappush(lasting, (now_s + 1.0, id(end), strike, end))
        else:
            time.sleep(_POLL_S)


def _begin(strike: Strike, injector: Injector, log: FaultLog) -> End | None:
    try:
        return injector.begin(strike)
    except Missed as error:
        log.note(strike, str(error), missed=True)
        return None


def _end(strike: Strike, end: End, log: FaultLog) -> None:
    ends_at = time.monotonic() + END_DEADLINE_S
    while True:
        try:
            log.note(strike, end(), missed=False)
        except Missed as error:
            log.note(strike, str(error), missed=True)
        except Failed as error:
            log.note(strike, str(error), missed=False)
            log.ends.append(error.ended)
        except psycopg.Error:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.5)
            continue
        return
