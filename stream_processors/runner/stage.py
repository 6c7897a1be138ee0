"""The stage: folds what Faust delivers, and writes it so that no crash, owner or order can change the result.

Faust gives it group membership, the assignment of partitions, flow control and the recovery of the changelog. Positions
are our own (`delivery`); Kafka's committed offsets serve the lag tools, and show a recovery that read too little.

Two tasks share the event loop. The reader folds runs, slice by slice. The writer cuts what is folded into batches and
writes them, while the reader goes on; a batch is written in this order, each step acknowledged before the next:

1. outputs and dead letters,
2. new facts, and the deletions of facts that the batch before superseded,
3. the partition records.

A process may end between any two of these steps, or freeze there and go on when another one owns its partitions; tests
let it (`Step`).

A batch is cut when nothing more is delivered, so an idle stage answers at once; else after `FILL_S`, because each batch
encodes each session that it changed; and when `Bounds` are reached. Whatever fails ends the process (`failstop`); the
next owner folds the same records to the same result.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

import structlog
from faust.types import TP

from adapters.dead_letters import DeadLetterCounts, DeadLetterLimit
from schemas.messages import KIND_HEADER
from stream_processors.fold.batch import Batch
from stream_processors.fold.chain import Statement
from stream_processors.fold.facts import DamagedFact, NewerFactFormat, recover
from stream_processors.fold.logic import LogRecord, NewerStateFormat, SessionLogic
from stream_processors.fold.partition import PartitionFold
from stream_processors.fold.sessions import UnencodableState
from stream_processors.metrics import StageMetrics
from stream_processors.runner.changelog_store import ChangelogStore
from stream_processors.runner.continuity import LogSight, broken_by, left_unread, lost_by_changelog
from stream_processors.runner.delivery import Decision, Delivery
from stream_processors.runner.dispatch import Dispatch, count_parked
from stream_processors.runner.failstop import HALT, RESTART, fail_stop
from stream_processors.runner.flights import Flights, Letter
from stream_processors.runner.source_log import LogUnseen

SLICE_S = 0.02
"""Folding holds the event loop no longer than this: flights, ticks and heartbeats go on beside it."""

FILL_S = 0.2
"""How long a batch fills while more is delivered: about ten times what its flights take."""

LOOK_AGAIN_S = 1.0
"""How long to wait before a broker that could not tell of the log is asked again; the watchdog bounds the attempts."""

IF_IT_REPEATS = "the changelog cannot be read: stop the stage's workers, `traceflow forget STAGE --yes`, start them"

_HALTING = (NewerStateFormat, NewerFactFormat, DamagedFact, UnencodableState)
"""What a restart would only meet again."""

log = structlog.get_logger()


class Step(Enum):
    """The moments within a batch at which `on_step` is called: where tests stop or kill a process."""

    CUT = 0
    EFFECTS_SENT = 1
    FACTS_SENT = 2
    RECORDS_SENT = 3


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is folded ahead of the batch that is being written, at most, and what stays decoded."""

    records: int
    size: int
    """Bytes."""
    cache_weight: int
    """Of one partition, in the unit of the logic."""


@dataclass(slots=True)
class Partition:
    """A partition that we own: its fold, and where its log stands."""

    fold: PartitionFold[Any]
    wanted: int
    """The offset of the next record to fold."""
    written: int
    """The last offset that is durably included."""
    gone: int = -1
    """The last offset that retention took before the fold began: nobody will ever fold it."""
    latest: int = 0
    """Log time of the last record folded, epoch ms."""
    delivery: Delivery = field(default_factory=Delivery)


class Standing(NamedTuple):
    """Where a partition stands, whether or not its fold has begun."""

    wanted: int
    """The offset of the next record to fold."""
    written: int
    """The last offset that is durably included."""
    latest: int
    """Log time of the last record folded, epoch ms; 0 if it is unknown."""


