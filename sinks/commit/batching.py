"""When a batch is written: a policy that is given the time.

Theory. While the writer is busy, waiting costs nothing, so records are collected up to the limits. Once it is idle, the
next batch goes out as soon as the topic has nothing more to give: an idle system shows a row at once, a busy one fills
its batches by itself, and only a stream that never pauses reaches the limit of time.

Records that make no row (ticks, digests) still move the offset, but not often: one transaction a second and partition
for nothing would be the main load of an idle system.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The size of a batch; whichever is reached first."""

    rows: int = 5_000
    """COPY's throughput is flat from 2,000 to 10,000 rows a transaction (measured)."""
    size_bytes: int = 4_000_000
    age_ms: int = 500
    records: int = 20_000
    """Bounds a batch of records that make no rows."""
    quiet_age_ms: int = 5_000
    """How long an offset may lag behind records that make no rows."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a batch covers of one partition: the transaction moves the stored offset from `start` to `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Records in the order of their partitions' logs, and the spans that they cover."""

    items: Sequence[T]
    rows: int
    size_bytes: int
    records: int
    spans: Mapping[int, Span]
    oldest_timestamp: int
    """Broker time of the first record that makes a row, epoch ms; 0 if none does."""


@dataclass(slots=True)
class Collector(Generic[T]):
    """Collects records into the next batch."""

    limits: BatchLimits
    positions: dict[int, int] = field(default_factory=dict)
    """The next offset of each partition owned; a batch begins where the last one ended."""
    _items: list[T] = field(default_factory=list)
    _rows: int = 0
    _size_bytes: int = 0
    _records: int = 0
    _starts: dict[int, int] = field(default_factory=dict)
    _oldest_timestamp: int = 0
    _opened_ms: int = 0

    def add(self, item: T | None, *, partition: int, offset: int, rows: int, size_bytes: int, timestamp: int) -> None:
        """Take a record; None for one that makes no row and only moves the offset.

        Offsets may have gaps (transactions, compaction): the span ends after the last record, it is not counted.
        """
        self._starts.setdefault(partition, self.positions[partition])
        self.positions[partition] = offset + 1
        self._records += 1
        if item is None:
            return
        if not self._items:
            self._oldest_timestamp = timestamp
        self._items.append(item)
        self._rows += rows
        self._size_bytes += size_bytes

    def opened(self, now_ms: int) -> None:
        """Note the time at which the batch received its first record."""
        if not self._records:
            self._opened_ms = now_ms

    def full(self) -> bool:
        """Tell whether no further record may be added before the batch is written."""
        limits = self.limits
        return self._rows >= limits.rows or self._size_bytes >= limits.size_bytes or self._records >= limits.records

    def due(self, now_ms: int, *, drained: bool) -> bool:
        """Tell whether an idle writer should be given the batch; `drained`: the topic has nothing more for now."""
        if not self._records:
            return False
        age_ms = now_ms - self._opened_ms
        if not self._items:
            return age_ms >= self.limits.quiet_age_ms or self.full()
        return drained or self.full() or age_ms >= self.limits.age_ms

    def take(self) -> Batch[T]:
        """Return the batch and begin the next one."""
        batch = Batch(
            items=self._items,
            rows=self._rows,
            size_bytes=self._size_bytes,
            records=self._records,
            spans={partition: Span(start, self.positions[partition]) for partition, start in self._starts.items()},
            oldest_timestamp=self._oldest_timestamp,
        )
        self._items, self._starts = [], {}
        self._rows = self._size_bytes = self._records = self._oldest_timestamp = 0
        return batch

    def empty(self) -> bool:
        """Tell whether nothing has been collected."""
        return not self._records

    def oldest_timestamp(self) -> int:
        """Return the broker time of the oldest record that waits for its row; 0 if none does."""
        return self._oldest_timestamp

    def restart(self, positions: Mapping[int, int]) -> None:
        """Drop what was collected and go on from these positions."""
        self.take()
        self.positions = dict(positions)
