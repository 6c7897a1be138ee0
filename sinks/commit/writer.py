"""Write batches: rows, offset and dead letters in one order, once, whatever fails.

The order of a batch, the same for every sink:

1. BEGIN.
2. Move the offsets by compare-and-swap under our epoch. If that fails, somebody else owns a partition: roll back.
3. Leave out what was erased; what is left is not erased before the commit. Store the rows: sessions first, in order of
   session id, then what hangs on them (one order, so no deadlocks).
4. Check the limit of dead letters, then write them, durably. A crash after this leaves a letter that is written again.
5. Add what was inserted to the events of its hours, and new sessions and recordings to the subscription that pays for
   them: last, because all sinks share its row.
6. COMMIT. Only now has anything happened.
7. (`loop`) Tell Kafka, for tools that show the lag; nothing here ever reads it.

A crash between any two steps leaves the database as before the batch, and the next owner reads the same records again.
A connection that breaks during 6 leaves a commit in doubt: the next try finds the offsets moved, or not, and knows.
"""

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, Protocol, TypeVar

import psycopg
import structlog

from adapters.dead_letters import (
    DeadLetterCounts,
    DeadLetterLimit,
    DeadLettersUnavailable,
    ParkedRecord,
)
from adapters.postgres import Connection, Cursor, DatabaseRefused
from sinks.commit.backoff import Backoff
from sinks.commit.batching import Batch, Span
from sinks.commit.offsets import Claim, Fenced
from sinks.contract.failures import action_of, refusal_of, summary
from sinks.contract.sink import Parking, Prepared, Sink, Stored
from sinks.contract.sqlstates import Action
from sinks.contract.verdicts import Refusal, SinkHalted
from sinks.lifecycle.partitions import DayPartitions
from sinks.metrics import SinkMetrics
from sinks.tables.erased import ErasedRecords, NamesErased
from sinks.tables.event_hours import EventHoursTable
from sinks.tables.usage import UsageTable

P = TypeVar("P")
T = TypeVar("T")

CAREFUL_BATCHES = 20
"""Batches written the careful way after a duplicate: a client's retries come in company (1 % of duplicates costs the
fast way a third of its throughput, the careful way a quarter)."""

_OF_THE_ROW = frozenset({Action.ISOLATE, Action.DEDUPLICATE})

log = structlog.get_logger()


class Step(Enum):
    """The moments within a batch at which `on_step` is called: where tests stop or kill a process."""

    OFFSETS_MOVED = 2
    ROWS_STORED = 3
    LETTERS_WRITTEN = 4
    COMMITTED = 6


class Abandoned(Exception):
    """The partitions were taken away, or the process stops, while a batch could not be written: it was rolled back."""


@dataclass(frozen=True, slots=True)
class Written:
    """A committed batch."""

    inserted: int
    duplicates: int
    parked: int
    careful: bool
    erased: int = 0
    """Rows left out because their visitor or session was erased."""


class Progress(Protocol):
    """What says that a batch is in: `offsets.Offsets`, or the mark of a dead letter (`sinks.repair.redrive`)."""

    def open(self, connection: Connection) -> None:
        """Begin with a new connection."""

    def claim(self, connection: Connection, starts: Mapping[int, int]) -> dict[int, Claim]:
        """Take partitions over."""

    def advance(self, cursor: Cursor, spans: Mapping[int, Span], epochs: Mapping[int, int]) -> bool:
        """Say within the open transaction that the batch is in; False if it was said before."""


class Letters(Protocol):
    """Where refused rows go: `adapters.dead_letters.DeadLetterWriter`."""

    def park(self, parked: Iterable[ParkedRecord]) -> None:
        """Write letters durably."""


