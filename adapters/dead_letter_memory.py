"""What a stage has parked by our own fault lately, whoever ran it: the limit of dead letters holds over restarts.

A process counts from its start, so one that starts again and again would park a start's share each time. What it parked
is durable already, as letters with their stage, reason and time: read back at the start, they are the memory that all
workers of a stage share, and there is nothing beside them to be kept.
"""

import logging
import time
from collections import Counter
from collections.abc import Container, Mapping
from contextlib import closing

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from adapters.dead_letter_reader import READ_TIMEOUT_S, LetterFilter, read_dead_letters
from adapters.dead_letters import DeadLetterCounts, DeadLetterLimit
from adapters.kafka_consumer import watermarks
from schemas.connections import KafkaSettings
from schemas.reasons import Blame, Reason
from schemas.topics import Topic

LATEST = 200
"""Letters of each partition that are looked at: so many of ours are twenty times what the limit leaves."""
PATIENCE_S = 5.0
"""A start does not wait longer: letters of clients may be large."""

_OURS = frozenset(reason.value for reason in Reason if reason.blame is Blame.OURS)

log = structlog.get_logger()


def counts_at_start(
    kafka: KafkaSettings,
    *,
    prefix: str,
    sources: Mapping[str, Topic],
    memory_s: float,
    limit: DeadLetterLimit | None = None,
) -> dict[str, DeadLetterCounts]:
    """Return the counts with which the stages of a process begin, by one look at the letters for all of them.

    `sources` names the stages, each with the topic that it reads. Letters and records of the last `memory_s` seconds
    count. A broker that does not answer now leaves a start what it would have without a memory.
    """
    since = int((time.time() - memory_s) * 1000)
    counts = dict.fromkeys(sources, DeadLetterCounts())
    try:
        for stage, ours in _letters(kafka, prefix, sources, since).items():
            arrived = _arrived(kafka, sources[stage].full_name(prefix), since)
            log.warning("dead_letters_remembered", stage=stage, letters=ours, records=arrived)
            counts[stage] = (limit or DeadLetterLimit()).at_start(ours=ours, arrived=arrived)
    except (KafkaException, TimeoutError) as error:
        log.warning("dead_letters_not_remembered", stages=sorted(sources), reason=str(error))
    return counts


def _letters(kafka: KafkaSettings, prefix: str, stages: Container[str], since: int) -> Counter[str]:
    """Count by stage what was parked by our fault; a letter that was written twice counts once."""
    ends_at = time.monotonic() + PATIENCE_S
    found = set()
    with closing(read_dead_letters(kafka, prefix=prefix, wanted=LetterFilter(since=since), latest=LATEST)) as letters:
        for stored in letters:
            if stored.letter.stage in stages and stored.letter.reason in _OURS:
                found.add((stored.letter.stage, stored.place.id))
            if time.monotonic() > ends_at:
                break
    return Counter(stage for stage, _ in found)


def _arrived(kafka: KafkaSettings, topic: str, since: int) -> int:
    """Count the records that came into a topic since a time."""
    configuration = {**kafka.librdkafka(), "group.id": "traceflow-dead-letters", "enable.auto.commit": False}
    with closing(Consumer(configuration, logger=logging.getLogger("librdkafka"))) as consumer:
        partitions = consumer.list_topics(topic, timeout=READ_TIMEOUT_S).topics[topic].partitions
        asked = [TopicPartition(topic, partition, since) for partition in partitions]
        starts = consumer.offsets_for_times(asked, timeout=READ_TIMEOUT_S)
        return sum(
            watermarks(consumer, topic, start.partition)[1] - start.offset for start in starts if start.offset >= 0
        )
