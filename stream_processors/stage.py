"""The stage: folds what Faust delivers, and writes it so that no crash, owner or order can change the result.

Faust gives it group membership, the assignment of partitions, flow control and the recovery of the changelog. Positions
are our own: a partition's fold knows the last record that its state includes. What Faust delivers below that is
skipped; what it delivers beyond the next record is a gap (Faust skips records after a rebalance: 90 of 100,000 in eight
joins and leaves), and the consumer is sent back. Kafka's committed offsets serve the lag tools only.

A batch is written in this order, each step acknowledged before the next (`stream_processors.facts` says why):

1. outputs and dead letters,
2. new facts, and the deletions of facts that the batch before superseded,
3. the partition records.

Whatever fails ends the process (`failstop`); the next owner folds the same records to the same result.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from faust.types import TP

from adapters.dead_letters import DeadLetterCounts, DeadLetterLimit, ParkedRecord, describe_parked
from schemas import topics
from schemas.messages import KIND_HEADER, Kind
from schemas.topics import Topic
from stream_processors.batch import Batch
from stream_processors.changelog_store import ChangelogStore
from stream_processors.facts import changelog_flight, recover
from stream_processors.failstop import HALT, fail_stop
from stream_processors.flights import Flights, Letter
from stream_processors.fold import PartitionFold
from stream_processors.logic import LogRecord, Parked, SessionLogic
from stream_processors.metrics import StageMetrics

MAX_SEEKS = 50
"""Attempts to get at the next record before the worker gives up and starts anew."""

_TICK_HEADERS = ((KIND_HEADER, Kind.TICK.value.encode()),)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StageKind:
    """Which log a stage folds, and where its facts go."""

    name: str
    source: Topic
    changelog: Topic
    weight_bytes: int
    """What a unit of its logic's `weight` takes in memory."""


