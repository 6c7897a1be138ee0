"""Read a topic and keep a writer busy: one sink's main loop.

Two threads, so that neither waits for the other's work: this one owns the consumer, decodes and collects the next
batch; the other owns the connection and writes the last one. Python's part of a row (about 6 us) then runs while
Postgres does its own (about 12 us), and the group's heartbeat goes on while a batch is tried again.

The life of a partition:
- The group assigns it. Nothing is read yet: the writer first claims it (raises its epoch, learns its offset).
- The offset is compared with the log. An offset that the broker no longer has, or does not have yet, stops the sink:
  records were lost, and a person decides what to do.
- It is read from there. A batch names for each partition where it begins and ends, and the epochs.
- The group takes it back: what was collected is dropped, the batch in flight may end within a patience and is abandoned
  after it. Whatever happens to it then, it is in with its offset or not at all.
- The writer is fenced: somebody else has claimed it. All is dropped; if the group still says that it is ours after a
  pause, it is claimed again.
"""

import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import Generic, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from adapters.kafka_consumer import (
    FORBIDDEN,
    RETRIABLE,
    ConsumedRecord,
    TopicIdentity,
    consumed_record,
    positions,
    watermarks,
)
from schemas.reasons import Reason
from sinks.commit.batching import Batch, BatchLimits, Collector
from sinks.commit.gaps import Gap, LogRange, gap_of
from sinks.commit.offsets import Claim, Fenced
from sinks.commit.watchdog import Standing
from sinks.commit.writer import Abandoned, Writer, Written
from sinks.contract.sink import Prepared, Sink
from sinks.contract.verdicts import RecordRefused, Refusal, SinkHalted
from sinks.metrics import SinkMetrics

P = TypeVar("P")

READ_RECORDS = 500
"""Records taken from the driver at once."""

IDLE_POLL_S = 0.1
BUSY_POLL_S = 0.005
"""While a batch or a claim is in flight: how late its end may be noticed."""

STUCK_AFTER_S = 1.0
"""What takes longer waits for something, such as the database: it is looked after less often."""

REVOKE_PATIENCE_S = 5.0
"""How long a rebalance waits for the batch in flight; a batch takes less than 1 s."""

DRAIN_PATIENCE_S = 10.0
FENCED_PAUSE_S = 5.0
KAFKA_PAUSE_S = 1.0
REPORT_INTERVAL_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Flight(Generic[P]):
    """A batch that is being written."""

    future: Future[Written]
    batch: Batch[Prepared[P]]
    generation: int
    started_s: float


@dataclass(frozen=True, slots=True)
class _Claiming:
    """Partitions that are being taken over, with the ends of their logs."""

    future: Future[dict[int, Claim]]
    generation: int
    logs: Mapping[int, tuple[int, int]]
    started_s: float


