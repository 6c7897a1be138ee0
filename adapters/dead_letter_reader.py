"""Read what was parked: bounded, without a consumer group, for `traceflow dead-letters`."""

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from adapters.dead_letter_marks import LetterId, LetterPlace
from adapters.kafka_consumer import headers_of, watermarks
from schemas import topics
from schemas.connections import KafkaSettings
from schemas.ids import parse_session_key
from schemas.messages import DeadLetter, MalformedRecord, parse_dead_letter_headers

READ_TIMEOUT_S = 30.0

READ_ON = 500
"""How many letters a fetch passes over rather than jump: what the driver has read ahead is at hand."""


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as it lies in the topic; `partition` and `offset` name it there, `letter` its origin."""

    partition: int
    offset: int
    letter: DeadLetter
    project_id: str
    """Empty if the record's key is no session key."""
    session_id: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    """The original ones."""

    @property
    def place(self) -> LetterPlace:
        """Return what the letter is about, and where it lies."""
        name = LetterId.of(self.letter, topic=topics.DEAD_LETTERS.name, partition=self.partition, offset=self.offset)
        return LetterPlace(name, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters to show: None matches everything; times are epoch ms of parking, `since` included."""

    stage: str | None = None
    reason: str | None = None
    project_id: str | None = None
    since: int | None = None
    until: int | None = None

    def matches(self, stored: StoredLetter) -> bool:
        """Tell whether the letter is asked for."""
        letter = stored.letter
        return (
            self.stage in (None, letter.stage)
            and self.reason in (None, letter.reason)
            and self.project_id in (None, stored.project_id)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


def read_dead_letters(
    kafka: KafkaSettings, *, prefix: str, wanted: LetterFilter, latest: int | None = None
) -> Generator[StoredLetter]:
    """Yield the matching letters, partition by partition in log order, up to the end as it was at the start.

    Bounded: what is parked meanwhile is not followed, and of each partition at most the `latest` are looked at. No
    group is joined and nothing is committed.

    Raises:
        TimeoutError: the broker gave nothing for `READ_TIMEOUT_S`.
    """
    topic = topics.DEAD_LETTERS.full_name(prefix)
    consumer = Consumer(_reader_configuration(kafka), logger=logging.getLogger("librdkafka"))
    try:
        ends = _ends(consumer, topic)
        starts = _starts(consumer, topic, ends, since=wanted.since, latest=latest)
        ends = {start.partition: ends[start.partition] for start in starts}
        consumer.assign(starts)
        while ends:
            message = consumer.poll(READ_TIMEOUT_S)
            if message is None:
                raise TimeoutError(f"no answer from {kafka.bootstrap} for {READ_TIMEOUT_S:.0f} s")
            partition, finished = _position(message)
            if not message.error() and (stored := _stored(message)) and wanted.matches(stored):
                yield stored
            if finished >= ends.get(partition, 0):
                ends.pop(partition, None)
    finally:
        consumer.close()


def show_dead_letter(kafka: KafkaSettings, *, prefix: str, partition: int, offset: int) -> StoredLetter | None:
    """Return the letter at a place of the dead-letters topic; None if there is none."""
    with closing(LetterFetcher(kafka, prefix=prefix)) as fetcher:
        return fetcher.fetch(partition, offset)


@dataclass(slots=True)
class LetterFetcher:
    """Fetches letters by their places; those of a partition that lie one after the other are read on.

    Each partition has a consumer of its own: a jump takes a tenth of a second, and letters in the order of the log that
    they come from may alternate between partitions.
    """

    kafka: KafkaSettings
    prefix: str
    _topic: str = field(init=False)
    _log: dict[int, tuple[int, int]] = field(init=False)
    """Where each partition's log begins and ends, as of the beginning."""
    _readers: dict[int, "_PartitionReader"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._topic = topics.DEAD_LETTERS.full_name(self.prefix)
        with closing(self._consumer()) as consumer:
            self._log = _log_ends(consumer, self._topic)

    def first_offsets(self) -> dict[int, int]:
        """Return the first offset that each partition still has."""
        return {partition: low for partition, (low, _) in self._log.items()}

    def fetch(self, partition: int, offset: int) -> StoredLetter | None:
        """Return the letter at a place; None if there is none, or none any more.

        Raises:
            TimeoutError: the broker gave nothing for `READ_TIMEOUT_S`.
        """
        low, high = self._log.get(partition, (0, 0))
        if not low <= offset < high:
            return None
        reader = self._readers.get(partition)
        if reader is None:
            reader = self._readers[partition] = _PartitionReader(self._consumer(), self._topic, partition)
        message = reader.read(offset)
        return None if message is None else _stored(message)

    def close(self) -> None:
        """Leave."""
        for reader in self._readers.values():
            reader.consumer.close()

    def _consumer(self) -> Consumer:
        configuration = _reader_configuration(self.kafka) | {"queued.max.messages.kbytes": 8_192}
        return Consumer(configuration, logger=logging.getLogger("librdkafka"))


@dataclass(slots=True)
class _PartitionReader:
    consumer: Consumer
    topic: str
    partition: int
    next: int | None = None
    """The offset that comes next if it is read on."""

    def read(self, offset: int) -> Message | None:
        """Return the record at an offset within the log, None if retention or compaction has taken it."""
        if self.next is None or not self.next <= offset <= self.next + READ_ON:
            self.consumer.assign([TopicPartition(self.topic, self.partition, offset)])
        while True:
            message = self.consumer.poll(READ_TIMEOUT_S)
            if message is None:
                raise TimeoutError(f"no answer about {self.topic} {self.partition} for {READ_TIMEOUT_S:.0f} s")
            _, self.next = _position(message)
            if message.error() or self.next > offset + 1:
                return None
            if self.next == offset + 1:
                return message


def _reader_configuration(kafka: KafkaSettings) -> dict[str, object]:
    return kafka.librdkafka() | {
        "group.id": "traceflow-dead-letters",  # librdkafka wants a name; no group is joined
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,  # offsets have gaps: the end is an event, not a number that is reached
        "isolation.level": "read_committed",
    }


def _ends(consumer: Consumer, topic: str) -> dict[int, int]:
    return {partition: high for partition, (low, high) in _log_ends(consumer, topic).items() if high > low}


def _log_ends(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """Return where each partition's log begins and ends."""
    metadata = consumer.list_topics(topic, timeout=READ_TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    return {partition: watermarks(consumer, topic, partition) for partition in metadata.partitions}


def _starts(
    consumer: Consumer, topic: str, ends: Mapping[int, int], *, since: int | None, latest: int | None
) -> list[TopicPartition]:
    """Return where to begin in each partition that may have something that is asked for."""
    if since is None:
        starts = [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends]
    elif not ends:
        return []
    else:
        # A letter is appended after it was stamped, so none of those asked for lies before this.
        asked = [TopicPartition(topic, partition, since) for partition in ends]
        found = consumer.offsets_for_times(asked, timeout=READ_TIMEOUT_S)
        starts = [start for start in found if 0 <= start.offset < ends[start.partition]]
    if latest is not None:
        for start in starts:
            start.offset = max(start.offset, ends[start.partition] - latest)
    return starts


def _position(message: Message) -> tuple[int, int]:
    """Return the partition and the offset up to which it has been read."""
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise KafkaException(message.error())
    return partition, offset if message.error() else offset + 1


def _stored(message: Message) -> StoredLetter | None:
    """Decode a record of the topic; None for one that is no dead letter."""
    try:
        letter, original = parse_dead_letter_headers(headers_of(message))
    except MalformedRecord:
        return None
    key = message.key()
    try:
        project_id, session_id = parse_session_key(key or b"")
    except ValueError:
        project_id = session_id = ""
    return StoredLetter(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        letter=letter,
        project_id=project_id,
        session_id=session_id,
        key=key,
        value=message.value(),
        headers=original,
    )
