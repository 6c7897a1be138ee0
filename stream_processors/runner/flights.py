"""Send records in flights: all of one are acknowledged before the next begins.

Acknowledgements are taken up on the event loop, by polling while a flight is on its way. A polling thread, or one that
flushes, would have to wait for the interpreter's lock once a record while the loop folds: up to 5 ms each.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from adapters.kafka_producer import failure_of

POLL_S = 0.001
"""A flight takes a few milliseconds."""

Acknowledged = Callable[[int, int], None]
"""Gets partition and offset."""


class FlightFailed(Exception):
    """A record of the flight is not acknowledged: it may be stored or not, so nothing may build on the flight."""


class Letter(NamedTuple):
    """A record to send; the topic's name is whole."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class LetterProducer(Protocol):
    """The part of confluent-kafka's Producer that flights need."""

    def produce(self, *args: Any, **kwargs: Any) -> None:
        """Queue a record."""

    def poll(self, timeout: float) -> int:
        """Call the callbacks of what has been acknowledged or has failed."""


class _Flight:
    """Counts the acknowledgements of one flight; every record gets one, at the latest after `message.timeout.ms`."""

    def __init__(self, expected: int, acknowledged: Acknowledged | None) -> None:
        self.missing = expected
        self.failure: str | None = None
        self._acknowledged = acknowledged

    def landed(self, error: KafkaError | None, message: Message) -> None:
        self.missing -= 1
        if (failure := failure_of(error, message)) is not None:
            self.failure = failure
        elif self._acknowledged is not None:
            self._acknowledged(message.partition() or 0, message.offset() or 0)


class Flights:
    """One idempotent producer, used from one event loop; one flight at a time."""

    def __init__(self, producer: LetterProducer) -> None:
        self._producer = producer

    async def send(self, letters: Sequence[Letter], acknowledged: Acknowledged | None = None) -> None:
        """Send a flight and wait until the broker has all of it.

        Raises:
            FlightFailed: it has not; the process has to end, because what it holds in memory is ahead of the log.
        """
        flight = _Flight(len(letters), acknowledged)
        for letter in letters:
            while not self._queue(letter, flight.landed):
                self._producer.poll(0)
                await asyncio.sleep(POLL_S)
        while flight.missing:
            self._producer.poll(0)
            if flight.missing:
                await asyncio.sleep(POLL_S)
        if flight.failure is not None:
            raise FlightFailed(f"a record of {len(letters)} is not acknowledged: {flight.failure}")

    def post(self, letter: Letter, acknowledged: Acknowledged) -> None:
        """Send a record that nothing depends on; it is dropped where the queue is full."""
        self._queue(letter, _Flight(1, acknowledged).landed)
        self._producer.poll(0)

    def _queue(self, letter: Letter, landed: Callable[[KafkaError | None, Message], None]) -> bool:
        topic, partition, key, value, headers = letter
        try:
            self._producer.produce(topic, value, key, partition, landed, headers=list(headers))
        except BufferError:
            return False
        except KafkaException as error:
            raise FlightFailed(f"a record for {topic} cannot be sent: {error}") from error
        return True
