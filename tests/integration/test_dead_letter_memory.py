"""What a start remembers of the dead letters, on a real broker."""

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from adapters.dead_letter_memory import counts_at_start
from adapters.dead_letters import (
    DeadLetterCounts,
    DeadLetterLimit,
    DeadLetterWriter,
    ParkedRecord,
    dead_letter_producer,
)
from schemas import topics as declared
from schemas.connections import KafkaSettings
from schemas.reasons import Reason


def remembered(kafka: str, prefix: str) -> tuple[DeadLetterCounts, list[str]]:
    """Return the counts of a start, and which lines it logs."""
    with capture_logs() as lines:
        counts = counts_at_start(
            KafkaSettings(bootstrap=kafka), prefix=prefix, stage="analyze", source=declared.EVENTS, memory_s=3_600
        )
    return counts, [line["event"] for line in lines]


def park(kafka: str, prefix: str, *, reason: Reason, letters: int) -> None:
    settings = KafkaSettings(bootstrap=kafka)
    parked = [
        ParkedRecord(reason=reason, topic="events", partition=0, offset=offset, key=b"p/s", value=b"{}")
        for offset in range(letters)
    ]
    DeadLetterWriter(lambda: dead_letter_producer(settings), prefix=prefix, stage="analyze").park(parked)


def test_a_start_without_letters_says_nothing_of_them(kafka: str, topics: str) -> None:
    assert remembered(kafka, topics) == (DeadLetterCounts(), [])


@pytest.mark.parametrize("reason", [Reason.ENGINE_ERROR, Reason.CHUNK_TOO_LARGE])
def test_a_start_remembers_what_was_parked_by_our_fault_alone(kafka: str, topics: str, reason: Reason) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(declared.EVENTS.full_name(topics), key=b"p/s", value=b"{}", partition=0)
    assert producer.flush(10) == 0
    park(kafka, topics, reason=reason, letters=7)
    expected = DeadLetterLimit().at_start(ours=7, arrived=1), ["dead_letters_remembered"]
    is_ours = reason is Reason.ENGINE_ERROR
    assert remembered(kafka, topics) == (expected if is_ours else (DeadLetterCounts(), []))
