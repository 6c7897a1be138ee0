"""What batches are on the wire: three flights, each acknowledged before the next (`fold.facts` says why).

1. outputs and dead letters,
2. new facts, and the deletions of facts that the batch before superseded,
3. the partition records.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.dead_letters import DeadLetterCounts, ParkedRecord, describe_parked
from schemas import topics
from stream_processors.fold.batch import Batch
from stream_processors.fold.chain import CHAIN_HEADERS, Statement, write_statement
from stream_processors.fold.facts import changelog_flight
from stream_processors.fold.logic import Parked
from stream_processors.kinds import StageKind
from stream_processors.runner.flights import Letter

Batches = Mapping[int, Batch]
"""By partition."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Addresses batches; topics are co-partitioned, so every record goes to the partition that it comes from."""

    kind: StageKind
    prefix: str

    def effects(self, batches: Batches) -> list[Letter]:
        """Return the first flight: outputs and dead letters."""
        letters = [
            Letter(self.prefix + output.topic, partition, output.key, output.value, output.headers)
            for partition, batch in batches.items()
            for output in batch.outputs
        ]
        letters += [
            self._dead_letter(partition, parked) for partition, batch in batches.items() for parked in batch.parked
        ]
        return letters

    def facts(self, batches: Batches) -> list[Letter]:
        """Return the second flight: facts and deletions."""
        topic = self.kind.changelog.full_name(self.prefix)
        return [
            Letter(topic, partition, key, value)
            for partition, batch in batches.items()
            for key, value in changelog_flight(batch.facts, batch.deletions)
        ]

    def records(self, batches: Batches) -> list[Letter]:
        """Return the third flight: the partition records."""
        topic = self.kind.changelog.full_name(self.prefix)
        return [Letter(topic, partition, *batch.record) for partition, batch in batches.items()]

    def statement(self, partition: int, said: Statement) -> list[Letter]:
        """Return what the next stage is told of the chain; nothing if this stage has none."""
        if self.kind.chained_into is None:
            return []
        topic = self.kind.chained_into.full_name(self.prefix)
        return [Letter(topic, partition, None, write_statement(said), CHAIN_HEADERS)]

    def _dead_letter(self, partition: int, parked: Parked) -> Letter:
        record = parked.record
        letter = ParkedRecord(
            reason=parked.reason,
            topic=self.kind.source.name,
            partition=partition,
            offset=record.offset,
            key=record.key or None,
            value=record.value,
            headers=record.headers,
            index=parked.index,
            detail=parked.detail,
        )
        headers = describe_parked(letter, stage=self.kind.name)
        return Letter(topics.DEAD_LETTERS.full_name(self.prefix), partition, letter.key, letter.value, headers)


def count_parked(counts: DeadLetterCounts, batches: Batches) -> DeadLetterCounts:
    """Return the counts after batches, in the order of each partition's log."""
    for batch in batches.values():
        next_offset = batch.offset - batch.records + 1
        for parked in batch.parked:
            counts = counts.passed(max(0, parked.record.offset - next_offset)).parked(parked.reason)
            next_offset = parked.record.offset + 1
        counts = counts.passed(max(0, batch.offset + 1 - next_offset))
    return counts