class SinkLoop(Generic[P]):
    """Runs one sink until it is stopped or halted."""

    def __init__(
        self,
        *,
        sink: Sink[P],
        writer: Writer[P],
        consumer: Consumer,
        topic: TopicIdentity,
        owner: str,
        limits: BatchLimits,
        metrics: SinkMetrics,
        stopping: Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._writer = writer
        self._consumer = consumer
        self._topic = topic.name
        self.owner = owner
        """The name of its connection."""
        self._metrics = metrics
        self._stopping = stopping
        self._clock = clock
        self._collector: Collector[Prepared[P]] = Collector(limits)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"write-{sink.name}")
        self._generation = 0
        self._joined = False
        self._assigned: set[int] = set()
        self._epochs: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._flight: _Flight[P] | None = None
        self._claiming: _Claiming | None = None
        self._claim_after_s = 0.0
        self._report_after_s = 0.0
        self._fetched: deque[Message] = deque()
        self._paused: list[TopicPartition] = []

    @property
    def ready(self) -> bool:
        """Tell whether the sink reads all partitions that the group gave it, which may be none."""
        return self._joined and self._epochs.keys() == self._assigned

    @property
    def topic(self) -> str:
        """Return the full name of the topic that it reads."""
        return self._topic

    def standing(self) -> Standing:
        """Return where the sink stands in the partitions that the group gave it; for the watchdog's thread."""
        committed = self._committed
        return Standing({part: committed.get(part, 0) for part in self._assigned}, self._writer.failures)

    def run(self) -> None:
        """Read and write until `stopping` is set, then write what was collected.

        Raises:
            SinkHalted, DatabaseRefused: a person has to act.
            KafkaException: the broker refuses for good.
        """
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        try:
            while not self._stopping.is_set():
                self._turn()
            self._drain()
        finally:
            self._writer.abandoned.set()
            self._consumer.close()
            self._executor.submit(self._writer.close)
            self._executor.shutdown()

    def _turn(self) -> None:
        self._finish_flight()
        self._finish_claim()
        self._start_claim()
        drained = self._wait_for_room() if self._collector.full() else self._read()
        self._hand_over(drained=drained)
        self._report()

    # Reading

    def _read(self) -> bool:
        """Collect what there is, up to a full batch; return whether the topic had nothing more."""
        # a message of no bytes is falsy
        if not self._fetched and (first := self._consumer.poll(self._patience_s())) is not None:
            self._fetched.append(first)
            self._fetched.extend(self._consumer.consume(READ_RECORDS, timeout=0))
        drained = len(self._fetched) <= READ_RECORDS
        while self._fetched and not self._collector.full():
            self._collect(self._fetched.popleft())
        return drained and not self._fetched

    def _patience_s(self) -> float:
        """Return how long to wait for a record: short while a batch or a claim is about to end."""
        under_way = [each.started_s for each in (self._flight, self._claiming) if each is not None]
        is_about_to_end = any(self._clock() - started_s < STUCK_AFTER_S for started_s in under_way)
        return BUSY_POLL_S if is_about_to_end else IDLE_POLL_S

    def _wait_for_room(self) -> bool:
        """Wait for the writer without reading on, but keep the group's membership alive."""
        flight = self._flight
        if flight is not None and not wait([flight.future], timeout=IDLE_POLL_S).done:
            if not self._paused:
                self._paused = [TopicPartition(self._topic, part) for part in sorted(self._epochs)]
                self._consumer.pause(self._paused)
            if (message := self._consumer.poll(0)) is not None:
                self._fetched.append(message)
        return False

    def _resume(self) -> None:
        if self._paused:
            self._consumer.resume(self._paused)
            self._paused = []

    def _collect(self, message: Message) -> None:
        try:
            record = consumed_record(message)
        except KafkaException as error:
            self._on_kafka_error(error.args[0])
            return
        # What was fetched before a new assignment may still arrive.
        if record.offset < self._collector.positions.get(record.partition, record.offset + 1):
            return
        item = prepared(self._sink, record)
        self._collector.opened(self._now_ms())
        self._collector.add(
            item,
            partition=record.partition,
            offset=record.offset,
            rows=item.rows if item else 0,
            size_bytes=item.size_bytes if item else 0,
            timestamp=record.timestamp,
        )

    def _on_kafka_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise SinkHalted(f"the {self._sink.name} sink's position is not in the log of {self._topic}: {error.str()}")
        if error.code() in FORBIDDEN:
            raise SinkHalted(f"Kafka refuses the {self._sink.name} sink: {error.str()}")
        if error.code() not in RETRIABLE:
            raise KafkaException(error)
        log.warning("kafka_error", sink=self._sink.name, error=error.str())

    # Writing

    def _hand_over(self, *, drained: bool) -> None:
        if self._flight is None and self._collector.due(self._now_ms(), drained=drained):
            self._start_flight()

    def _start_flight(self) -> None:
        batch = self._collector.take()
        epochs = {partition: self._epochs[partition] for partition in batch.spans}
        self._writer.abandoned.clear()
        future = self._executor.submit(self._writer.write, batch, epochs)
        self._flight = _Flight(future, batch, self._generation, self._clock())

    def _finish_flight(self) -> None:
        flight = self._flight
        if flight is None or not flight.future.done():
            return
        self._flight = None
        self._resume()
        try:
            self._on_written(flight, flight.future.result())
        except Abandoned as error:
            log.info("batch_abandoned", sink=self._sink.name, reason=str(error))
        except Fenced as error:
            self._metrics.fenced.labels(self._sink.name).inc()
            log.warning("fenced", sink=self._sink.name, reason=str(error))
            if flight.generation == self._generation:
                self._drop(claim_again_s=FENCED_PAUSE_S)

    def _on_written(self, flight: _Flight[P], written: Written) -> None:
        name, batch, metrics = self._sink.name, flight.batch, self._metrics
        metrics.rows.labels(name).inc(written.inserted)
        metrics.duplicates.labels(name).inc(written.duplicates)
        metrics.erased.labels(name).inc(written.erased)
        metrics.batches.labels(name, "careful" if written.careful else "fast").inc()
        metrics.batch_rows.labels(name).observe(batch.rows)
        metrics.batch_seconds.labels(name).observe(self._clock() - flight.started_s)
        if batch.oldest_timestamp:
            metrics.row_age_seconds.labels(name).observe(max(0.0, time.time() - batch.oldest_timestamp / 1000))
        if flight.generation == self._generation:
            ends = {partition: span.end for partition, span in batch.spans.items()}
            self._committed |= ends
            self._tell_kafka(ends)

    def _tell_kafka(self, ends: Mapping[int, int]) -> None:
        try:
            self._consumer.commit(offsets=positions(self._topic, ends), asynchronous=True)
        except KafkaException as error:  # for lag tools only: the next batch tells it again
            log.info("offsets_not_told", sink=self._sink.name, error=str(error))

    # Owning

    def _start_claim(self) -> None:
        busy = self._flight is not None or self._claiming is not None
        if busy or not self._assigned or self._epochs or self._clock() < self._claim_after_s:
            return
        try:
            logs = {part: watermarks(self._consumer, self._topic, part) for part in sorted(self._assigned)}
        except KafkaException as error:
            log.warning("log_ends_unknown", sink=self._sink.name, error=str(error))
            self._claim_after_s = self._clock() + KAFKA_PAUSE_S
            return
        self._writer.abandoned.clear()
        future = self._executor.submit(self._writer.claim, {part: low for part, (low, _) in logs.items()})
        self._claiming = _Claiming(future, self._generation, logs, self._clock())

    def _finish_claim(self) -> None:
        claiming = self._claiming
        if claiming is None or not claiming.future.done():
            return
        self._claiming = None
        try:
            claims = claiming.future.result()
        except Abandoned:
            return
        if claiming.generation != self._generation:
            return
        try:
            self._refuse_gaps(claims, claiming.logs)
        except KafkaException as error:
            log.warning("log_ends_unknown", sink=self._sink.name, error=str(error))
            self._claim_after_s = self._clock() + KAFKA_PAUSE_S
            return
        self._epochs = {part: claim.epoch for part, claim in claims.items()}
        starts = {part: claim.next_offset for part, claim in claims.items()}
        self._committed = dict(starts)
        self._collector.restart(starts)
        self._consumer.assign(positions(self._topic, starts))
        self._metrics.owned_partitions.labels(self._sink.name).set(len(starts))
        log.info("partitions_claimed", sink=self._sink.name, offsets=starts)

    def _refuse_gaps(self, claims: Mapping[int, Claim], logs: Mapping[int, tuple[int, int]]) -> None:
        """Refuse to read on in a partition whose log does not continue what was stored.

        A former owner may have gone on between our look at the log and our claim: what seems to be missing is looked
        for again, now that nobody else can store.

        Raises:
            SinkHalted: a stored offset is not in the log.
            KafkaException: the broker cannot be asked again.
        """
        gaps = []
        for part, claim in claims.items():
            log_range = LogRange(*logs[part])
            if self._gap(part, claim, log_range) is not None:
                log_range = LogRange(*watermarks(self._consumer, self._topic, part))
            if (gap := self._gap(part, claim, log_range)) is not None:
                gaps.append(gap)
        refuse_gaps(gaps)

    def _gap(self, part: int, claim: Claim, log_range: LogRange) -> Gap | None:
        return gap_of(self._sink.name, self._topic, part, stored=claim.next_offset, log=log_range)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing is fetched before the claim says from where.
        consumer.assign([])
        self._joined = True
        self._assigned = {place.partition for place in partitions}
        self._drop()

    def _on_revoke(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._give_back(consumer, patience_s=REVOKE_PATIENCE_S)

    def _on_lost(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._give_back(consumer, patience_s=0.0)

    def _give_back(self, consumer: Consumer, *, patience_s: float) -> None:
        if self._flight is not None:
            wait([self._flight.future], timeout=patience_s)
        self._writer.abandoned.set()
        self._joined = False
        self._assigned = set()
        self._drop()
        consumer.unassign()

    def _drop(self, *, claim_again_s: float = 0.0) -> None:
        """Forget what is owned and collected; a batch or a claim in flight belongs to the past from now on."""
        self._generation += 1
        self._resume()  # a pause outlives the assignment, and the next one may be of the same partitions
        self._epochs, self._committed = {}, {}
        self._fetched.clear()
        self._collector.restart({})
        self._claim_after_s = self._clock() + claim_again_s
        self._metrics.owned_partitions.labels(self._sink.name).set(0)
        if claim_again_s:
            self._consumer.assign([])

    # Ending and telling

    def _drain(self) -> None:
        """Write what was collected, within a patience."""
        deadline_s = self._clock() + DRAIN_PATIENCE_S
        for last in (False, True):
            if self._flight is not None:
                wait([self._flight.future], timeout=max(0.0, deadline_s - self._clock()))
                self._finish_flight()
            if self._flight is None and not last and self._epochs and not self._collector.empty():
                self._start_flight()

    def _report(self) -> None:
        if self._clock() < self._report_after_s:
            return
        self._report_after_s = self._clock() + REPORT_INTERVAL_S
        lag = 0
        for part, committed in self._committed.items():
            known = self._consumer.get_watermark_offsets(TopicPartition(self._topic, part), cached=True)
            lag += max(0, known[1] - committed) if known else 0
        self._metrics.lag_records.labels(self._sink.name).set(lag)
        waiting = [self._collector.oldest_timestamp(), self._flight.batch.oldest_timestamp if self._flight else 0]
        oldest = min((timestamp for timestamp in waiting if timestamp), default=0)
        age_s = max(0.0, time.time() - oldest / 1000) if oldest else 0.0
        self._metrics.oldest_row_age_seconds.labels(self._sink.name).set(age_s)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def prepared(sink: Sink[P], record: ConsumedRecord) -> Prepared[P] | None:
    """Prepare a record; one that cannot be used at all, or on which the sink raises, becomes a refusal."""
    try:
        return sink.prepare(record)
    except RecordRefused as error:
        refusal = Refusal(error.reason, error.detail)
    except Exception:  # a bug: the record is parked with its traceback, and too many of them stop the sink
        refusal = Refusal(Reason.ENGINE_ERROR, traceback.format_exc(limit=-5))
    return Prepared(record, None, rows=1, size_bytes=len(record.value or b""), refusals=[refusal])


def refuse_gaps(gaps: Sequence[Gap]) -> None:
    """Refuse to read on where the log does not continue what was stored.

    Raises:
        SinkHalted: there is a gap; all of them are named.
    """
    if gaps:
        missing = "; ".join(f"partition {gap.part}: {gap}" for gap in gaps)
        raise SinkHalted(
            f"the {gaps[0].sink} sink cannot continue in {gaps[0].topic}: {missing}; "
            "to go on with what there is: traceflow offsets accept-loss"
        )
