"""Park what cannot be processed, and know when to stop parking.

Theory. A stage that meets a record it cannot use has three choices: stop, drop it, or park it with its reason. Parking
is right for one bad record and wrong for a bad deployment, which would empty a topic into the dead letters. So parking
has a limit, and the limit knows blame: what a client sent wrong says nothing about us and never stops a stage; what is
our fault stops it at more than 1 % of the records or at 100 in a row.

A dead letter is the original key, value and headers with `dl_*` headers before them, so that it can be sent again as
it was. It is written before the stage commits its offset, and therefore at least once: its identity is
(topic, partition, offset, stage, index), and ids make a second processing harmless.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from adapters.kafka_producer import failure_of, producer_config
from schemas import topics
from schemas.connections import KafkaSettings
from schemas.messages import DeadLetter, dead_letter_headers
from schemas.reasons import Blame, Reason

MAX_DETAIL_CHARACTERS = 2_000
FLUSH_TIMEOUT_S = 15.0

WINDOW = 200_000
"""Records after which counts are halved: about a minute of a busy partition."""


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    """A record as it was read, and why it is parked; `index` is the event within it, -1 for the whole record."""

    reason: Reason
    topic: str
    """Without the deployment's prefix."""
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    index: int = -1
    detail: str = ""
    """What exactly; never a key of a project or an IP address."""


@dataclass(frozen=True, slots=True)
class DeadLetterCounts:
    """What a stage has seen lately: records in all, those parked by our fault, and those of them at the end in a row.

    Counts fade: beyond `WINDOW` both are halved, so that a bad hour is not hidden by a good month.
    """

    records: int = 0
    ours: int = 0
    ours_in_a_row: int = 0
    latest: Reason | None = None
    """The latest reason that was our fault."""

    def passed(self, count: int = 1) -> "DeadLetterCounts":
        """Return the counts after `count` records that were processed."""
        if not count:
            return self
        return self._faded(records=self.records + count, ours=self.ours, ours_in_a_row=0, latest=self.latest)

    def parked(self, reason: Reason) -> "DeadLetterCounts":
        """Return the counts after a parked record; one of the client's blame counts as processed."""
        if reason.blame is not Blame.OURS:
            return self.passed()
        return self._faded(
            records=self.records + 1, ours=self.ours + 1, ours_in_a_row=self.ours_in_a_row + 1, latest=reason
        )

    @staticmethod
    def _faded(*, records: int, ours: int, ours_in_a_row: int, latest: Reason | None) -> "DeadLetterCounts":
        while records > WINDOW:
            records, ours = records // 2, ours // 2
        return DeadLetterCounts(records, ours, ours_in_a_row, latest)


@dataclass(frozen=True, slots=True)
class DeadLetterLimit:
    """When parking has to stop, given the counts: decide before the letters are written and the offset is committed."""

    max_share: float = 0.01
    max_in_a_row: int = 100
    min_sample: int = 1_000
    """A process that has seen fewer is judged as if so many had gone by, and the rest of them well: one bad record of
    ten is no bad deployment."""
    max_remembered: int = 1_000
    """Letters of the past (`dead_letter_memory`) beyond which a process that begins parks none, however much came."""

    def exceeded(self, counts: DeadLetterCounts) -> str | None:
        """Return why the stage has to stop, or None."""
        if counts.ours_in_a_row >= self.max_in_a_row:
            return f"{counts.ours_in_a_row} records in a row had to be parked as {counts.latest}"
        if counts.ours > self.max_share * max(counts.records, self.min_sample):
            return f"{counts.ours} of the last {counts.records} records had to be parked, latest as {counts.latest}"
        return None

    def at_start(self, *, ours: int, arrived: int) -> DeadLetterCounts:
        """Return the counts of a process that begins, given what was parked by our fault lately, and what came.

        The share holds over all starts of that time together: what it leaves is what this process may park, at most as
        much as any that begins may. If it leaves nothing, the first letter is one too many; what goes well goes on.
        """
        of_one_start = int(self.max_share * self.min_sample)
        allowed = max(of_one_start, min(int(self.max_share * arrived), self.max_remembered))
        left = max(0, allowed - ours)
        return DeadLetterCounts(ours=max(0, of_one_start - left))


class DeadLettersUnavailable(Exception):
    """The dead letters could not be written durably: transient, so do not commit, and try the batch again."""


class LetterProducer(Protocol):
    """The part of confluent-kafka's Producer that parking needs."""

    def produce(self, *args: Any, **kwargs: Any) -> None:
        """Queue a record."""

    def flush(self, timeout: float) -> int:
        """Wait for the queued records and return how many are left."""

    def purge(self, *args: Any, **kwargs: Any) -> None:
        """Drop what is queued."""


def dead_letter_producer(kafka: KafkaSettings) -> Producer:
    """Build the producer of a dead-letter writer: nothing waits for company, because every batch is flushed."""
    config: dict[str, Any] = {**producer_config(kafka, linger_ms=0, message_timeout_ms=int(FLUSH_TIMEOUT_S * 1000))}
    return Producer(config, logger=logging.getLogger("librdkafka"))


class DeadLetterWriter:
    """Writes dead letters of one stage, durably before `park` returns. Used from one thread.

    The producer is built when the first letter comes, and anew after a failure: parking is rare, and librdkafka's
    idempotent producer does not survive every error.
    """

    def __init__(self, build: Callable[[], LetterProducer], *, prefix: str, stage: str) -> None:
        self._build = build
        self._producer: LetterProducer | None = None
        self._topic = topics.DEAD_LETTERS.full_name(prefix)
        self._stage = stage

    def park(self, parked: Iterable[ParkedRecord]) -> None:
        """Write the letters and wait until all of them are acknowledged.

        Raises:
            DeadLettersUnavailable: some were not; which ones is unknown, and writing all of them again is harmless.
        """
        letters = list(parked)
        if not letters:
            return
        producer = self._producer = self._producer or self._build()
        failures: list[str] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if (failure := failure_of(error, message)) is not None:
                failures.append(failure)

        try:
            for record in letters:
                headers = describe_parked(record, stage=self._stage)
                producer.produce(self._topic, record.value, record.key, headers=headers, on_delivery=delivered)
            left = producer.flush(FLUSH_TIMEOUT_S)
        except (BufferError, KafkaException) as error:
            self._discard(producer)
            raise DeadLettersUnavailable(f"dead letters cannot be queued: {error}") from error
        if left or failures:
            self._discard(producer)
            raise DeadLettersUnavailable(f"{left + len(failures)} dead letters not acknowledged: {failures[:1]}")

    def _discard(self, producer: LetterProducer) -> None:
        producer.purge(blocking=False)
        self._producer = None


def describe_parked(record: ParkedRecord, *, stage: str) -> list[tuple[str, bytes]]:
    """Return a dead letter's headers: what was parked, by whom and when, then the record's own headers."""
    letter = DeadLetter(
        reason=record.reason,
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        index=record.index,
        detail=record.detail[:MAX_DETAIL_CHARACTERS],
        at=time.time_ns() // 1_000_000,
        version=_own_version(),
    )
    return [*dead_letter_headers(letter), *record.headers]


@cache
def _own_version() -> str:
    # reads and parses the package's metadata: 1 ms, too much for each letter of a flood
    return version("traceflow")
