"""What a start remembers of the dead letters, on a real broker."""

from collections.abc import Generator
from typing import Any

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from adapters import dead_letter_memory
from adapters.dead_letter_memory import counts_at_start
from adapters.dead_letter_reader import StoredLetter, read_dead_letters
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
            KafkaSettings(bootstrap=kafka), prefix=prefix, sources={"analyze": declared.EVENTS}, memory_s=3_600
        )
    return counts["analyze"], [line["event"] for line in lines]


def park(kafka: str, prefix: str, *, reason: Reason, letters: int, stage: str = "analyze") -> None:
    settings = KafkaSettings(bootstrap=kafka)
    parked = [
        ParkedRecord(reason=reason, topic="events", partition=0, offset=offset, key=b"p/s", value=b"{}")
        for offset in range(letters)
    ]
    DeadLetterWriter(lambda: dead_letter_producer(settings), prefix=prefix, stage=stage).park(parked)


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


def test_one_look_at_the_letters_serves_all_stages_of_a_process(
    kafka: str, topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def look(*args: Any, **wanted: Any) -> Generator[StoredLetter]:
        nonlocal looks
        looks += 1
        return read_dead_letters(*args, **wanted)

    monkeypatch.setattr(dead_letter_memory, "read_dead_letters", look)
    for stage, letters in {"sink-events": 7, "sink-signals": 2, "analyze": 9}.items():
        park(kafka, topics, reason=Reason.ENGINE_ERROR, letters=letters, stage=stage)
    sources = {"sink-events": declared.EVENTS, "sink-sessions": declared.SESSIONS, "sink-signals": declared.SIGNALS}
    found = counts_at_start(KafkaSettings(bootstrap=kafka), prefix=topics, sources=sources, memory_s=3_600)
    ours = {"sink-events": 7, "sink-sessions": 0, "sink-signals": 2}
    assert found == {stage: DeadLetterLimit().at_start(ours=count, arrived=0) for stage, count in ours.items()}
    assert looks == 1