class Stage:
    """One worker's part of a stage; lives on Faust's event loop."""

    def __init__(
        self,
        logic: SessionLogic[Any],
        *,
        app: Any,
        store: ChangelogStore,
        flights: Flights,
        dispatch: Dispatch,
        look: Callable[[int, int], LogSight],
        bounds: Bounds,
        metrics: StageMetrics,
        letters: DeadLetterCounts | None = None,
        on_step: Callable[[Step], None] = lambda _step: None,
    ) -> None:
        self._logic = logic
        self._app = app
        self._store = store
        self._flights = flights
        self._dispatch = dispatch
        self._look = look
        self._bounds = bounds
        self._metrics = metrics
        self._on_step = on_step
        self._source = dispatch.kind.source.full_name(dispatch.prefix)
        self._changelog = dispatch.kind.changelog.full_name(dispatch.prefix)
        self.partitions: dict[int, Partition] = {}
        self._is_reading = False
        self._records = self._size = 0
        self._cut_at = time.monotonic()
        self._work = asyncio.Event()
        self._written = asyncio.Condition()
        self._is_writing = False
        self._letters = letters or DeadLetterCounts()
        self._limit = DeadLetterLimit()

    # --- what Faust tells

    async def revoked(self) -> None:
        """Finish what is folded; what is queued belongs to a generation that is over."""
        await self.stop()
        self._store.restart_recovery()

    async def assigned(self) -> None:
        """Let go of what is not ours any more; what stays keeps its state in memory."""
        mine = {tp.partition for tp in self.assignment()}
        for partition in [p for p in self.partitions if p not in mine]:
            del self.partitions[partition]
            self._store.drop(partition)
        self._is_reading = True
        log.info("partitions_assigned", partitions=sorted(mine))
        if apart := sorted(number for number in mine if not self._is_recoverable(number)):
            log.error("assigned_without_changelog", partitions=apart)

    async def stop(self) -> None:
        """Stop reading, and finish what is folded."""
        self._is_reading = False
        await self._drain()

    def assignment(self) -> set[TP]:
        """Return which partitions of the log are ours."""
        return {tp for tp in self._app.consumer.assignment() if tp.topic == self._source}

    def owned(self) -> dict[int, Standing]:
        """Return where each partition that is ours stands; also one of which nothing has been delivered yet."""
        return {tp.partition: self._standing(tp.partition) for tp in self.assignment()}

    def statements(self) -> list[Letter]:
        """Return what the next stage is told: up to where everything of each partition was acknowledged."""
        return [
            letter for number, partition in self.partitions.items() for letter in self._statement(number, partition)
        ]

    def _statement(self, number: int, partition: Partition) -> list[Letter]:
        said = Statement(max(partition.written, partition.gone), partition.fold.position.topic_id)
        return self._dispatch.statement(number, said)

    def _standing(self, number: int) -> Standing:
        partition = self.partitions.get(number)
        if partition is None:
            recovered = self._store.position(number)
            return Standing(wanted=recovered.offset + 1, written=recovered.offset, latest=recovered.logged_at)
        return Standing(partition.wanted, partition.written, partition.latest)

    async def run(self, stream: Any) -> None:
        """Read and write until the worker stops."""
        queue = stream.channel.queue
        writer = asyncio.ensure_future(self._write_batches())
        try:
            async for event in stream.noack().events():
                run = event.message
                run.acked = True
                await self._read(run)
                if queue.empty():
                    self._ask_for_batch()
        except BaseException as error:
            _end(error)
            raise
        finally:
            writer.cancel()

    # --- the reader

    async def _read(self, run: Any) -> None:
        if not self._is_current(run):
            return
        records = run.value
        partition = self.partitions.get(run.partition)
        if partition is None:
            if not self._is_recoverable(run.partition):
                return
            log_sight = await self._look_at_log(run.partition)
            if not self._is_current(run):
                return
            partition = self._take(run.partition, log_sight)
        if await self._is_next(partition, run.partition, records):
            records = records[partition.wanted - records[0].offset :]
            if partition.fold.position.offset < 0:
                await self._flights.send(self._statement(run.partition, partition))
                # the first record of a chain may have any source, so it must not get lost while later ones land
                await self._fold(partition, records[:1])
                await self._drain()
                records = records[1:]
            await self._fold(partition, records)

    def _is_recoverable(self, number: int) -> bool:
        """Tell whether a partition is held already, or its changelog is ours too.

        A member that subscribes to the log alone makes Faust's assignor spread the two apart: whoever folded then would
        begin with nothing. The group assigns anew once such a member is gone; until then the partition waits.
        """
        return number in self.partitions or TP(self._changelog, number) in self._app.consumer.assignment()

    def _is_current(self, run: Any) -> bool:
        return bool(self._is_reading and run.generation_id == self._app.consumer_generation_id)

    async def _look_at_log(self, number: int) -> LogSight:
        """Look whether the state was recovered to its end, and whether the log continues it.

        What does not is a person's to judge, but for a changelog that was not read to its end: that is read again.
        """
        while True:
            record = self._store.position(number)
            try:
                seen = await asyncio.get_running_loop().run_in_executor(None, self._look, number, record.offset)
            except LogUnseen as error:
                log.warning("log_not_seen", partition=number, reason=str(error))
                await asyncio.sleep(LOOK_AGAIN_S)
                continue
            if reason := broken_by(record, seen):
                fail_stop("log_does_not_continue", code=HALT, partition=number, reason=reason)
            read = self._store.read_until(number)
            if reason := left_unread(record, seen, read=read):
                fail_stop("changelog_not_read", partition=number, reason=reason, if_it_repeats=IF_IT_REPEATS)
            if reason := lost_by_changelog(record, seen, read=read):
                fail_stop("changelog_lost_records", code=HALT, partition=number, reason=reason)
            return seen

    def _take(self, number: int, seen: LogSight) -> Partition:
        """Begin to fold a partition where its facts end."""
        facts = self._store.take(number)
        recovered = recover(facts)
        record = recovered.record._replace(topic_id=seen.topic_id)
        fold = PartitionFold(self._logic, replace(recovered, record=record), cache_weight=self._bounds.cache_weight)
        found = self.partitions[number] = Partition(
            fold, wanted=record.offset + 1, written=record.offset, latest=record.logged_at
        )
        self._metrics.recovered_facts.inc(len(facts))
        log.info("partition_recovered", partition=number, facts=len(facts), offset=record.offset)
        return found

    async def _is_next(self, partition: Partition, number: int, records: Sequence[Any]) -> bool:
        """Tell whether a run continues where the state is; if delivery has jumped ahead, send it back."""
        offsets = (records[0].offset, records[-1].offset)
        if offsets[1] - offsets[0] != len(records) - 1:
            fail_stop("log_has_a_hole", code=HALT, partition=number, offsets=offsets, records=len(records))
        if _is_other_log(partition, records):
            reason = f"record {partition.wanted - 1} is not the one that the state includes"
            fail_stop("log_does_not_continue", code=HALT, partition=number, reason=reason)
        if offsets[0] > partition.wanted:
            await self._start_where_log_starts(partition, number)
        judged = partition.delivery.judge(offsets, wanted=partition.wanted, now=time.monotonic())
        partition.delivery, decision = judged
        if decision is Decision.SEEK:
            await self._seek(TP(self._source, number), partition.wanted)
        elif decision is Decision.GIVE_UP:
            fail_stop("records_not_delivered", partition=number, wanted=partition.wanted, delivered=offsets[0])
        return decision is Decision.FOLD

    async def _seek(self, tp: TP, offset: int) -> None:
        """Have delivery go on from an offset; of a partition that was given to another worker meanwhile, nothing is.

        Not by Faust's `seek`: that one changes the client's records beside its thread, which may be handing them out.
        """
        self._metrics.seeks.inc()
        try:
            await self._app.consumer.seek_wait({tp: offset})
        except RuntimeError:
            if tp in self._app.consumer.assignment():
                raise

    async def _start_where_log_starts(self, partition: Partition, number: int) -> None:
        """Let a new fold begin with what retention has left; an old one must never lose a record to it."""
        tp = TP(self._source, number)
        lowest = (await self._app.consumer.earliest_offsets(tp))[tp] or 0
        if lowest <= partition.wanted:
            return
        if partition.fold.position.offset >= 0:
            fail_stop("retention_took_records", code=HALT, partition=number, wanted=partition.wanted, lowest=lowest)
        partition.wanted = lowest
        # the stage after it need not wait for that
        partition.gone = lowest - 1

    async def _fold(self, partition: Partition, records: Sequence[Any]) -> None:
        began = time.perf_counter()
        for record in records:
            if not self._is_reading:
                # a rebalance began during the last slice: whoever gets the partition folds the rest
                return
            partition.fold.feed((_log_record(record),))
            partition.wanted = record.offset + 1
            partition.latest = record.timestamp
            self._records += 1
            self._size += max(record.serialized_value_size, 0)
            if (now := time.perf_counter()) - began > SLICE_S:
                self._metrics.fold_seconds.inc(now - began)
                await self._make_room()
                began = time.perf_counter()
        self._metrics.fold_seconds.inc(time.perf_counter() - began)
        await self._make_room()

    async def _make_room(self) -> None:
        """Let the loop go on, ask for a batch if it is time, and wait for the writer if too much is folded."""
        if not self._has_room() or time.monotonic() - self._cut_at > FILL_S:
            self._ask_for_batch()
        await asyncio.sleep(0)
        async with self._written:
            await self._written.wait_for(self._has_room)

    def _ask_for_batch(self) -> None:
        if self._records:
            self._work.set()

    def _has_room(self) -> bool:
        return self._records < self._bounds.records and self._size < self._bounds.size

    # --- the writer

    async def _write_batches(self) -> None:
        try:
            while True:
                await self._work.wait()
                await self._write()
        except BaseException as error:
            _end(error)
            raise

    async def _write(self) -> None:
        """Cut what is folded, and write it."""
        self._is_writing = True
        self._work.clear()
        self._records = self._size = 0
        self._cut_at = time.monotonic()
        batches = {
            number: partition.fold.cut()
            for number, partition in sorted(self.partitions.items())
            if partition.fold.pending
        }
        if batches:
            await self._send(batches)
        async with self._written:
            self._is_writing = False
            self._written.notify_all()

    async def _send(self, batches: dict[int, Batch]) -> None:
        """Send batches in the order that the module says."""
        began = time.perf_counter()
        self._letters = count_parked(self._letters, batches)
        if reason := self._limit.exceeded(self._letters):
            fail_stop("too_many_dead_letters", code=HALT, reason=reason)
        self._on_step(Step.CUT)
        # 1.
        await self._flights.send(self._dispatch.effects(batches))
        self._on_step(Step.EFFECTS_SENT)
        # 2.
        await self._flights.send(self._dispatch.facts(batches))
        self._on_step(Step.FACTS_SENT)
        # 3.
        await self._flights.send(self._dispatch.records(batches), self._store.note_written)
        self._on_step(Step.RECORDS_SENT)
        for number, batch in batches.items():
            self.partitions[number].written = batch.offset
            self._count(batch)
        self._metrics.write_seconds.observe(time.perf_counter() - began)

    async def _drain(self) -> None:
        """Wait until all that is folded is written."""
        self._ask_for_batch()
        async with self._written:
            await self._written.wait_for(lambda: not self._work.is_set() and not self._is_writing)

    def _count(self, batch: Batch) -> None:
        metrics = self._metrics
        metrics.batches.inc()
        metrics.records.inc(batch.records)
        metrics.batch_records.observe(batch.records)
        metrics.ignored_sources.inc(batch.ignored_sources)
        metrics.lost_sources.inc(batch.lost_sources)
        if batch.lost_sources:
            log.error("sources_lost", sources=batch.lost_sources, offset=batch.offset)
        for topic, count in Tally(output.topic for output in batch.outputs).items():
            metrics.outputs.labels(topic).inc(count)
        for parked in batch.parked:
            metrics.parked.labels(parked.reason).inc()


def _is_other_log(partition: Partition, records: Sequence[Any]) -> bool:
    """Tell whether a run that holds the last record folded holds another one in its place."""
    index = partition.wanted - 1 - records[0].offset
    return bool(0 <= index < len(records) and partition.latest and records[index].timestamp != partition.latest)


def _log_record(record: Any) -> LogRecord:
    headers = record.headers or ()
    kind = next((value for name, value in headers if name == KIND_HEADER), b"")
    return LogRecord(
        offset=record.offset,
        timestamp=record.timestamp,
        kind=kind.decode("utf-8", "replace"),
        key=record.key or b"",
        value=record.value or b"",
        headers=headers,
    )


def _end(error: BaseException) -> None:
    """End the process for an exception: Faust would acknowledge what raised it, and go on."""
    if isinstance(error, asyncio.CancelledError):
        return
    log.error("stage_failed", exc_info=error)
    fail_stop("stage_failed", code=HALT if isinstance(error, _HALTING) else RESTART, reason=repr(error))
