"""Where in the way of the data something was lost, doubled or changed: each service is held by what it read.

A gateway, by what its clients were told: all of it lies in the log. A stage, by the offline fold of the log that it
folds: it has sent what the fold gives and nothing else, and its changelog holds the fold's states. The sinks are held
by `deploy.replay`. The first service of the way that does not hold is the culprit; those after it were misled.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

from adapters.kafka_consumer import ConsumedRecord
from deploy.replay.log import Log
from schemas import topics
from schemas.ids import parse_session_key
from schemas.messages import META_HEADER, Kind, parse_dead_letter_headers
from schemas.topics import Topic
from stream_processors.fold.batch import Batch
from stream_processors.fold.facts import Recovered, SessionHead, recover
from stream_processors.fold.logic import LogRecord, SessionLogic
from stream_processors.fold.partition import PartitionFold
from stream_processors.kinds import StageKind
from tests.chaos.load import ChaosLedger

Effect = tuple[str, bytes]
"""A topic, and a hash of what was sent there."""

_SENT_BY: Mapping[str, tuple[Topic, ...]] = {
    "digest": (topics.EVENTS,),
    "analyze": (topics.SIGNALS, topics.SESSIONS, topics.AI_JOBS),
}
_OF_OTHERS = frozenset((Kind.EVENTS, Kind.TICK, Kind.CHAIN, Kind.REDRIVEN))
"""Kinds of records in the topics of a stage that no fold sends."""

_CUT_RECORDS = 500


# --- the gateway


@dataclass(slots=True)
class Received:
    """What clients sent and the log holds."""

    events: dict[str, Counter[str]] = field(default_factory=dict)
    """By project: how often each event's id is there."""
    chunks: set[tuple[str, str, int]] = field(default_factory=set)
    """Session, window, number."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Records of events that no version writes, by project."""


def read_received(log: Log) -> Received:
    """Read what the gateway wrote."""
    found = Received()
    for record in Stretch(log, topics.EVENTS).read_all():
        if record.kind == Kind.EVENTS:
            _take_events(found, record)
    for record in Stretch(log, topics.RECORDINGS).read_all():
        meta = next((content for name, content in record.headers if name == META_HEADER), None)
        if record.kind == Kind.CHUNK and meta is not None:
            place = orjson.loads(meta)
            found.chunks.add((place["session_id"], place["window_id"], place["seq"]))
    return found


def _take_events(found: Received, record: ConsumedRecord) -> None:
    try:
        batch = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        found.unreadable[parse_session_key(record.key or b"")[0]] += 1
        return
    found.events.setdefault(batch["project_id"], Counter()).update(event["id"] for event in batch["events"])


def audit_gateway(received: Received, ledger: ChaosLedger) -> list[str]:
    """Say which acknowledged events and chunks are not in the log."""
    there = received.events.get(ledger.project_id, Counter())
    events = [event for event in ledger.acknowledged_events() if event.id not in there]
    chunks = [request for request in ledger.acknowledged_chunks() if chunk_place(request) not in received.chunks]
    lines = []
    if events:
        lines.append(f"gateway: {len(events)} acknowledged events are not in the log, one of {events[0].session_id}")
    if chunks:
        lines.append(f"gateway: {len(chunks)} acknowledged chunks are not in the log, one of {chunks[0].session_id}")
    return lines


def chunk_place(request: Any) -> tuple[str, str, int]:
    """Return what a chunk is known by: session, window, number."""
    return request.session_id, request.chunk.window_id, request.chunk.seq


# --- the stages


def audit_stage(log: Log, kind: StageKind, logic: SessionLogic[Any]) -> list[str]:
    """Say what a stage has sent or kept otherwise than the fold of its log."""
    # in this order: what was kept was sent before, and what was sent comes from a record that was there before
    changelog = Stretch(log, kind.changelog)
    sent = [Stretch(log, topic) for topic in (*_SENT_BY[kind.name], topics.DEAD_LETTERS)]
    source = Stretch(log, kind.source)
    lines = []
    for partition in source.bounds:
        found = audit_partition(
            map(_log_record, source.read(partition)),
            _recovered(changelog.read(partition)),
            {effect for stretch in sent for effect in _sent(stretch, partition, kind)},
            logic,
        )
        lines += [f"{kind.name}: partition {partition} {said}" for said in found]
    return lines


