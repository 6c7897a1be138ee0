"""Look, beside Faust, at the log that a stage folds, and at what the broker says of its state."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from adapters.kafka_consumer import TopicMissing, committed_offsets, describe_topic, watermarks
from schemas.connections import KafkaSettings
from stream_processors.kinds import StageKind
from stream_processors.runner.continuity import LogSight

READ_TIMEOUT_S = 10.0

_NOTHING_THERE = (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET)


class LogUnseen(Exception):
    """The broker cannot tell of the log now; one that comes back may not know its topics yet."""


class SourceLog:
    """The topic that a stage folds, its changelog and its group, as the broker tells of them.

    Used from one thread at a time.
    """

    def __init__(self, kafka: KafkaSettings, kind: StageKind, prefix: str) -> None:
        self._kafka = kafka
        self._group = kind.group(prefix)
        self._topic = kind.source.full_name(prefix)
        self._changelog = kind.changelog.full_name(prefix)

    def look(self, partition: int, offset: int) -> LogSight:
        """Ask for the topic's id, what the group committed, both logs' ends, and the time of the record at an offset.

        Raises:
            LogUnseen: the broker cannot tell now.
        """
        try:
            return self._look(partition, offset)
        except (KafkaException, TopicMissing) as error:
            raise LogUnseen(str(error)) from error

    def _look(self, partition: int, offset: int) -> LogSight:
        topic_id = describe_topic(self._kafka, self._topic).topic_id
        configuration: dict[str, str | int | float | bool | None] = {
            **self._kafka.librdkafka(),
            # asked for what it committed, and never joined
            "group.id": self._group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            # what it would say at each attempt, the exception says once
            "log_level": 0,
        }
        consumer = Consumer(configuration)
        try:
            low, end = watermarks(consumer, self._topic, partition)
            # before the changelog's end, which is never behind what was committed
            committed = committed_offsets(consumer, self._topic, [partition], timeout_s=READ_TIMEOUT_S)
            changelog_low, changelog_end = watermarks(consumer, self._changelog, partition)
            logged_at = self._time_of_record(consumer, partition, offset) if low <= offset < end else 0
        finally:
            consumer.close()
        return LogSight(topic_id, low, end, logged_at, committed.get(partition, 0), changelog_low, changelog_end)

    def _time_of_record(self, consumer: Consumer, partition: int, offset: int) -> int:
        consumer.assign([TopicPartition(self._topic, partition, offset)])
        deadline_s = time.monotonic() + READ_TIMEOUT_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            message = consumer.poll(left_s)
            if message is None:
                continue
            error = message.error()
            if error is None:
                return message.timestamp()[1] if message.offset() == offset else 0
            if error.code() in _NOTHING_THERE:
                return 0
            raise KafkaException(error)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"record {offset} of {self._topic} {partition}"))
