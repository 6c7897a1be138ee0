"""Look, beside Faust, at the log that a stage folds: whether it continues what the state was made from."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from adapters.kafka_consumer import TopicMissing, describe_topic, watermarks
from schemas.connections import KafkaSettings
from stream_processors.continuity import LogSight

READ_TIMEOUT_S = 10.0

_NOTHING_THERE = (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET)


class LogUnseen(Exception):
    """The broker cannot tell of the log now; one that comes back may not know its topics yet."""


class SourceLog:
    """The topic that a stage folds, as the broker tells of it. Used from one thread at a time."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic

    def look(self, partition: int, offset: int) -> LogSight:
        """Ask for the topic's id, the ends of the partition's log, and the time of the record at an offset.

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
            # needed by the driver and never joined
            "group.id": f"{self._topic}-look",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            # what it would say at each attempt, the exception says once
            "log_level": 0,
        }
        consumer = Consumer(configuration)
        try:
            low, end = watermarks(consumer, self._topic, partition)
            logged_at = self._time_of_record(consumer, partition, offset) if low <= offset < end else 0
        finally:
            consumer.close()
        return LogSight(topic_id, low, end, logged_at)

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
