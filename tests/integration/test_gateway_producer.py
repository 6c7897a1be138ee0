"""The producer whose acknowledgements can be awaited, on a real broker and without one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import KafkaError, KafkaException

from adapters.kafka_producer import (
    AckingProducer,
    DeliveryFailed,
    ProducerHealth,
    Record,
    failure_of,
    producer_config,
)
from deploy.runtime.ports import free_port
from schemas.connections import KafkaSettings
from tests.integration.gateway_process import read_topic


@asynccontextmanager
async def producing(bootstrap: str, **overrides: str | int) -> AsyncIterator[AckingProducer]:
    config = producer_config(KafkaSettings(bootstrap=bootstrap), **{"message_timeout_ms": 20_000, **overrides})
    producer = AckingProducer(config)
    try:
        yield producer
    finally:
        producer.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - the poll thread has no event to wait for
            await asyncio.sleep(0.02)


def records(topic: str, count: int, *, size: int = 10) -> list[Record]:
    return [Record(topic, b"p/%d" % n, b"x" * size, [("kind", "events")]) for n in range(count)]


def test_one_future_answers_for_all_records_of_a_request(kafka: str, topics: str) -> None:
    async def main() -> None:
        async with producing(kafka) as producer:
            await asyncio.gather(*(producer.send(records(f"{topics}events", n)) for n in (1, 20, 300)))
            assert producer.health() == ProducerHealth(0.0, 0.0, False)
            assert producer.queued_bytes == 0

    asyncio.run(main())
    assert len(read_topic(kafka, f"{topics}events")) == 321


def test_no_records_are_acknowledged_at_once() -> None:
    async def main() -> None:
        async with producing(f"127.0.0.1:{free_port()}") as producer:
            assert producer.send([]).done()
            health = producer.health()
            assert (health.queue_fill, health.oldest_unacked_s) == (0, 0)

    asyncio.run(main())


def test_a_full_queue_fails_the_request_at_once_and_forgets_nothing_that_is_on_its_way() -> None:
    async def main() -> None:
        async with producing(f"127.0.0.1:{free_port()}", queue_buffering_max_messages=10) as producer:
            held = producer.send(records("t", 7))
            assert producer.health().queue_fill == 0.7
            full = producer.send(records("t", 7))
            assert producer.health().queue_fill == 1.4
            producer._producer.purge(blocking=False)
            failures = await asyncio.gather(held, full, return_exceptions=True)
            assert [f.code for f in failures if isinstance(f, DeliveryFailed)] == ["_PURGE_QUEUE", "QUEUE_FULL"]
            assert producer.health().queue_fill == 0

    asyncio.run(main())


def test_without_a_broker_a_request_fails_in_its_time_and_the_brokers_count_as_down() -> None:
    async def main() -> None:
        async with producing(f"127.0.0.1:{free_port()}", message_timeout_ms=1_000) as producer:
            waiting = producer.send(records("t", 1))
            await asyncio.sleep(0.2)
            assert producer.health().oldest_unacked_s >= 0.2
            with pytest.raises(DeliveryFailed) as failed:
                await waiting
            assert failed.value.code == "_MSG_TIMED_OUT"
            await until(lambda: producer.health().all_brokers_down)
            with pytest.raises(KafkaException):
                await producer.missing_topics(["t"], timeout_s=0.2)

    asyncio.run(main())


def test_an_acknowledgement_says_that_a_broker_is_there_again(kafka: str, topics: str) -> None:
    async def main() -> None:
        async with producing(kafka) as producer:
            producer._on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "all down"))
            assert producer.health().all_brokers_down
            await producer.send(records(f"{topics}events", 1))
            assert not producer.health().all_brokers_down

    asyncio.run(main())


def test_a_dead_producer_is_replaced(kafka: str, topics: str) -> None:
    async def main() -> None:
        async with producing(kafka) as producer:
            await producer.send(records(f"{topics}events", 1))
            first = producer._producer
            producer._on_error(KafkaError(KafkaError._FATAL, "dead", True))
            assert producer.health().is_replacing
            await until(lambda: producer._producer is not first and not producer.health().is_replacing)
            await producer.send(records(f"{topics}events", 1))

    asyncio.run(main())
    assert len(read_topic(kafka, f"{topics}events")) == 2


def test_topics_that_are_missing_are_named(kafka: str, topics: str) -> None:
    async def main() -> None:
        async with producing(kafka) as producer:
            asked = [f"{topics}events", f"{topics}nothing"]
            assert await producer.missing_topics(asked, timeout_s=20) == [f"{topics}nothing"]

    asyncio.run(main())


def test_what_is_on_its_way_is_waited_for_at_the_end(kafka: str, topics: str) -> None:
    async def main() -> None:
        async with producing(kafka) as producer:
            sent = producer.send(records(f"{topics}events", 50))
            assert await producer.drain(timeout_s=20) == 0
            assert sent.done()
            assert await producer.drain(timeout_s=0) == 0
            assert producer.alive
        assert not producer.alive

    asyncio.run(main())


def test_every_service_produces_so_that_nothing_is_lost_or_stored_twice() -> None:
    config = producer_config(KafkaSettings(bootstrap="a:1"), linger_ms=0, **{"compression.type": "none"})
    kept = {
        name: config[name] for name in ("acks", "enable.idempotence", "partitioner", "linger.ms", "compression.type")
    }
    assert kept == {
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "linger.ms": 0,
        "compression.type": "none",
    }


class Reported:
    """What a callback gets of a record."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        return self._offset


@pytest.mark.parametrize(("offset", "failure"), [(0, None), (7, None), (None, "without an offset"), (-1001, "without")])
def test_a_report_without_an_offset_is_no_acknowledgement(offset: int | None, failure: str | None) -> None:
    said = failure_of(None, Reported(offset))  # type: ignore[arg-type] # a message cannot be made by hand
    assert (said is None) if failure is None else (said is not None and failure in said)


def test_a_report_of_an_error_says_it() -> None:
    assert failure_of(KafkaError(KafkaError._MSG_TIMED_OUT, "too late"), Reported(3)) == "too late"  # type: ignore[arg-type]
