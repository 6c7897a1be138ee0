"""Read Kafka with confluent-kafka: how a consumer is configured, what a record is, and what a topic is called inside.

Positions are never Kafka's to decide: whoever consumes keeps its own offsets, so a position outside the log is an error
(`auto.offset.reset=error`) and never a silent jump.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from adapters.kafka_admin import TOPICS_APPEAR_S, admin_client
from schemas.connections import KafkaSettings
from schemas.messages import KIND_HEADER

REQUEST_TIMEOUT_S = 15.0

RETRIABLE = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._WAIT_COORD,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""Codes that pass by themselves. `KafkaError.retriable()` says False even for a lost connection, so it is not asked."""

FORBIDDEN = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""Codes that a person has to answer: who we are, or what we may, is wrong."""


@dataclass(frozen=True, slots=True)
class ConsumedRecord:
    """One record of a topic, free of the driver."""

    partition: int
    offset: int
    timestamp: int
    """Broker time (LogAppendTime), epoch ms."""
    kind: str
    """The header `kind`; empty if there is none."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """A topic as the broker knows it: a recreated topic of the same name has another id, and other offsets."""

    name: str
    topic_id: str
    partitions: int


class TopicMissing(Exception):
    """The topic does not exist: `traceflow topics` creates it."""


def consumer_configuration(kafka: KafkaSettings, *, group: str, client_id: str) -> dict[str, object]:
    """Return librdkafka's configuration of a group member that keeps its offsets elsewhere."""
    return kafka.librdkafka() | {
        "group.id": group,
        "client.id": client_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        # Eager on purpose. A sink keeps no state, so taking a partition back costs one statement, and every position is
        # set by one plain assign(); incremental assignment would need a seek for each partition that stays.
        "partition.assignment.strategy": "range",
        "session.timeout.ms": 10_000,  # how long the rows of a killed worker wait
        "heartbeat.interval.ms": 1_000,  # how soon the others hear of a rebalance
        "max.poll.interval.ms": 300_000,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        "queued.max.messages.kbytes": 16_384,  # prefetch for a few batches; the default of 64 MB is only memory
        "fetch.message.max.bytes": 1_048_576,
        "reconnect.backoff.max.ms": 2_000,
    }


def consumed_record(message: Message) -> ConsumedRecord:
    """Translate the driver's message.

    Raises:
        KafkaException: the message is an error.
    """
    error, partition, offset = message.error(), message.partition(), message.offset()
    if error is not None or partition is None or offset is None:
        raise KafkaException(error)
    headers = headers_of(message)
    kind = next((value for name, value in headers if name == KIND_HEADER), b"")
    return ConsumedRecord(
        partition=partition,
        offset=offset,
        timestamp=message.timestamp()[1],
        kind=kind.decode("utf-8", "replace"),
        key=message.key(),
        value=message.value(),
        headers=headers,
    )


def headers_of(message: Message) -> tuple[tuple[str, bytes], ...]:
    """Return the headers in order; a header without a value has an empty one."""
    headers: list[tuple[str, bytes | None]] = message.headers() or []  # type: ignore[assignment]  # the consumer gives a list
    return tuple((name, value or b"") for name, value in headers)


@retry(
    retry=retry_if_exception_type(TopicMissing),
    stop=stop_after_delay(TOPICS_APPEAR_S),
    wait=wait_fixed(0.2),
    reraise=True,
)
def describe_topic(kafka: KafkaSettings, name: str) -> TopicIdentity:
    """Ask the broker for a topic's id and number of partitions.

    Raises:
        TopicMissing: there is no such topic, nor does it appear within `TOPICS_APPEAR_S`.
        KafkaException: the broker cannot be asked.
    """
    admin = admin_client(kafka)
    answers = admin.describe_topics(TopicCollection([name]), request_timeout=REQUEST_TIMEOUT_S)
    try:
        description = answers[name].result()
    except KafkaException as error:
        if error.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise TopicMissing(f"topic {name} does not exist; create it with: traceflow topics") from error
        raise
    return TopicIdentity(name, str(description.topic_id), len(description.partitions))


def watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Ask the broker for the first offset that it still has and the one that it will give next.

    Raises:
        KafkaException: the broker cannot be asked.
    """
    found = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S)
    if found is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no watermarks of {topic} {partition}"))
    return found


def committed_offsets(
    consumer: Consumer, topic: str, partitions: Iterable[int], *, timeout_s: float = REQUEST_TIMEOUT_S
) -> dict[int, int]:
    """Ask for what the consumer's group has committed, joined or not; a partition of which it has nothing is left out.

    By a consumer, not by an AdminClient: the answer of a broker that cannot tell yet, one that comes back for instance,
    ends an AdminClient's whole process with a segmentation fault (librdkafka 2.16, `rd_kafka_cgrp_op` of no group).

    Raises:
        KafkaException: the broker cannot tell.
    """
    found = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=timeout_s)
    for entry in found:
        if entry.error is not None:
            raise KafkaException(entry.error)
    return {entry.partition: entry.offset for entry in found if entry.offset >= 0}


def positions(topic: str, offsets: Mapping[int, int]) -> list[TopicPartition]:
    """Translate offsets by partition into the driver's list, in order of partition."""
    return [TopicPartition(topic, partition, offsets[partition]) for partition in sorted(offsets)]
