"""What the sinks have parked: a replay leaves it to `traceflow dead-letters redrive`."""

from dataclasses import dataclass

from adapters.dead_letter_reader import LetterFilter, read_dead_letters
from adapters.kafka_consumer import ConsumedRecord
from deploy.replay.caught_up import SAID
from deploy.replay.log import Log
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class ParkedRows:
    """Rows and records that no table has to hold."""

    places: frozenset[tuple[str, int, int, int]]
    """Topic, partition, offset, index."""
    values: frozenset[bytes]
    """Of records that analyze said, whose offsets a replay does not know."""

    @classmethod
    def of(cls, log: Log) -> "ParkedRows":
        """Read the dead letters.

        Raises:
            TimeoutError, KafkaException: the broker does not give them.
        """
        places, values = set(), set()
        said = {topic.name for topic in SAID}
        for stored in read_dead_letters(log.kafka, prefix=log.prefix, wanted=LetterFilter()):
            letter = stored.letter
            if letter.stage.startswith("sink-"):
                places.add((letter.topic, letter.partition, letter.offset, letter.index))
                if letter.topic in said:
                    values.add(stored.value or b"")
        return cls(frozenset(places), frozenset(values))

    def holds(self, record: ConsumedRecord, topic: Topic, index: int) -> bool:
        """Tell whether a row, or its whole record, was parked."""
        place = topic.name, record.partition, record.offset
        return (*place, -1) in self.places or (*place, index) in self.places
