"""Limit a project's events per second: a token bucket that is given the time.

Theory. How many events a request holds is known only after it was read, and refusing it then would have cost the work
already. So a request is let in while any token is there, and its events are charged afterwards; a large request runs
into debt, and what follows waits until that is paid. On average the rate holds exactly.
"""

from dataclasses import dataclass

BURST_S = 2.0
"""A bucket holds this many seconds of its rate: a page that loads sends a burst."""


@dataclass(slots=True)
class TokenBucket:
    """The tokens of one project in one gateway process; `rate_per_s` comes with each call, because it may change."""

    tokens: float
    updated_s: float

    @classmethod
    def full(cls, rate_per_s: int, *, now_s: float) -> "TokenBucket":
        """Return a bucket as a project has it at first."""
        return cls(rate_per_s * BURST_S, now_s)

    def wait_s(self, rate_per_s: int, *, now_s: float) -> float:
        """Return 0 if a request may be let in, else the seconds until one may."""
        self.tokens = min(self.tokens + (now_s - self.updated_s) * rate_per_s, rate_per_s * BURST_S)
        self.updated_s = now_s
        return 0.0 if self.tokens > 0 else -self.tokens / rate_per_s + 1.0 / rate_per_s

    def charge(self, events: int) -> None:
        """Take the tokens of a request that was let in."""
        self.tokens -= events
