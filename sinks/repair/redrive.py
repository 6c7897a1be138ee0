"""Store again what a sink had parked: in that sink alone, in one transaction with the mark that says so.

A sink's letter does not go back through the log, where other sinks and stages would meet its record again. It is
prepared and written here by the sink's own code, as a batch of one record, in the order of `sinks.commit.writer`; the
mark of the letter takes the place of the offsets. So in step 2 the letter is marked, or it was marked before and its
rows are in; and a crash at any step leaves both, or neither. Beside running sinks this is one writer more: rows are
claimed and counted under the same locks.

What the sink refuses again is rolled back with its mark, and the letter waits on. Of a record that had been parked
whole and now turns out good but for some events, these are parked as letters of their own, and the rest is stored.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from adapters.dead_letters import DeadLetterWriter, ParkedRecord, dead_letter_producer
from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Cursor
from schemas.reasons import Reason
from sinks.app import SINKS, Environment
from sinks.commit.batching import Span
from sinks.commit.loop import prepared
from sinks.commit.writer import Step, Writer
from sinks.repair.by_hand import OwnsNothing, batch_by_hand, only_events, writer_by_hand

Mark = Callable[[Cursor], bool]
"""Marks a letter within the open transaction; False if it is marked already."""


class RefusedAgain(Exception):
    """The sink cannot store the record now either: nothing was stored, and the letter waits on."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class _MarkAsProgress(OwnsNothing):
    """The mark of the present letter; see `sinks.commit.writer.Progress`."""

    mark: Mark = lambda _cursor: False

    def advance(self, cursor: Cursor, spans: Mapping[int, Span], epochs: Mapping[int, int]) -> bool:  # noqa: ARG002
        """Mark the letter."""
        return self.mark(cursor)


@dataclass(slots=True)
class _Letters:
    """Parks what is new, and refuses to park the letter itself once more; see `sinks.commit.writer.Letters`."""

    writer: DeadLetterWriter
    is_whole: bool = True

    def park(self, parked: Iterable[ParkedRecord]) -> None:
        """Park events of a record that was parked whole.

        Raises:
            RefusedAgain: it is the letter that is refused.
            DeadLettersUnavailable: the letters are not known to be written.
        """
        letters = list(parked)
        for letter in letters:
            if not self.is_whole or letter.index < 0:
                raise RefusedAgain(letter.reason, letter.detail)
        self.writer.park(letters)


@dataclass(slots=True)
class SinkRedrive:
    """Stores letters of one sink, one after the other."""

    name: str
    environment: Environment
    on_step: Callable[[Step], None] = lambda _step: None
    _progress: _MarkAsProgress = field(default_factory=_MarkAsProgress)
    _letters: _Letters = field(init=False)
    _writer: Writer[Any] = field(init=False)

    def __post_init__(self) -> None:
        environment, stage = self.environment, f"sink-{self.name}"
        self._letters = _Letters(
            DeadLetterWriter(
                lambda: dead_letter_producer(environment.kafka), prefix=environment.log.topic_prefix, stage=stage
            )
        )
        self._writer = writer_by_hand(
            SINKS[self.name](), environment, progress=self._progress, letters=self._letters, on_step=self.on_step
        )

    def store(self, record: ConsumedRecord, *, index: int, mark: Mark) -> None:
        """Store a record, or the event at `index` within it, and mark its letter; nothing if it is marked already.

        Raises:
            RefusedAgain: the sink cannot store it.
            Abandoned: Postgres cannot be written now.
            SinkHalted: a person has to act.
        """
        self._progress.mark = mark
        self._letters.is_whole = index < 0
        item = prepared(self._writer.sink, record if index < 0 else only_event(record, index))
        self._writer.write(batch_by_hand([] if item is None else [item]), {})

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def only_event(record: ConsumedRecord, index: int) -> ConsumedRecord:
    """Return a record of events with that one alone: its neighbours were stored when it was parked.

    Raises:
        RefusedAgain: there is no such event.
    """
    try:
        return only_events(record, [index])
    except (orjson.JSONDecodeError, IndexError, KeyError, TypeError) as error:
        raise RefusedAgain(Reason.RECORD_MALFORMED, f"no event {index}: {error}") from error
