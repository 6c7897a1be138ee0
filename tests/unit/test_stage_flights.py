"""A flight is over when every record of it is acknowledged."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream_processors.runner.flights import FlightFailed, Flights, Letter


class Stored:
    """What a callback gets of a record."""

    def __init__(self, partition: int, offset: int | None) -> None:
        self._place = partition, offset

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int | None:
        return self._place[1]


class FakeProducer:
    """Takes so many records at once, and acknowledges one a poll."""

    def __init__(self, *, room: int = 100, refuses: frozenset[bytes] = frozenset()) -> None:
        self.stored: list[tuple[str, int, bytes | None]] = []
        self._queue: list[tuple[str, int, bytes | None, Any]] = []
        self._room = room
        self._refuses = refuses

    def produce(self, topic: str, value: bytes | None, _key: Any, partition: int, landed: Any, *, headers: Any) -> None:
        assert isinstance(headers, list)
        if value == b"too large":
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        if len(self._queue) == self._room:
            raise BufferError
        self._queue.append((topic, partition, value, landed))

    def poll(self, _timeout: float) -> int:
        if not self._queue:
            return 0
        topic, partition, value, landed = self._queue.pop(0)
        if value == b"known by its sequence":
            landed(None, Stored(partition, None))
        elif value in self._refuses:
            landed(KafkaError(KafkaError._MSG_TIMED_OUT), Stored(partition, -1))
        else:
            self.stored.append((topic, partition, value))
            landed(None, Stored(partition, len(self.stored) - 1))
        return 1


def letters(*values: bytes) -> list[Letter]:
    return [Letter("t", 1, b"key", value) for value in values]


def test_a_flight_waits_for_all_its_records_and_tells_where_they_are() -> None:
    producer = FakeProducer()
    places: list[tuple[int, int]] = []
    asyncio.run(Flights(producer).send(letters(b"a", b"b"), lambda *place: places.append(place)))
    assert producer.stored == [("t", 1, b"a"), ("t", 1, b"b")]
    assert places == [(1, 0), (1, 1)]


def test_an_empty_flight_is_over_at_once() -> None:
    asyncio.run(Flights(FakeProducer()).send([]))


def test_a_full_queue_is_waited_for() -> None:
    producer = FakeProducer(room=1)
    asyncio.run(Flights(producer).send(letters(b"a", b"b", b"c")))
    assert len(producer.stored) == 3


def test_one_record_that_is_not_acknowledged_fails_the_flight_after_the_others_are_known() -> None:
    producer = FakeProducer(refuses=frozenset({b"b"}))
    with pytest.raises(FlightFailed, match="timed out"):
        asyncio.run(Flights(producer).send(letters(b"a", b"b", b"c")))
    assert [value for _, _, value in producer.stored] == [b"a", b"c"]


def test_a_record_that_is_nowhere_fails_the_flight_though_nothing_failed() -> None:
    with pytest.raises(FlightFailed, match="without an offset"):
        asyncio.run(Flights(FakeProducer()).send(letters(b"a", b"known by its sequence")))


def test_a_record_that_cannot_be_queued_fails_the_flight() -> None:
    with pytest.raises(FlightFailed, match="cannot be sent"):
        asyncio.run(Flights(FakeProducer()).send(letters(b"too large")))


def test_a_posted_record_is_dropped_where_the_queue_is_full() -> None:
    producer = FakeProducer(room=0)
    Flights(producer).post(Letter("t", 0, None, b""), lambda _partition, _offset: None)
    assert producer.stored == []


def test_the_event_loop_goes_on_during_a_flight() -> None:
    async def count_meanwhile() -> int:
        rounds = 0
        flight = asyncio.ensure_future(Flights(FakeProducer()).send(letters(*[b"x"] * 20)))
        while not flight.done():
            rounds += 1
            await asyncio.sleep(0)
        return rounds

    assert asyncio.run(count_meanwhile()) > 1
