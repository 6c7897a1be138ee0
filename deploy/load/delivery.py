"""Deliver requests as a good SDK does: the same bytes again after 429, 503 and broken connections, in order.

A request ends in one of three ways, and the ledger knows which: acknowledged (202), refused (another status: sending it
again would not help), or unknown (given up: it may have been stored all the same).
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.load.connection import Answer, Connection, ConnectionFailed
from deploy.load.ledger import Ledger
from deploy.load.request import GatewayAddress, RequestHead, SessionRequest

RETRIED_STATUSES = frozenset((408, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again."""

    first_delay_s: float = 0.2
    max_delay_s: float = 5.0
    """A tab is seldom open longer than a few of these."""
    give_up_s: float = 120.0
    """Longer than a restart of the broker."""
    timeout_s: float = 15.0
    """Three times the gateway's own limit for an acknowledgement."""

    def delay_s(self, attempt: int, *, retry_after_s: float | None, share: float) -> float:
        """Return how long to wait after the attempt, counted from 1; `share` is random within [0, 1].

        The server's word counts if it is longer; half of our own delay is random, so that no herd comes back.
        """
        own = min(self.max_delay_s, self.first_delay_s * 2.0 ** min(attempt - 1, 16))
        return max(own * (0.5 + share / 2), retry_after_s or 0.0)


PATIENT = RetryPolicy()


@dataclass(slots=True)
class Tally:
    """What the clients of a run saw."""

    latencies_s: list[float] = field(default_factory=list)
    """From the first try to the final answer."""
    retries: int = 0
    sent_bytes: int = 0


class Client:
    """Sends one request after the other over one connection."""

    def __init__(
        self,
        address: GatewayAddress,
        key: str,
        *,
        ledger: Ledger,
        tally: Tally,
        policy: RetryPolicy = PATIENT,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._head = RequestHead(f"{address.host}:{address.port}", key)
        self._connection = Connection(address, timeout_s=policy.timeout_s)
        self._ledger = ledger
        self._tally = tally
        self._policy = policy
        self._share = share

    async def deliver(self, request: SessionRequest) -> None:
        """Send a request until its outcome is known or the policy gives up, and write the outcome into the ledger."""
        wire = request.wire(self._head)
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            answer = await self._try(wire)
            if answer is not None and answer.status not in RETRIED_STATUSES:
                self._ledger.settle(request, answer)
                self._tally.latencies_s.append(time.monotonic() - began)
                return
            delay_s = self._policy.delay_s(
                attempt, retry_after_s=answer.retry_after_s if answer else None, share=self._share()
            )
            if time.monotonic() - began + delay_s > self._policy.give_up_s:
                self._ledger.give_up(request)
                return
            self._tally.retries += 1
            await asyncio.sleep(delay_s)

    async def _try(self, wire: bytes) -> Answer | None:
        self._tally.sent_bytes += len(wire)
        try:
            return await self._connection.send(wire)
        except ConnectionFailed:
            return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