@dataclass(slots=True)
class Writer(Generic[P]):
    """Writes the batches of one sink, on one connection, from one thread."""

    sink: Sink[P]
    offsets: Progress
    connect: Callable[[], Connection]
    letters: Letters
    metrics: SinkMetrics
    limit: DeadLetterLimit = field(default_factory=DeadLetterLimit)
    backoff: Backoff = field(default_factory=Backoff)
    on_step: Callable[[Step], None] = lambda _step: None
    days: DayPartitions = field(default_factory=DayPartitions)
    hours: EventHoursTable = field(default_factory=EventHoursTable)
    usage: UsageTable = field(default_factory=UsageTable)
    erased: ErasedRecords = field(default_factory=ErasedRecords)
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Set from another thread: stop retrying. Cleared by whoever hands over the next batch."""
    counts: DeadLetterCounts = field(default_factory=DeadLetterCounts)
    """What was parked before counts too."""
    failures: int = 0
    """Tries that failed and were repeated: while it grows, the log says what is waited for."""
    _connection: Connection | None = None
    _careful_left: int = 0
    _doubtful: tuple[Batch[Prepared[P]], Stored] | None = None
    """What the last try stored, of what, if its commit is in doubt."""

    def claim(self, starts: Mapping[int, int]) -> dict[int, Claim]:
        """Take partitions over, waiting for the database as long as it takes.

        Raises:
            Abandoned, SinkHalted: as `write`.
        """
        return self._until_done(lambda _careful: self.offsets.claim(self._connected(), starts))

    def write(self, batch: Batch[Prepared[P]], epochs: Mapping[int, int]) -> Written:
        """Write a batch, waiting for the database as long as it takes.

        Raises:
            Fenced: another owner has the partitions; nothing was stored.
            Abandoned: `abandoned` was set before a try succeeded; nothing was stored.
            SinkHalted: a person has to act.
        """
        self._doubtful = None
        written = self._until_done(lambda careful: self._try(batch, epochs, careful=careful))
        self._careful_left = max(0, self._careful_left - 1)
        return written

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self, batch: Batch[Prepared[P]], epochs: Mapping[int, int], *, careful: bool) -> Written:
        connection = self._connected()
        self._open_days(connection, batch.items)
        while True:
            try:
                return self._try_once(connection, batch, epochs, careful=careful)
            except NamesErased as error:
                self.erased.erase(connection, error.owners)

    def _try_once(
        self, connection: Connection, batch: Batch[Prepared[P]], epochs: Mapping[int, int], *, careful: bool
    ) -> Written:
        with connection.transaction(), connection.cursor() as cursor:  # 1
            if not self.offsets.advance(cursor, batch.spans, epochs):  # 2
                return self._written(*(self._doubtful or (batch, Stored())), careful=careful)
            self.on_step(Step.OFFSETS_MOVED)
            kept = replace(batch, items=self.erased.without(cursor, batch.items))  # 3
            stored = self._store(cursor, kept.items, careful=careful) if kept.items else Stored()
            stored.erased = _rows(batch) - _rows(kept)
            self.on_step(Step.ROWS_STORED)
            parkings = [*_refused_before(kept.items), *stored.parkings]
            counts = self._counts_after(kept, parkings)
            self.letters.park([self._letter(parking) for parking in parkings])  # 4
            self.on_step(Step.LETTERS_WRITTEN)
            self.hours.add(cursor, stored.hours, sink=self.sink.name, partitions=batch.spans)  # 5
            self.usage.add(cursor, stored.new)
            self._doubtful = kept, stored
        self.counts = counts  # 6
        self.on_step(Step.COMMITTED)
        return self._written(kept, stored, careful=careful)

    def _store(self, cursor: Cursor, items: Sequence[Prepared[P]], *, careful: bool) -> Stored:
        if careful:
            return self._store_halving(cursor, items)
        return self.sink.store(cursor, items, careful=False, closed_days=self.days.closed)

    def _store_halving(self, cursor: Cursor, items: Sequence[Prepared[P]]) -> Stored:
        """Store carefully; a record on which even that fails is found by halving the batch, and parked."""
        try:
            with cursor.connection.transaction():
                return self.sink.store(cursor, items, careful=True, closed_days=self.days.closed)
        except psycopg.Error as error:
            if action_of(error) not in _OF_THE_ROW:
                raise
            if len(items) == 1:
                return Stored(parkings=[Parking(items[0], refusal_of(error))])
        middle = len(items) // 2
        return self._store_halving(cursor, items[:middle]).merged(self._store_halving(cursor, items[middle:]))

    def _written(self, batch: Batch[Prepared[P]], stored: Stored, *, careful: bool) -> Written:
        parkings = [*_refused_before(batch.items), *stored.parkings]
        for parking in parkings:
            rows = parking.item.rows if parking.refusal.index < 0 else 1
            self.metrics.parked.labels(self.sink.name, parking.refusal.reason).inc(rows)
        return Written(stored.inserted, stored.duplicates, len(parkings), careful, stored.erased)

    def _counts_after(self, batch: Batch[Prepared[P]], parkings: Sequence[Parking]) -> DeadLetterCounts:
        counts = counts_after(self.counts, batch.items, parkings)
        if why := self.limit.exceeded(counts):
            example = parkings[-1]
            record = example.item.record
            raise SinkHalted(
                f"{why}: that looks like a fault of ours, so nothing more is parked; an example is "
                f"{self.sink.topic.name} partition {record.partition} offset {record.offset}: {example.refusal.detail}"
            )
        return counts

    def _letter(self, parking: Parking) -> ParkedRecord:
        record, refusal = parking.item.record, parking.refusal
        return ParkedRecord(
            reason=refusal.reason,
            topic=self.sink.topic.name,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            index=refusal.index,
            detail=refusal.detail,
        )

    def _open_days(self, connection: Connection, items: Sequence[Prepared[P]]) -> None:
        table = self.sink.partitioned_table
        if table is not None:
            needed = {day for item in items if item.content is not None for day in self.sink.days(item.content)}
            self.days.open(connection, table, needed)

    def _until_done(self, work: Callable[[bool], T]) -> T:
        """Do the work, again and again while what fails may pass by itself."""
        attempt = 0
        careful = self._careful_left > 0
        while True:
            try:
                return work(careful)
            except (Fenced, SinkHalted, DatabaseRefused):
                raise
            except psycopg.Error as error:
                action = action_of(error)
                cause = error.sqlstate or "connection"
                if action is Action.DEDUPLICATE and not careful:
                    careful, self._careful_left = True, CAREFUL_BATCHES
                elif action is Action.ISOLATE and not careful:
                    careful = True
                elif action is Action.ADD_PARTITION:
                    self.days.forget()
                elif action is not Action.RETRY:
                    raise SinkHalted(f"Postgres refuses the {self.sink.name} sink: {summary(error)}") from error
                self._after_failure(error)
            except DeadLettersUnavailable as error:
                action, cause = Action.RETRY, "dead_letters"
                log.warning("dead_letters_unavailable", sink=self.sink.name, error=str(error))
            self.failures += 1
            self.metrics.retries.labels(self.sink.name, cause).inc()
            if action in (Action.RETRY, Action.ADD_PARTITION):
                self._wait(attempt)
                attempt += 1

    def _after_failure(self, error: psycopg.Error) -> None:
        log.warning("try_failed", sink=self.sink.name, sqlstate=error.sqlstate, error=summary(error))
        connection = self._connection
        if connection is not None and (connection.closed or error.sqlstate == "25006"):
            connection.close()
            self._connection = None

    def _wait(self, attempt: int) -> None:
        if self.abandoned.wait(self.backoff.delay_s(attempt, uniform=random.uniform)):
            raise Abandoned(f"the {self.sink.name} sink gave up a batch that could not be written yet")

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = self.connect()
            try:
                self.offsets.open(connection)
                self.sink.open(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def counts_after(
    counts: DeadLetterCounts, items: Sequence[Prepared[P]], parkings: Sequence[Parking]
) -> DeadLetterCounts:
    """Return the dead-letter counts after a batch: in the order of its records, a record's parked rows first."""
    if not parkings:
        return counts.passed(sum(item.rows for item in items))
    by_item: dict[int, list[Refusal]] = {}
    for parking in parkings:
        by_item.setdefault(id(parking.item), []).append(parking.refusal)
    for item in items:
        refusals = by_item.get(id(item), [])
        for refusal in refusals:
            counts = counts.parked(refusal.reason)
        whole = any(refusal.index < 0 for refusal in refusals)
        counts = counts.passed(0 if whole else max(0, item.rows - len(refusals)))
    return counts


def _rows(batch: Batch[Prepared[P]]) -> int:
    return sum(item.rows for item in batch.items)


def _refused_before(items: Sequence[Prepared[P]]) -> list[Parking]:
    return [Parking(item, refusal) for item in items for refusal in item.refusals]
