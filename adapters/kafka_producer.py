"""Produce to Kafka and know when the broker has it.

`producer_config` is the one place where librdkafka's producer is configured, for every service. `AckingProducer` puts
it on an asyncio loop: one thread polls, one future answers for all records of a request, and `health()` tells what a
policy needs to refuse work in time.

Why not confluent-kafka's own `AIOProducer`: it takes no headers and acknowledges in seconds (measured 0.1 to 2.0 s).
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas import topics
from schemas.connections import KafkaSettings

ConfigValue = str | int | float | bool
Headers = list[tuple[str, str | bytes | None]]

logger = logging.getLogger(__name__)

_NEVER_TAKEN = frozenset(("MSG_SIZE_TOO_LARGE", "INVALID_RECORD", "_INVALID_ARG"))

_POLL_S = 0.1
_PURGE_S = 1.0

_NO_PLACE = "acknowledged without an offset: the broker knows the sequence, not the record"


def producer_config(kafka: KafkaSettings, **overrides: ConfigValue) -> dict[str, ConfigValue]:
    """Return librdkafka's configuration of an idempotent producer; an override is named with `_` for `.`."""
    config: dict[str, ConfigValue] = {
        **kafka.librdkafka(),
        # an acknowledged record survives the loss of a broker, and a retry inside librdkafka stores nothing twice
        "enable.idempotence": True,
        "acks": "all",
        # Java's hash: librdkafka's default (CRC32) would break co-partitioning with Faust's tables
        "partitioner": "murmur2_random",
        # 118k against 87k records of 10 kB a second without, and less than zstd's CPU
        "compression.type": "lz4",
        # adds itself once to the latency (p50 5.3 ms) and saves 28 % of the CPU a request against 0
        "linger.ms": 5,
        # a restarted broker is back within this; whoever must answer sooner says so
        "message.timeout.ms": 30_000,
        # below message.timeout, or a hung broker would never be tried twice
        "request.timeout.ms": 10_000,
        "socket.timeout.ms": 10_000,
        # the largest record that any topic takes; topics themselves hold lower limits
        "message.max.bytes": max(topic.max_message_bytes for topic in topics.ALL),
        # memory while the broker is away: whichever is reached first
        "queue.buffering.max.kbytes": 65_536,
        "queue.buffering.max.messages": 100_000,
        # a broker that is back is used within a second or two
        "retry.backoff.ms": 50,
        "retry.backoff.max.ms": 1_000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        # a connection that a firewall dropped silently is noticed
        "socket.keepalive.enable": True,
        # idle connections are closed by brokers all day: not worth a line
        "log.connection.close": False,
    }
    config.update({name.replace("_", "."): value for name, value in overrides.items()})
    return config


class Record(NamedTuple):
    """A record to produce."""

    topic: str
    """The full name, prefix included."""
    key: bytes
    value: bytes
    headers: Headers


class DeliveryFailed(Exception):
    """The broker did not acknowledge every record: some may be stored all the same, so readers deduplicate by id."""

    def __init__(self, error: KafkaError | None, detail: str, *, without_error: str = "QUEUE_FULL") -> None:
        super().__init__(detail)
        self.code = error.name() if error is not None else without_error
        """librdkafka's name of the error; `QUEUE_FULL`: it never left this process; `NO_OFFSET`: see `failure_of`."""

    @property
    def is_permanent(self) -> bool:
        """Tell whether Kafka is well and will never take this record: a bug of ours."""
        return self.code in _NEVER_TAKEN


@dataclass(frozen=True, slots=True)
class ProducerHealth:
    """What a policy needs to know before it lets more work in."""

    queue_fill: float
    """Unacknowledged records, by count or bytes, as a share of what may be queued: 0 to 1."""
    oldest_unacked_s: float
    """Age of the oldest unacknowledged request: a broker that hangs raises no error, it only lets this grow."""
    all_brokers_down: bool
    """No broker can be connected; holds until a record is acknowledged again."""
    is_replacing: bool = False
    """A dead producer is being replaced: what is sent now would overtake what is about to fail."""


def failure_of(error: KafkaError | None, message: Message) -> str | None:
    """Return why a delivery report is no acknowledgement; None if the broker has the record.

    A report without error and without offset stands for a broker that took the record for one it has, by its sequence
    number. While a partition waits for its leader (a new topic, a broker that comes back on a busy machine), librdkafka
    2.16 reports so of records that are nowhere. Measured in 18 runs with 6 producers: 26 of 53,000 records were
    reported so, exactly these were missing from the log, and no record with an offset was.
    """
    if error is not None:
        return error.str()
    offset = message.offset()
    return _NO_PLACE if offset is None or offset < 0 else None


