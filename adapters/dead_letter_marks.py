"""Say in Postgres what was done about dead letters: a topic cannot be changed, and an effect needs its mark beside it.

A letter is named by what it is about (stage, topic, partition, offset, index), not by its own place: parking is done at
least once, so a letter may lie twice in its topic, and both copies share one mark.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from adapters.postgres import Connection, Cursor, read_queries
from schemas.messages import DeadLetter


class MarkState(StrEnum):
    """What was done about a letter; one that nothing was done about has no mark."""

    SENDING = "sending"
    """It was decided to put it back: it may be in the log already, and the next redrive makes sure."""
    REDRIVEN = "redriven"
    DROPPED = "dropped"


class LetterId(NamedTuple):
    """What a letter is about: the same for all copies of it."""

    stage: str
    topic: str
    partition: int
    offset: int
    event_index: int

    @classmethod
    def of(cls, letter: DeadLetter, *, topic: str, partition: int, offset: int) -> "LetterId":
        """Name a letter; one about no record, because a request was refused, is named by the place given: its own."""
        if letter.topic:
            return cls(letter.stage, letter.topic, letter.partition, letter.offset, letter.index)
        return cls(letter.stage, topic, partition, offset, letter.index)


class LetterPlace(NamedTuple):
    """A letter, and where its latest copy lies in the dead-letters topic."""

    id: LetterId
    partition: int
    offset: int


class Mark(NamedTuple):
    """What a mark says."""

    place: LetterPlace
    state: MarkState
    number: int | None


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of the letters of one dead-letters topic."""

    topic_id: str
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("adapters", "dead_letter_marks.sql"))

    def read(self, connection: Connection) -> dict[LetterId, Mark]:
        """Return all marks."""
        rows = connection.execute(self._queries["read"], {"topic_id": self.topic_id})
        return {mark.place.id: mark for mark in map(_mark, rows)}

    def mark(self, cursor: Cursor, place: LetterPlace, state: MarkState) -> bool:
        """Mark a letter within the open transaction; False if it is marked already."""
        cursor.execute(self._queries["mark"], self._parameters(place) | {"state": state})
        return cursor.rowcount == 1

    def number(self, connection: Connection, places: Sequence[LetterPlace]) -> int:
        """Decide to send letters, in this order, and return how many were not marked before."""
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(self._queries["wait_for_turn"])
            cursor.execute(
                self._queries["number"],
                {
                    "topic_id": self.topic_id,
                    "stages": [place.id.stage for place in places],
                    "topics": [place.id.topic for place in places],
                    "parts": [place.id.partition for place in places],
                    "record_offsets": [place.id.offset for place in places],
                    "event_indexes": [place.id.event_index for place in places],
                    "letter_parts": [place.partition for place in places],
                    "letter_offsets": [place.offset for place in places],
                },
            )
            return cursor.rowcount

    def sending(self, connection: Connection) -> list[Mark]:
        """Return what is to be sent, a former run's included, in order of the numbers."""
        return [_mark(row) for row in connection.execute(self._queries["sending"], {"topic_id": self.topic_id})]

    def settle(self, connection: Connection, numbers: Iterable[int], state: MarkState) -> None:
        """Say what became of letters that were being sent."""
        connection.execute(self._queries["settle"], {"numbers": list(numbers), "state": state})

    def take_back(self, connection: Connection, places: Iterable[LetterPlace]) -> int:
        """Let dropped letters wait again, and return how many were."""
        with connection.transaction(), connection.cursor() as cursor:
            taken = 0
            for place in places:
                cursor.execute(self._queries["take_back"], self._parameters(place))
                taken += cursor.rowcount
            return taken

    def prune(self, connection: Connection, lows: Mapping[int, int]) -> None:
        """Forget the marks of letters below the first offset that each partition still has."""
        connection.execute(
            self._queries["prune"], {"topic_id": self.topic_id, "parts": list(lows), "lows": list(lows.values())}
        )

    def _parameters(self, place: LetterPlace) -> dict[str, object]:
        return {
            "topic_id": self.topic_id,
            "stage": place.id.stage,
            "topic": place.id.topic,
            "part": place.id.partition,
            "record_offset": place.id.offset,
            "event_index": place.id.event_index,
            "letter_part": place.partition,
            "letter_offset": place.offset,
        }


def _mark(row: Sequence[Any]) -> Mark:
    *letter, state, number, letter_part, letter_offset = row
    return Mark(LetterPlace(LetterId(*letter), letter_part, letter_offset), MarkState(state), number)