DIGEST = StageKind("digest", topics.RECORDINGS, topics.DIGEST_CHANGELOG, weight_bytes=300)
ANALYZE = StageKind("analyze", topics.EVENTS, topics.ANALYZE_CHANGELOG, weight_bytes=1)
KINDS = {kind.name: kind for kind in (DIGEST, ANALYZE)}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a batch holds at most, and what stays decoded."""

    records: int
    size: int
    """Bytes."""
    cache_weight: int
    """Of one partition, in the unit of the logic."""


class Stage:
    """One worker's part of a stage; lives on Faust's event loop."""

    def __init__(
        self,
        kind: StageKind,
        logic: SessionLogic[Any],
        *,
        app: Any,
        store: ChangelogStore,
        flights: Flights,
        prefix: str,
        bounds: Bounds,
        metrics: StageMetrics,
    ) -> None:
        self._kind = kind
        self._logic = logic
        self._app = app
        self._store = store
        self._flights = flights
        self._prefix = prefix
        self._bounds = bounds
        self._metrics = metrics
        self._source = kind.source.full_name(prefix)
        self._changelog = kind.changelog.full_name(prefix)
        self._folds: dict[int, PartitionFold[Any]] = {}
        self._latest: dict[int, int] = {}
        self._seeks: Tally[int] = Tally()
        self._generation = -1
        self._lock = asyncio.Lock()
        self._letters = DeadLetterCounts()
        self._limit = DeadLetterLimit()
        self.finished_at = time.monotonic()
        """When the last batch was written, for the watchdog."""
        self.lag = 0

    # --- what Faust tells

    async def revoked(self) -> None:
        """Finish the batch in hand; what is queued belongs to a generation that is over."""
        async with self._lock:
            self._generation = -1
        self._store.restart_recovery()

    async def assigned(self) -> None:
        """Let go of what is not ours any more; what stays keeps its state in memory."""
        mine = {tp.partition for tp in self._assignment()}
        for partition in [p for p in self._folds if p not in mine]:
            del self._folds[partition]
            self._latest.pop(partition, None)
            self._store.drop(partition)
        log.info("partitions_assigned", partitions=sorted(mine))

    async def run(self, stream: Any) -> None:
        """Take runs from Faust and fold them, batch by batch, until the worker stops."""
        queue = stream.channel.queue
        runs: list[Any] = []
        records = size = 0
        try:
            async for event in stream.noack().events():
                run = event.message
                run.acked = True
                runs.append(run)
                records += len(run.value)
                size += run.serialized_value_size
                if queue.empty() or records >= self._bounds.records or size >= self._bounds.size:
                    batch, runs, records, size = runs, [], 0, 0
                    await self._process(batch)
        except asyncio.CancelledError:
            raise
        except MemoryError:
            fail_stop("out_of_memory")
        except BaseException as error:
            code = HALT if type(error).__name__ in _HALTING else 75
            log.error("stage_failed", exc_info=error)
            fail_stop("stage_failed", code=code, reason=str(error))

    # --- a batch

    async def _process(self, runs: Sequence[Any]) -> None:
        async with self._lock:
            generation = self._app.consumer_generation_id
            if generation != self._generation:
                self._generation = generation
                self._seeks.clear()
            began = time.perf_counter()
            touched = set()
            for run in runs:
                if run.generation_id == generation and await self._is_next(run):
                    self._fold(run)
                    touched.add(run.partition)
            batches = {p: self._folds[p].cut() for p in sorted(touched) if self._folds[p].pending}
            self._metrics.fold_seconds.observe(time.perf_counter() - began)
            if batches:
                await self._write(batches)
                self._metrics.batch_seconds.observe(time.perf_counter() - began)
                self.finished_at = time.monotonic()

    def _fold_of(self, partition: int) -> PartitionFold[Any]:
        fold = self._folds.get(partition)
        if fold is None:
            facts = self._store.take(partition)
            fold = PartitionFold(self._logic, recover(facts), cache_weight=self._bounds.cache_weight)
            self._folds[partition] = fold
            self._metrics.recovered_facts.inc(len(facts))
            log.info("partition_recovered", partition=partition, facts=len(facts), offset=fold.position.offset)
        return fold

    async def _is_next(self, run: Any) -> bool:
        """Tell whether a run continues where the state is; if delivery has jumped ahead, send it back."""
        partition, first, last = run.partition, run.value[0].offset, run.value[-1].offset
        wanted = self._fold_of(partition).position.offset + 1
        if last - first != len(run.value) - 1:
            fail_stop("log_has_a_hole", partition=partition, first=first, last=last, records=len(run.value))
        if first <= wanted:
            self._seeks.pop(partition, None)
            return bool(last >= wanted)
        tp = TP(self._source, partition)
        lowest = (await self._app.consumer.earliest_offsets(tp))[tp] or 0
        if lowest > wanted:
            fail_stop("retention_took_records", code=HALT, partition=partition, wanted=wanted, lowest=lowest)
        self._seeks[partition] += 1
        self._metrics.seeks.inc()
        if self._seeks[partition] > MAX_SEEKS:
            fail_stop("records_not_delivered", partition=partition, wanted=wanted, delivered=first)
        await self._app.consumer.seek(tp, wanted)
        return False

    def _fold(self, run: Any) -> None:
        self._folds[run.partition].feed(
            LogRecord(
                offset=record.offset,
                timestamp=record.timestamp,
                kind=_kind(record.headers),
                key=record.key or b"",
                value=record.value or b"",
                headers=record.headers,
            )
            for record in run.value
        )
        self._latest[run.partition] = run.timestamp

    async def _write(self, batches: dict[int, Batch]) -> None:
        """Write batches in the order that the module says."""
        outputs = [letter for p, batch in batches.items() for letter in self._outputs(p, batch)]
        parked = [letter for p, batch in batches.items() for letter in self._parked(p, batch)]
        # 1.
        await self._flights.send([*outputs, *parked])
        # 2.
        await self._flights.send(
            [
                Letter(self._changelog, p, key, value)
                for p, batch in batches.items()
                for key, value in changelog_flight(batch.facts, batch.deletions)
            ]
        )
        # 3.
        await self._flights.send(
            [Letter(self._changelog, p, *batch.record) for p, batch in batches.items()],
            acknowledged=self._store.note_written,
        )
        for batch in batches.values():
            self._count(batch)

    def _outputs(self, partition: int, batch: Batch) -> list[Letter]:
        return [
            Letter(self._prefix + output.topic, partition, output.key, output.value, output.headers)
            for output in batch.outputs
        ]

    def _parked(self, partition: int, batch: Batch) -> list[Letter]:
        for parked in batch.parked:
            self._letters = self._letters.parked(parked.reason)
        self._letters = self._letters.passed(max(0, batch.records - len(batch.parked)))
        if reason := self._limit.exceeded(self._letters):
            fail_stop("too_many_dead_letters", code=HALT, reason=reason)
        topic = topics.DEAD_LETTERS.full_name(self._prefix)
        return [
            Letter(topic, partition, record.key, record.value, describe_parked(record, stage=self._kind.name))
            for record in (self._as_parked(partition, parked) for parked in batch.parked)
        ]

    def _as_parked(self, partition: int, parked: Parked) -> ParkedRecord:
        record = parked.record
        return ParkedRecord(
            reason=parked.reason,
            topic=self._kind.source.name,
            partition=partition,
            offset=record.offset,
            key=record.key or None,
            value=record.value,
            headers=record.headers,
            index=parked.index,
            detail=parked.detail,
        )

    def _count(self, batch: Batch) -> None:
        metrics = self._metrics
        metrics.batches.inc()
        metrics.records.inc(batch.records)
        metrics.ignored_sources.inc(batch.ignored_sources)
        for topic, count in Tally(output.topic for output in batch.outputs).items():
            metrics.outputs.labels(topic).inc(count)
        for parked in batch.parked:
            metrics.parked.labels(parked.reason).inc()

    # --- once a tick

    def tick(self) -> None:
        """Show log time in every partition that we own, recovered or not; a second tick is harmless."""
        for tp in self._assignment():
            self._flights.post(Letter(self._source, tp.partition, None, b"", _TICK_HEADERS))

    def measure(self, *, now: float) -> None:
        """Tell how far behind we are."""
        lag, oldest, watermark = 0, 0.0, 0.0
        for tp in self._assignment():
            fold = self._folds.get(tp.partition)
            if fold is None:
                continue
            behind = max(0, (self._app.consumer.highwater(tp) or 0) - fold.position.offset - 1)
            lag += behind
            if behind and (latest := self._latest.get(tp.partition)):
                oldest = max(oldest, now - latest / 1000)
            if fold.position.watermark:
                watermark = max(watermark, now - fold.position.watermark / 1000)
        self.lag = lag
        metrics = self._metrics
        metrics.lag_records.set(lag)
        metrics.oldest_record_age_seconds.set(oldest)
        metrics.watermark_age_seconds.set(watermark)
        metrics.open_sessions.set(sum(fold.open_sessions for fold in self._folds.values()))
        metrics.owned_partitions.set(len(self._folds))

    async def commit(self) -> None:
        """Commit positions to the group, for the lag tools: nothing here ever reads them."""
        if self._lock.locked():
            return
        mine = self._assignment()
        offsets = {TP(self._source, p): fold.position.offset + 1 for p, fold in self._folds.items()}
        offsets = {tp: offset for tp, offset in offsets.items() if tp in mine and offset > 0}
        if offsets:
            await self._app.consumer._commit(offsets)

    def _assignment(self) -> set[TP]:
        return {tp for tp in self._app.consumer.assignment() if tp.topic == self._source}


_HALTING = frozenset({"NewerStateFormat", "NewerFactFormat", "DamagedFact"})
"""Exceptions that a restart would only meet again."""


def _kind(headers: Sequence[tuple[str, bytes]] | None) -> str:
    for name, value in headers or ():
        if name == KIND_HEADER:
            return value.decode("utf-8", "replace")
    return ""
