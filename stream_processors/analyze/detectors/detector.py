"""The contract of a detector: a rule with its thresholds, apart from what it remembers of a session.

A detector is a frozen object that many sessions share; its memory is a plain record that travels in the session's
state. It judges on event time and settles on log time: a signal is judged when the log has passed its `due`, so that
what belongs to it has had the time to arrive, and no sooner than what happened before it. So the verdicts depend on the
set of signals known by then, not on the order in which they came.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from stream_processors.analyze.detectors.verdict import Verdict

M = TypeVar("M")

Handler = Callable[..., Sequence[Verdict]]
"""`handler(memory, signal, due)` takes note of a signal, and returns what that alone decides; `due` is the log time at
which it may be judged."""

FOREVER = 1 << 62
"""Later than every due time: settling everything."""


class Detector(Protocol[M]):
    """One rule, or several over a shared memory; `M` is that memory, which the methods may change in place."""

    @property
    def memory(self) -> type[M]:
        """The type of the memory: a dataclass of plain JSON values; without arguments it is that of a new session."""

    def handlers(self) -> Mapping[type[Any], Handler]:
        """Return what to call for each type of signal that it wants to see."""

    def on_time(self, memory: M, moment: int) -> Sequence[Verdict]:
        """Judge what is due at `moment`, log time in epoch ms."""

    def on_end(self, memory: M) -> Sequence[Verdict]:
        """Judge everything: the session is over. The memory is not used again."""

    def wake_at(self, memory: M) -> int:
        """Return the log time at which `on_time` may have something to say; 0 for never."""


def in_turn(rows: Iterable[list[Any]], due: int) -> Iterator[tuple[list[Any], int]]:
    """Yield rows, which are in order of event time, with the log time at which each may be judged.

    That is when it is due and so is all that happened before it: what comes first is judged first, whatever came first
    in the log. `due` is where a row holds its own due time.
    """
    latest = 0
    for row in rows:
        latest = max(latest, row[due])
        yield row, latest
