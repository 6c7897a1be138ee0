"""How long to wait before the next try: doubling, bounded, with jitter so that many sinks do not knock together."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays from `first_s` to `longest_s`."""

    first_s: float = 0.05
    longest_s: float = 10.0

    def delay_s(self, attempt: int, *, uniform: Callable[[float, float], float]) -> float:
        """Return the delay after the failed `attempt` (from 0): between half and the whole of its bound."""
        bound = min(self.longest_s, self.first_s * 2.0 ** min(attempt, 30))
        return uniform(bound / 2, bound)
