"""Read stretches of topics, bounded and without a group."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from adapters.kafka_consumer import ConsumedRecord, consumed_record, watermarks
from schemas.connections import KafkaSettings
from schemas.topics import Topic

READ_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Log:
    """The topics of a deployment, read one stretch after the other on one connection."""

    kafka: KafkaSettings
    prefix: str
    _reader: Consumer | None = field(default=None, init=False)

    def consumer(self, *, reports_ends: bool = False) -> Consumer:
        """Return a consumer of one's own; one that reports the ends of partitions does so as errors."""
        configuration = self.kafka.librdkafka() | {
            "group.id": "traceflow-replay",  # librdkafka wants a name; no group is joined
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": reports_ends,
            "fetch.wait.max.ms": 100,  # the end of a partition is told when a fetch returns empty
        }
        return Consumer(configuration, logger=logging.getLogger("librdkafka"))

    def bounds(self, topic: Topic) -> dict[int, tuple[int, int]]:
        """Return the first offset of each partition and the one that comes next."""
        name, consumer = topic.full_name(self.prefix), self._connected()
        metadata = consumer.list_topics(name, timeout=READ_TIMEOUT_S).topics[name]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return {partition: watermarks(consumer, name, partition) for partition in sorted(metadata.partitions)}

    def offset_at(self, topic: Topic, partition: int, time_ms: int) -> int | None:
        """Return the first offset of a time, None if all records are older."""
        place = TopicPartition(topic.full_name(self.prefix), partition, time_ms)
        offset = self._connected().offsets_for_times([place], timeout=READ_TIMEOUT_S)[0].offset
        return offset if offset >= 0 else None

    def start(self, topic: Topic, partition: int, bounds: tuple[int, int], *, since_ms: int | None) -> int:
        """Return where to begin reading: at the first record of a time, or at the beginning."""
        low, end = bounds
        if since_ms is None:
            return low
        found = self.offset_at(topic, partition, since_ms)
        return end if found is None else max(low, found)

    def read(self, topic: Topic, partition: int, *, start: int, end: int) -> Iterator[ConsumedRecord]:
        """Yield the records from `start` on, before `end`; another read ends this one.

        Raises:
            TimeoutError, KafkaException: the broker does not give them.
        """
        if start >= end:
            return
        consumer = self._connected()
        consumer.assign([TopicPartition(topic.full_name(self.prefix), partition, start)])
        while start < end:
            message = consumer.poll(READ_TIMEOUT_S)
            if message is None:
                raise TimeoutError(f"no answer from {self.kafka.bootstrap} for {READ_TIMEOUT_S:.0f} s")
            record = consumed_record(message)
            start = record.offset + 1
            if record.offset < end:
                yield record
        consumer.unassign()

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _connected(self) -> Consumer:
        if self._reader is None:
            self._reader = self.consumer()
        return self._reader
