"""Carry out a redrive: the order is the package's."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from adapters.dead_letter_marks import LetterPlace, Mark, Marks, MarkState
from adapters.dead_letter_reader import LetterFetcher, StoredLetter
from adapters.kafka_consumer import ConsumedRecord
from adapters.kafka_producer import failure_of, producer_config
from adapters.postgres import Connection, Cursor
from deploy.redrive.plan import SINK, Plan
from schemas.messages import KIND_HEADER, redriven_headers
from sinks.app import Environment
from sinks.commit.writer import Step as SinkStep
from sinks.repair.redrive import RefusedAgain, SinkRedrive

ACK_TIMEOUT_S = 15.0


class LogStep(Enum):
    """The moments of a redrive into the log at which `on_step` is called: where tests end a process."""

    DECIDED = 1
    SENT = 2
    SETTLED = 3


class NotAcknowledged(Exception):
    """A record is not known to be in the log: run the command again, it goes on there."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A letter that its sink refuses again: it waits on."""

    place: LetterPlace
    reason: str
    detail: str


@dataclass(slots=True)
class Outcome:
    """What became of the letters."""

    redriven: Counter[str] = field(default_factory=Counter)
    """By stage; those that a former run had begun included."""
    refused: list[Refused] = field(default_factory=list)
    lost: list[LetterPlace] = field(default_factory=list)
    """Taken by retention before they could be read."""


@dataclass(slots=True)
class Redrive:
    """One run of the command."""

    environment: Environment
    connection: Connection
    marks: Marks
    on_step: Callable[[LogStep | SinkStep], None] = lambda _step: None
    outcome: Outcome = field(default_factory=Outcome)

    def run(self, plan: Plan) -> Outcome:
        """Put the letters of a plan back, and finish what a former run began.

        Raises:
            NotAcknowledged, KafkaException, TimeoutError: Kafka cannot take or give them now.
            Abandoned, psycopg.Error, SinkHalted: Postgres cannot take them now, or a person has to act.
        """
        prefix = self.environment.log.topic_prefix
        with closing(LetterFetcher(self.environment.kafka, prefix=prefix)) as fetcher:
            self.marks.prune(self.connection, fetcher.first_offsets())
            self._into_log(plan.log, fetcher)
            for name, places in plan.sinks.items():
                self._into_sink(name, places, fetcher)
        return self.outcome

    def _into_log(self, places: Sequence[LetterPlace], fetcher: LetterFetcher) -> None:
        if places:
            self.marks.number(self.connection, places)  # 1
            self.on_step(LogStep.DECIDED)
        decided = self.marks.sending(self.connection)
        if not decided:
            return
        send = _sender(self.environment)
        for mark in decided:
            letter = fetcher.fetch(mark.place.partition, mark.place.offset)
            if letter is not None:
                send(mark, letter)  # 2
                self.on_step(LogStep.SENT)
            self._settle(mark, letter)  # 3
            self.on_step(LogStep.SETTLED)

    def _settle(self, mark: Mark, letter: StoredLetter | None) -> None:
        state = MarkState.DROPPED if letter is None else MarkState.REDRIVEN
        self.marks.settle(self.connection, [mark.number or 0], state)
        if letter is None:
            self.outcome.lost.append(mark.place)
        else:
            self.outcome.redriven[mark.place.id.stage] += 1

    def _into_sink(self, name: str, places: Sequence[LetterPlace], fetcher: LetterFetcher) -> None:
        with closing(SinkRedrive(name, self.environment, on_step=self.on_step)) as sink:
            for place in places:
                letter = fetcher.fetch(place.partition, place.offset)
                if letter is None:
                    self.outcome.lost.append(place)
                    continue
                try:
                    sink.store(_as_read(letter), index=letter.letter.index, mark=self._marking(place))
                except RefusedAgain as error:
                    self.outcome.refused.append(Refused(place, error.reason, error.detail))
                else:
                    self.outcome.redriven[SINK + name] += 1

    def _marking(self, place: LetterPlace) -> Callable[[Cursor], bool]:
        return lambda cursor: self.marks.mark(cursor, place, MarkState.REDRIVEN)


def _sender(environment: Environment) -> Callable[[Mark, StoredLetter], None]:
    """Return what sends one letter and waits until the log has it."""
    config: dict[str, Any] = {
        **producer_config(environment.kafka, linger_ms=0, message_timeout_ms=int(ACK_TIMEOUT_S * 1000))
    }
    producer = Producer(config, logger=logging.getLogger("librdkafka"))

    def send(mark: Mark, letter: StoredLetter) -> None:
        failures: list[str] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if (failure := failure_of(error, message)) is not None:
                failures.append(failure)

        topic, partition = environment.log.topic_prefix + mark.place.id.topic, mark.place.id.partition
        headers = redriven_headers(mark.number or 0, letter.headers)
        try:
            producer.produce(
                topic,
                letter.value,
                letter.key,
                partition,
                delivered,
                headers=[*headers],
            )
            left = producer.flush(ACK_TIMEOUT_S)
        except (BufferError, KafkaException) as error:
            raise NotAcknowledged(f"{topic} cannot take a record: {error}") from error
        if left or failures:
            raise NotAcknowledged(f"{topic} {partition} did not acknowledge a record: {failures or 'no answer'}")

    return send


def _as_read(letter: StoredLetter) -> ConsumedRecord:
    """Return a letter's record as its sink read it; broker time, which no letter keeps, is that of the parking."""
    kind = next((content for name, content in letter.headers if name == KIND_HEADER), b"")
    return ConsumedRecord(
        partition=letter.letter.partition,
        offset=letter.letter.offset,
        timestamp=letter.letter.at,
        kind=kind.decode("utf-8", "replace"),
        key=letter.key,
        value=letter.value,
        headers=tuple(letter.headers),
    )
