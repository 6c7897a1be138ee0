"""The requests of a lane that were handed to the producer, in order, until the broker has them.

The producer of a lane with a spool has no timeout: it keeps its queue's order by itself, sends again until the broker
is back, and nothing of what it holds has to be handed over twice. What it fails all the same (it died and was replaced,
a right is missing) is handed over again once all of the window is known, and until then nothing else is: nothing
overtakes it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import structlog

from adapters.kafka_producer import DeliveryFailed, ProducerHealth, Record
from ingest_gateway.admission.records import Outgoing
from ingest_gateway.spool.files import Segment

log = structlog.get_logger()

RETRY_S = 1.0
"""Before handing over again what the producer failed."""


class Log(Protocol):
    """The producer, as far as a spool needs it."""

    def send(self, records: Sequence[Record]) -> "asyncio.Future[None]":
        """Hand records over; fails with DeliveryFailed."""

    def health(self) -> ProducerHealth:
        """Return the state of queue and brokers."""


class Entry:
    """A request in memory."""

    __slots__ = ("at_s", "client", "failed", "handed", "landed", "records", "segment", "size")

    def __init__(self, records: Sequence[Outgoing], *, client: "asyncio.Future[None] | None", at_s: float) -> None:
        self.records = records
        self.client = client
        """Done as soon as the request is durable anywhere; None where that was told already."""
        self.at_s = at_s
        """Epoch seconds."""
        self.size = sum(len(record.value) for record in records)
        self.segment: Segment | None = None
        """Where it is on disk."""
        self.handed = False
        """It was given to the producer."""
        self.landed = False
        """And the broker has it, or will never take it."""
        self.failed = False

    def tell(self, error: Exception | None = None) -> None:
        """Answer the client, once."""
        if self.client is not None and not self.client.done():
            if error is None:
                self.client.set_result(None)
            else:
                self.client.set_exception(error)


class Owner(Protocol):
    """Who is told what becomes of the requests of a window."""

    def on_taken(self, entry: Entry) -> None:
        """Hear that the broker has a request."""

    def on_refused(self, entry: Entry, error: DeliveryFailed) -> None:
        """Hear that no broker will ever take a request."""

    def on_failed(self) -> None:
        """Hear that the producer failed a request, which will be handed over again."""


class Window:
    """What was handed over. Every method runs in the loop."""

    def __init__(
        self,
        lane: str,
        producer: Log,
        *,
        topic_prefix: str,
        max_bytes: int,
        clock: Callable[[], float],
        owner: Owner,
    ) -> None:
        self._lane = lane
        self._producer = producer
        self._prefix = topic_prefix
        self._max_bytes = max_bytes
        self._clock = clock
        self._owner = owner
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._failures = 0
        self._retry_at_s = 0.0

    @property
    def in_flight(self) -> list[Entry]:
        """Return what has not landed, in order."""
        return [entry for entry in self._entries if not entry.landed]

    @property
    def is_empty(self) -> bool:
        """Tell whether the broker has all."""
        return not self._entries

    @property
    def has_failures(self) -> bool:
        """Tell whether something has to be handed over again."""
        return self._failures > 0

    @property
    def has_room(self) -> bool:
        """Tell whether the next request may be handed over."""
        is_in_order = not self._failures and not self._producer.health().is_replacing
        return is_in_order and self._bytes < self._max_bytes

    @property
    def oldest_stored_at_s(self) -> float | None:
        """Epoch seconds of the oldest request in it that is on disk."""
        return next((entry.at_s for entry in self._entries if entry.segment is not None and not entry.landed), None)

    def hand(self, entry: Entry) -> None:
        """Hand a request over."""
        entry.handed = True
        self._entries.append(entry)
        self._bytes += entry.size
        self._produce(entry)

    def hand_again(self) -> None:
        """Hand over again what the producer failed, once nothing else is on its way."""
        if not self._failures or self._clock() < self._retry_at_s:
            return
        if all(entry.landed or entry.failed for entry in self._entries):
            failed = [entry for entry in self._entries if entry.failed]
            self._failures = 0
            for entry in failed:
                entry.failed = False
                self._produce(entry)

    def _produce(self, entry: Entry) -> None:
        prefix = self._prefix
        flight = self._producer.send([Record(prefix + o.topic, o.key, o.value, o.headers) for o in entry.records])
        flight.add_done_callback(partial(self._land, entry))

    def _land(self, entry: Entry, flight: "asyncio.Future[None]") -> None:
        error = flight.exception()
        if error is None:
            self._forget(entry)
            self._owner.on_taken(entry)
        elif isinstance(error, DeliveryFailed) and error.is_permanent:
            self._forget(entry)
            self._owner.on_refused(entry, error)
        else:
            if not self._failures:
                log.warning("delivery_failed", lane=self._lane, reason=str(error))
            entry.failed = True
            self._failures += 1
            self._retry_at_s = self._clock() + RETRY_S
            self._owner.on_failed()

    def _forget(self, entry: Entry) -> None:
        entry.landed = True
        while self._entries and self._entries[0].landed:
            self._bytes -= self._entries.popleft().size
