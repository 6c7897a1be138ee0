"""The faults of `plants` in earnest: each replaces one step of a worker by what a plausible mistake would make of it.

The moment in which a crash would show the mistake is a few milliseconds in earnest; here it is stretched, so that a
short run meets it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sinks.commit.batching import Batch as SinkBatch
from sinks.commit.batching import Span
from sinks.commit.offsets import Offsets
from sinks.commit.writer import Writer, Written
from stream_processors.fold.batch import Batch
from stream_processors.fold.facts import is_session_key
from stream_processors.runner.flights import Letter
from stream_processors.runner.stage import Partition, Stage
from tests.chaos.replacing import replace

STRETCH_S = 0.3


def commit_before_write() -> None:
    """Move a sink's offsets in a transaction of their own, before the rows are stored."""
    usual = Writer._try

    def write(self: Writer[Any], batch: SinkBatch[Any], epochs: Mapping[int, int], *, careful: bool) -> Written:
        with self._connected().transaction(), self._connected().cursor() as cursor:
            self.offsets.advance(cursor, batch.spans, epochs)
        time.sleep(STRETCH_S)
        counting, self.offsets = self.offsets, _Moved()
        try:
            return usual(self, batch, epochs, careful=careful)
        finally:
            self.offsets = counting

    replace(Writer, "_try", write)


class _Moved(Offsets):
    """Offsets that were moved before."""

    def __init__(self) -> None:
        """Know nothing: nobody asks."""

    def advance(self, *_: object) -> bool:
        return True


def skip_the_fence() -> None:
    """Move a sink's offsets whoever owns the partitions now, and wherever they stand."""

    def advance(self: Offsets, cursor: Any, spans: Mapping[int, Span], epochs: Mapping[int, int]) -> bool:
        for part, span in spans.items():
            cursor.execute(
                "UPDATE public.traceflow_sink_offsets SET next_offset = %(end)s WHERE sink = %(sink)s"
                " AND topic = %(topic)s AND topic_id = %(topic_id)s AND part = %(part)s",
                self._place | {"part": part, "end": span.end},
            )
        return bool(epochs)

    replace(Offsets, "advance", advance)


def lose_the_seek() -> None:
    """Fold on from where delivery has jumped to."""

    async def is_next(_stage: Stage, partition: Partition, _number: int, records: Sequence[Any]) -> bool:
        partition.wanted = max(partition.wanted, records[0].offset)
        return bool(records[-1].offset >= partition.wanted)

    replace(Stage, "_is_next", is_next)


def delete_before_the_newer_fact() -> None:
    """Delete the facts that a batch supersedes before its own are acknowledged."""

    async def send(self: Stage, batches: dict[int, Batch]) -> None:
        topic = self._dispatch.kind.changelog.full_name(self._dispatch.prefix)
        superseded = [
            Letter(topic, number, key, None)
            for number in batches
            for key in self.partitions[number].fold.obsolete
            if is_session_key(key)
        ]
        await self._flights.send(self._dispatch.effects(batches))
        await self._flights.send(superseded)
        await asyncio.sleep(STRETCH_S)
        await self._flights.send(self._dispatch.facts(batches))
        await self._flights.send(self._dispatch.records(batches), self._store.note_written)
        _note(self, batches)

    replace(Stage, "_send", send)


def record_beside_the_facts() -> None:
    """Send states and partition record in one flight, of which the record lands first."""

    async def send(self: Stage, batches: dict[int, Batch]) -> None:
        await self._flights.send(self._dispatch.effects(batches))
        await self._flights.send(self._dispatch.records(batches), self._store.note_written)
        await asyncio.sleep(STRETCH_S)
        await self._flights.send(self._dispatch.facts(batches))
        _note(self, batches)

    replace(Stage, "_send", send)


def _note(stage: Stage, batches: dict[int, Batch]) -> None:
    for number, batch in batches.items():
        stage.partitions[number].written = batch.offset
        stage._count(batch)


_HOW: Mapping[str, Callable[[], None]] = {
    "commit-before-write": commit_before_write,
    "skipped-fence": skip_the_fence,
    "lost-seek": lose_the_seek,
    "early-tombstone": delete_before_the_newer_fact,
    "one-flight": record_beside_the_facts,
}


def plant(name: str) -> None:
    """Plant a fault of `plants.PLANTS` in this process."""
    _HOW[name]()