class _Flight:
    """The records of one `send` on their way.

    `acked` is written by the poll thread alone and `expected` by the loop alone; whichever write makes them equal lands
    the flight, and landing twice is harmless.
    """

    __slots__ = ("acked", "error", "expected", "future", "land", "landed", "records", "size", "started")

    def __init__(
        self,
        *,
        future: asyncio.Future[None],
        records: int,
        size: int,
        started: float,
        land: Callable[["_Flight"], None],
    ) -> None:
        self.future = future
        self.records = records
        self.expected = records
        self.acked = 0
        self.size = size
        self.started = started
        self.error: DeliveryFailed | None = None
        self.landed = False
        self.land = land

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Count one record; runs in the poll thread."""
        failure = failure_of(error, message)
        if failure is not None and self.error is None:
            self.error = DeliveryFailed(error, failure, without_error="NO_OFFSET")
        self.acked += 1
        if self.acked == self.expected:
            self.land(self)

    def cut(self, sent: int, error: DeliveryFailed) -> None:
        """Stop waiting for records that were never handed over; runs in the loop."""
        self.error = error
        self.expected = sent
        if self.acked == sent:
            self.land(self)


class AckingProducer:
    """A producer on the running asyncio loop whose `send` can be awaited.

    Every method but the callbacks runs in the loop. A fatal error of librdkafka's idempotence (a sequence that the
    broker cannot continue) replaces the producer: what was on its way fails, what comes is sent anew.
    """

    def __init__(self, config: dict[str, ConfigValue], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config: dict[str, Any] = {**config, "error_cb": self._on_error}
        self._max_bytes = 1024 * int(config["queue.buffering.max.kbytes"])
        self._max_records = int(config["queue.buffering.max.messages"])
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._flights: deque[_Flight] = deque()
        self._landed: deque[_Flight] = deque()
        self._wake_pending = False
        self._queued_bytes = 0
        self._queued_records = 0
        self._brokers_down = False
        self._fatal = False
        # producers that died, written by the poll thread alone, and of which nobody waits any more, by the loop alone
        self._died = 0
        self._mourned = 0
        self._stopping = threading.Event()
        self._producer = self._build()
        self._thread = threading.Thread(target=self._poll, name="kafka-poll", daemon=True)
        self._thread.start()

    def send(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Hand records over; the future is done when the broker has all of them, and fails with DeliveryFailed.

        Nothing blocks: a full queue fails the future at once. No records are acknowledged at once.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        if not records:
            future.set_result(None)
            return future
        size = sum(len(record.value) for record in records)
        flight = _Flight(future=future, records=len(records), size=size, started=self._clock(), land=self._on_land)
        self._flights.append(flight)
        self._queued_bytes += size
        self._queued_records += len(records)
        produce = self._producer.produce
        for sent, record in enumerate(records):
            try:
                produce(record.topic, record.value, record.key, on_delivery=flight.delivered, headers=record.headers)
            except BufferError:
                flight.cut(sent, DeliveryFailed(None, "the producer's queue is full"))
                break
            except KafkaException as error:
                flight.cut(sent, DeliveryFailed(error.args[0], str(error)))
                break
        return future

    def health(self) -> ProducerHealth:
        """Return the state of the queue and of the brokers now."""
        flights = self._flights
        while flights and flights[0].landed:
            flights.popleft()
        return ProducerHealth(
            queue_fill=max(self._queued_bytes / self._max_bytes, self._queued_records / self._max_records),
            oldest_unacked_s=self._clock() - flights[0].started if flights else 0.0,
            all_brokers_down=self._brokers_down,
            is_replacing=self._died != self._mourned,
        )

    @property
    def alive(self) -> bool:
        """Tell whether the poll thread runs; without it nothing is ever acknowledged."""
        return self._thread.is_alive()

    @property
    def queued_bytes(self) -> int:
        """Bytes of values that wait for their acknowledgement."""
        return self._queued_bytes

    async def missing_topics(self, names: Sequence[str], *, timeout_s: float) -> list[str]:
        """Ask a broker which of these topics do not exist.

        Raises:
            KafkaException: if no broker answers in time.
        """
        metadata = await asyncio.to_thread(self._producer.list_topics, timeout=timeout_s)
        return [name for name in names if name not in metadata.topics]

    async def drain(self, *, timeout_s: float) -> int:
        """Wait until everything sent is acknowledged or failed; return how many requests still wait at the deadline."""
        waiting = [flight.future for flight in self._flights if not flight.landed]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        return sum(not future.done() for future in waiting)

    def close(self) -> None:
        """Stop the poll thread; what is still queued is dropped, so `drain` first."""
        self._stopping.set()
        self._thread.join()
        self._producer.purge(blocking=False)

    def _build(self) -> Producer:
        return Producer(self._config, logger=logging.getLogger("librdkafka"))

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)
            if self._fatal:
                self._replace()

    def _replace(self) -> None:
        """Put a new producer in the place of one that librdkafka declared dead."""
        dead, self._producer = self._producer, self._build()
        self._fatal = False
        dead.purge(blocking=False)
        dead.flush(_PURGE_S)
        self._loop.call_soon_threadsafe(self._on_replaced, self._died)

    def _on_error(self, error: KafkaError) -> None:
        """Note what librdkafka reports about the connections; runs in the poll thread."""
        if error.fatal():
            logger.error("kafka producer is dead, replacing it: %s", error.str())
            if not self._fatal:
                self._died += 1
            self._fatal = True
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            logger.warning("no kafka broker can be reached: %s", error.str())
            self._brokers_down = True

    def _on_replaced(self, died: int) -> None:
        """Note that all who waited for a dead producer know; runs in the loop, after their futures were failed."""
        # what their callbacks do is scheduled already, and comes before this
        self._loop.call_soon(self._forget, died)

    def _forget(self, died: int) -> None:
        self._mourned = died

    def _on_land(self, flight: _Flight) -> None:
        """Pass a flight to the loop; one wake-up serves all that land before the loop gets to it."""
        self._landed.append(flight)
        if not self._wake_pending:
            self._wake_pending = True
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        """Answer the futures of all that landed."""
        self._wake_pending = False
        while self._landed:
            flight = self._landed.popleft()
            if flight.landed:
                continue
            flight.landed = True
            self._queued_bytes -= flight.size
            self._queued_records -= flight.records
            if flight.error is None:
                self._brokers_down = False
            if not flight.future.done():
                if flight.error is None:
                    flight.future.set_result(None)
                else:
                    flight.future.set_exception(flight.error)