def audit_partition(
    records: Iterable[LogRecord], recovered: Recovered, sent: set[Effect], logic: SessionLogic[Any]
) -> list[str]:
    """Compare a partition with the fold of its records. Pure."""
    reached = recovered.record.offset
    fold = PartitionFold(logic)
    due, possible = _Due(), set()
    lines: list[str] = []
    ahead = {
        (key, SessionHead.unpack(fact).offset): fact
        for key, fact in recovered.sessions.items()
        if SessionHead.unpack(fact).offset > reached
    }
    for record in records:
        fold.feed((record,))
        if record.offset >= reached or fold.pending >= _CUT_RECORDS:
            batch = fold.cut()
            possible |= set(_effects(batch))
            if record.offset <= reached:
                due.take(batch)
            if record.offset == reached:
                lines += _wrong_states(fold.facts, recovered, reached)
            lines += [
                f"holds a state of {key.decode(errors='replace')} beyond its record that the log does not give"
                for key, fact in batch.facts
                if (place := _parsed(key)) in ahead and ahead[place] != fact
            ]
    if missing := due.effects() - sent:
        lines.append(f"did not send {len(missing)} records that its log gives, one to {min(missing)[0]}")
    if strange := sent - possible:
        lines.append(f"sent {len(strange)} records that its log does not give, one to {min(strange)[0]}")
    return lines


def _wrong_states(true: Mapping[bytes, bytes], recovered: Recovered, reached: int) -> list[str]:
    lines = []
    for key in sorted(true.keys() | recovered.sessions.keys()):
        fact, expected = recovered.sessions.get(key), true.get(key)
        is_ahead = fact is not None and SessionHead.unpack(fact).offset > reached
        if fact != expected and not is_ahead:
            how = "has lost" if fact is None else "has not forgotten" if expected is None else "holds another state of"
            lines.append(f"{how} session {key.decode(errors='replace')} at record {reached}")
    return lines


class _Due:
    """What has to be there: of a topic that is compacted the latest record of each key."""

    def __init__(self) -> None:
        self._effects: set[Effect] = set()
        self._latest: dict[tuple[str, bytes], Effect] = {}

    def take(self, batch: Batch) -> None:
        for output in batch.outputs:
            effect = _effect(output.topic, output.key, output.value)
            if output.topic == topics.SESSIONS.name:
                self._latest[output.topic, output.key or b""] = effect
            else:
                self._effects.add(effect)
        self._effects |= {_letter(p.reason.value, p.record.offset, p.index) for p in batch.parked}

    def effects(self) -> set[Effect]:
        return self._effects | set(self._latest.values())


def _effects(batch: Batch) -> Iterator[Effect]:
    for output in batch.outputs:
        yield _effect(output.topic, output.key, output.value)
    for parked in batch.parked:
        yield _letter(parked.reason.value, parked.record.offset, parked.index)


def _effect(topic: str, key: bytes | None, value: bytes) -> Effect:
    return topic, blake2b((key or b"") + b"\0" + value, digest_size=12).digest()


def _letter(reason: str, offset: int, index: int) -> Effect:
    return topics.DEAD_LETTERS.name, f"{reason} {offset} {index}".encode()


def _sent(stretch: "Stretch", partition: int, kind: StageKind) -> Iterator[Effect]:
    for record in stretch.read(partition):
        if stretch.topic is topics.DEAD_LETTERS:
            letter, _ = parse_dead_letter_headers(record.headers)
            if letter.stage == kind.name:
                yield _letter(letter.reason, letter.offset, letter.index)
        elif record.kind not in _OF_OTHERS:
            yield _effect(stretch.topic.name, record.key, record.value or b"")


def _recovered(records: Iterable[ConsumedRecord]) -> Recovered:
    facts: dict[bytes, bytes] = {}
    for record in records:
        if record.value is None:
            facts.pop(record.key or b"", None)
        else:
            facts[record.key or b""] = record.value
    return recover(facts)


def _parsed(key: bytes) -> tuple[bytes, int]:
    name, _, offset = key.rpartition(b"|")
    return name, int(offset)


# --- the log


class Stretch:
    """A topic up to its end as of now."""

    def __init__(self, log: Log, topic: Topic) -> None:
        self.topic = topic
        self.bounds = log.bounds(topic)
        self._log = log

    def read(self, partition: int) -> Iterator[ConsumedRecord]:
        """Yield the records of a partition."""
        low, end = self.bounds[partition]
        return self._log.read(self.topic, partition, start=low, end=end)

    def read_all(self) -> Iterator[ConsumedRecord]:
        """Yield the records of all partitions."""
        for partition in self.bounds:
            yield from self.read(partition)


def _log_record(record: ConsumedRecord) -> LogRecord:
    return LogRecord(
        record.offset, record.timestamp, record.kind, record.key or b"", record.value or b"", record.headers
    )
