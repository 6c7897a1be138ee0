"""How far a stage has come, read from the end of its changelog.

What a stage commits to its group serves lag tools, now and then; the last partition record of its changelog is where it
really stands, and each batch ends with one.
"""

import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition

from adapters.kafka_consumer import watermarks
from stream_processors.fold.facts import is_session_key, recover

_TAIL_RECORDS = 100
"""A batch deletes what the one before superseded before it ends with its record: this much lies in between at most."""
_DEADLINE_S = 5.0


def fold_positions(consumer: Consumer, *, changelog: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return the offset that each partition's fold will process next; none for those that tell nothing.

    The consumer has to report the ends of partitions (`enable.partition.eof`).
    """
    starts = {}
    for partition in partitions:
        low, high = watermarks(consumer, changelog, partition)
        if high > low:
            starts[partition] = max(low, high - _TAIL_RECORDS)
    tails: dict[int, dict[bytes, bytes]] = {partition: {} for partition in starts}
    waiting = set(starts)
    consumer.assign([TopicPartition(changelog, partition, start) for partition, start in starts.items()])
    ends_at = time.monotonic() + _DEADLINE_S
    while waiting and time.monotonic() < ends_at:
        message = consumer.poll(0.5)
        if message is None:
            continue
        partition, key, value = message.partition() or 0, message.key(), message.value()
        if message.error():
            waiting.discard(partition)
        elif key and value is not None and not is_session_key(key):
            tails[partition][key] = value
    consumer.unassign()
    return {partition: next_offset(tail) for partition, tail in tails.items() if tail}


def next_offset(partition_records: Mapping[bytes, bytes]) -> int:
    """Return the offset after the highest partition record."""
    return recover(partition_records).record.offset + 1
