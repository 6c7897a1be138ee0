"""How many bytes of state a stage keeps per session, read from what it wrote: its changelog."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.topics import Topic
from stream_processors.fold.facts import SessionHead, recover

_READ_RECORDS = 10_000
_READ_TIMEOUT_S = 1.0
_QUIET_READS = 20
"""Reads without a record before the changelog is called unreadable."""


@dataclass(frozen=True, slots=True)
class StateBytes:
    """Sizes of the states of some sessions, each with its key."""

    open: Sequence[int]
    residues: Sequence[int]
    """Of sessions that are closed and not yet forgotten."""

    @property
    def per_open_session(self) -> float:
        """Return the mean; 0 if there is none."""
        return mean(self.open) if self.open else 0.0

    @property
    def per_residue(self) -> float:
        """Return the mean; 0 if there is none."""
        return mean(self.residues) if self.residues else 0.0


def measure(partitions: Sequence[Mapping[bytes, bytes]]) -> StateBytes:
    """Tell from each partition's facts what a worker that recovers them keeps."""
    open_sessions: list[int] = []
    residues: list[int] = []
    for facts in partitions:
        for key, fact in recover(facts).sessions.items():
            into = residues if SessionHead.unpack(fact).is_closed else open_sessions
            into.append(len(key) + len(fact))
    return StateBytes(open_sessions, residues)


def read_changelog(bootstrap: str, topic: Topic, *, prefix: str, partitions: int) -> list[dict[bytes, bytes]]:
    """Return each partition's facts, as they are now.

    Raises:
        TimeoutError: the broker has stopped sending before the end.
    """
    name = topic.full_name(prefix)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-state", "enable.auto.commit": False})
    facts: list[dict[bytes, bytes]] = [{} for _ in range(partitions)]
    try:
        ends = [consumer.get_watermark_offsets(TopicPartition(name, p), timeout=10)[1] for p in range(partitions)]
        left = {p for p, end in enumerate(ends) if end}
        consumer.assign([TopicPartition(name, p, 0) for p in left])
        quiet = 0
        while left:
            messages = consumer.consume(_READ_RECORDS, _READ_TIMEOUT_S)
            quiet = 0 if messages else quiet + 1
            if quiet == _QUIET_READS:
                raise TimeoutError(f"{name} has not been read to its end")
            for message in messages:
                if error := message.error():
                    raise KafkaException(error)
                _take(facts[message.partition() or 0], message.key() or b"", message.value())
            left -= {p for p in left if consumer.position([TopicPartition(name, p)])[0].offset >= ends[p]}
    finally:
        consumer.close()
    return facts


def _take(facts: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    if value is None:
        facts.pop(key, None)
    else:
        facts[key] = value
