"""Whether what is delivered of a partition continues where its state is. Pure.

Theory. Positions are our own: the fold knows the last record that its state includes. The consumer may deliver records
again (after a rebalance, after a crash), which is harmless, or jump ahead (Faust does, after a rebalance: 90 of 100,000
records in eight joins and leaves), which would lose them. So a run that begins beyond the next record is refused, and
the consumer is sent back. What it had fetched before it was sent back still arrives and says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto


class Decision(Enum):
    """What to do with a run."""

    FOLD = auto()
    """It holds the next record; what comes before that in it is skipped by the fold."""
    SKIP = auto()
    """It holds nothing new, or is the rest of what was fetched before the consumer was sent back."""
    SEEK = auto()
    """It begins beyond the next record: send the consumer back to that."""
    GIVE_UP = auto()
    """The consumer was sent back too often without effect."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the delivery of one partition goes; a policy that is given the time, monotonic seconds."""

    seeks: int = 0
    """Attempts in a row to get at the next record."""
    sought_at: float = 0.0

    max_seeks: int = 20
    patience_s: float = 1.0
    """How long what was fetched before a seek may still arrive: about one fetch."""

    def judge(self, offsets: Sequence[int], *, wanted: int, now: float) -> tuple["Delivery", Decision]:
        """Decide about a run by its first and last offset; `wanted` is the next record that the state needs."""
        first, last = offsets[0], offsets[-1]
        if last < wanted:
            return self, Decision.SKIP
        if first <= wanted:
            return replace(self, seeks=0), Decision.FOLD
        if self.seeks and now - self.sought_at < self.patience_s:
            return self, Decision.SKIP
        if self.seeks >= self.max_seeks:
            return self, Decision.GIVE_UP
        return replace(self, seeks=self.seeks + 1, sought_at=now), Decision.SEEK
