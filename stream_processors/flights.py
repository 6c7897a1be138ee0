"""Send records in flights: all of one are acknowledged before the next begins."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException, Message, Producer

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


class Flights:
    """One idempotent producer, used from one task."""

    def __init__(self, producer: Producer, *, timeout_s: float) -> None:
        self._producer = producer
        self._timeout_s = timeout_s
        self._failures: list[str] = []

    async def send(self, letters: Sequence[Letter], acknowledged: Acknowledged | None = None) -> None:
        """Send a flight and wait until the broker has all of it.

        Raises:
            FlightFailed: it has not; the process has to end, because what it holds in memory is ahead of the log.
        """
        if not letters:
            return

        def delivered(error: object, message: Message) -> None:
            if error is not None:
                self._failures.append(str(error))
            elif acknowledged is not None:
                acknowledged(message.partition() or 0, message.offset() or 0)

        for letter in letters:
            self._produce(letter, delivered)
        loop = asyncio.get_running_loop()
        left = await loop.run_in_executor(None, self._producer.flush, self._timeout_s)
        if left or self._failures:
            raise FlightFailed(f"{left + len(self._failures)} records not acknowledged: {self._failures[:1]}")

    def post(self, letter: Letter) -> None:
        """Send a record that nothing waits for."""
        self._produce(letter, lambda _error, _message: None)
        self._producer.poll(0)

    def _produce(self, letter: Letter, delivered: Callable[[object, Message], None]) -> None:
        while True:
            try:
                self._producer.produce(
                    letter.topic, letter.value, letter.key, letter.partition, delivered, headers=list(letter.headers)
                )
            except BufferError:
                self._producer.poll(0.01)
            except KafkaException as error:
                raise FlightFailed(f"a record for {letter.topic} cannot be sent: {error}") from error
            else:
                return
