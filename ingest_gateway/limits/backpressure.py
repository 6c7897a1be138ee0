"""Decide whether the log can take a request now, before anything of it is parsed.

Theory. While Kafka is away, every request that is let in costs memory and keeps its client waiting for the timeout.
Four signs say that it is away, and each catches what the others miss:

- the producer's queue is nearly full: more comes in than the brokers take;
- the oldest unacknowledged request is old: a broker hangs, which raises no error at all;
- no broker can be connected;
- a request failed: then the gate closes, and opens again with the first acknowledgement.

While the gate is closed, one request a second is let through as a probe: its acknowledgement is the only proof that
events can be stored again.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackpressureLimits:
    """When to refuse."""

    max_queue_fill: float = 0.8
    """Share of the producer's queue, so that what was let in already still fits."""
    max_unacked_s: float = 2.0
    """A healthy broker acknowledges within 20 ms, one that elects a leader within a second or so."""
    probe_interval_s: float = 1.0
    """At most so many clients a second wait for the timeout during an outage."""
    quiet_s: float = 10.0
    """Without a bad sign for this long a broker that answers is worth a try: longer than a request takes to fail."""


class Backpressure:
    """The gate in front of the log, given the time and the producer's health."""

    def __init__(self, limits: BackpressureLimits) -> None:
        self._limits = limits
        self._closed = False
        self._worth_a_try = False
        self._next_probe_s = 0.0
        self._last_sign_s = 0.0

    @property
    def max_queue_fill(self) -> float:
        """Return the share of the producer's queue beyond which nothing is let in."""
        return self._limits.max_queue_fill

    @property
    def closed(self) -> bool:
        """Tell whether only probes are let through."""
        return self._closed

    @property
    def ready(self) -> bool:
        """Tell whether load balancers should send requests: without any there would be no probe."""
        return not self._closed or self._worth_a_try

    def admit(self, *, queue_fill: float, oldest_unacked_s: float, brokers_down: bool, now_s: float) -> bool:
        """Tell whether a request may be let in."""
        limits = self._limits
        if brokers_down or oldest_unacked_s > limits.max_unacked_s:
            self._close(now_s)
        if queue_fill > limits.max_queue_fill:
            return False
        if not self._closed:
            return True
        if now_s < self._next_probe_s:
            return False
        self._next_probe_s = now_s + limits.probe_interval_s
        return True

    def on_ack(self) -> None:
        """Open the gate: the log took a request."""
        self._closed = False

    def on_failure(self, *, now_s: float) -> None:
        """Close the gate: the log did not take a request in time."""
        self._close(now_s)
        self._next_probe_s = now_s + self._limits.probe_interval_s

    def on_reachable(self, *, now_s: float) -> None:
        """Note that a broker answers questions, though nothing was sent lately that could prove more."""
        self._worth_a_try = now_s - self._last_sign_s >= self._limits.quiet_s

    def _close(self, now_s: float) -> None:
        self._closed = True
        self._worth_a_try = False
        self._last_sign_s = now_s
