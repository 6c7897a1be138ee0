r"""What the changelog of a stage holds, and how a partition is recovered from it. Pure.

Theory. Two processes can believe that they own a partition: one froze, the group gave the partition to another, the
first one wakes up. Kafka does not fence them, so what they write must not depend on who writes it. All owners fold the
same log with the same function. So a changelog record is a *fact*: the key `session|offset` names the session's state
after that offset, and its value is the same whoever writes it. Nothing is ever overwritten by something else.

    session|offset    the state of the session after the log record at `offset`
    \0p|offset        the partition record: everything up to `offset` is in the facts

A batch is written as three flights, each acknowledged before the next: outputs; new facts, and deletions of facts that
the *previous* batch superseded; the partition record. Never two of them in one flight, because a record of a flight can
fail while a later one lands. So the highest partition record never claims more than the facts hold, and the highest
fact of a living session never disappears.

Recovery takes the highest fact of each session and the highest partition record. A session whose fact lies beyond the
partition record is ahead: a batch was cut off before its record, and the fold leaves such a session alone until it has
come so far. A fact that is older than the last tick and expired by then belongs to a session that the fold had removed.
Every other fact is left over, and is deleted with the first batch.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

FORMAT = 1
"""Format of the heads below; a logic versions its own states."""

_PARTITION = b"\0p"
_HEAD = struct.Struct("<BBqqqqq")
_RECORD = struct.Struct("<Bqqqqq")
REDRIVEN_FORMAT = 2
_REDRIVEN_RECORD = struct.Struct("<Bqqqqqq")
"""A partition record that says something about redriven records; one that does not stays readable for format 1."""
LOCATED_FORMAT = 3
LOG_ID_BYTES = 22
"""A broker's id of a topic, as text."""
_LOCATED_RECORD = struct.Struct(f"<Bqqqqqqq{LOG_ID_BYTES}s{LOG_ID_BYTES}s")
"""A partition record that names the log in which its offsets hold: every one that a worker writes."""


class NewerFactFormat(Exception):
    """A fact was written by a newer version than this one reads: the process ends, because it would undo its work."""


class DamagedFact(Exception):
    """The changelog holds what no stage writes: an operator decides."""


class SessionHead(NamedTuple):
    """What the fold must know of a session without decoding its state; the state's bytes follow it in the fact."""

    is_closed: bool
    last_activity: int
    """Log time of the latest record, epoch ms; never moves back within a life."""
    offset: int
    """The record after which the state holds."""
    closes: int
    """last_activity and the session's gap: the session is closed when the clock is beyond, epoch ms."""
    expires: int
    """closes and the residue: a closed session is forgotten when the clock is beyond, epoch ms."""
    wake: int
    """When the logic wants to settle something, epoch ms; 0 for never."""

    @property
    def due(self) -> int:
        """Return the moment beyond which the clock concerns the session next."""
        if self.is_closed:
            return self.expires
        return min(self.wake, self.closes) if self.wake else self.closes

    def pack(self) -> bytes:
        """Encode the head."""
        return _HEAD.pack(FORMAT, *self)

    @classmethod
    def unpack(cls, fact: bytes) -> "SessionHead":
        """Decode the head of a fact.

        Raises:
            NewerFactFormat, DamagedFact: it is none that this version reads.
        """
        try:
            version, is_closed, *rest = _HEAD.unpack_from(fact)
        except struct.error as error:
            raise DamagedFact(f"{len(fact)} bytes are no fact about a session") from error
        _check_format(version)
        return cls(bool(is_closed), *rest)


HEAD_BYTES = _HEAD.size


class PartitionRecord(NamedTuple):
    """How far the fold of a partition has come."""

    offset: int = -1
    """The last record folded; -1 before the first."""
    watermark: int = 0
    """The fold's clock: the latest moment that a tick has shown, epoch ms."""
    clock_tick: int = -1
    """Offset of the tick that set the watermark."""
    last_tick: int = -1
    """Offset of the last tick of any kind: what changed since is reported at the next."""
    source: int = -1
    """The highest offset of the upstream log whose effect is included; -1 before the first."""
    redriven: int = 0
    """The highest number of a redriven record whose effect is included; 0 before the first."""
    logged_at: int = 0
    """Broker time of the last record folded, epoch ms; 0 if an older version wrote this."""
    topic_id: str = ""
    """The broker's id of the topic, 22 characters; empty for a fold without a broker, or of an older version."""
    source_id: str = ""
    """The same of the topic whose offsets the sources are, as their sender said last; empty if none did."""

    def pack(self) -> bytes:
        """Encode the record."""
        if self.topic_id:
            ids = (self.topic_id.encode(), self.source_id.encode())
            return _LOCATED_RECORD.pack(LOCATED_FORMAT, *self[:-2], *ids)
        if self.redriven:
            return _REDRIVEN_RECORD.pack(REDRIVEN_FORMAT, *self[:-3])
        return _RECORD.pack(FORMAT, *self[:-4])

    @classmethod
    def unpack(cls, fact: bytes) -> "PartitionRecord":
        """Decode the record.

        Raises:
            NewerFactFormat, DamagedFact: it is none that this version reads.
        """
        version = fact[0] if fact else 0
        _check_format(version, newest=LOCATED_FORMAT)
        layout = {REDRIVEN_FORMAT: _REDRIVEN_RECORD, LOCATED_FORMAT: _LOCATED_RECORD}.get(version, _RECORD)
        try:
            _, *rest = layout.unpack(fact)
            if layout is _LOCATED_RECORD:
                rest[-2:] = [text.rstrip(b"\0").decode() for text in rest[-2:]]
        except (struct.error, UnicodeDecodeError) as error:
            raise DamagedFact(f"{len(fact)} bytes are no partition record") from error
        return cls(*rest)


def _check_format(version: int, *, newest: int = FORMAT) -> None:
    if version > newest:
        raise NewerFactFormat(f"the changelog holds facts of format {version}, this version reads up to {newest}")


def session_fact_key(session: bytes, offset: int) -> bytes:
    """Return the changelog key of a session's state after a record."""
    return session + b"|%d" % offset


def partition_record_key(offset: int) -> bytes:
    """Return the changelog key of a partition record."""
    return session_fact_key(_PARTITION, offset)


def is_session_key(key: bytes | None) -> bool:
    """Tell whether a record's key can name a session: it is not empty and never looks like a partition record's."""
    return bool(key) and not key.startswith(b"\0")  # type: ignore[union-attr]  # bool(key) excludes None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A partition as its facts tell it."""

    record: PartitionRecord
    sessions: Mapping[bytes, bytes]
    """By session: its highest fact, head included."""
    leftovers: tuple[bytes, ...]
    """Changelog keys that mean nothing any more."""


NOTHING = Recovered(record=PartitionRecord(), sessions={}, leftovers=())


def recover(facts: Mapping[bytes, bytes]) -> Recovered:
    """Tell how far the fold has come, which sessions it holds, and which facts are left over.

    Raises:
        NewerFactFormat, DamagedFact: the facts are none that this version reads.
    """
    record = PartitionRecord()
    highest: dict[bytes, tuple[int, bytes]] = {}
    for key, fact in facts.items():
        name, offset = _parse_key(key)
        if name == _PARTITION:
            record = max(record, PartitionRecord.unpack(fact))
        elif name not in highest or offset > highest[name][0]:
            highest[name] = (offset, fact)
    sessions = {name: fact for name, (_, fact) in highest.items() if not _was_removed(fact, record)}
    kept = {session_fact_key(name, highest[name][0]) for name in sessions}
    kept.add(partition_record_key(record.offset))
    leftovers = tuple(key for key in facts if key not in kept)
    return Recovered(record=record, sessions=sessions, leftovers=leftovers)


def _parse_key(key: bytes) -> tuple[bytes, int]:
    name, _, offset = key.rpartition(b"|")
    if not (name and offset.isdigit()):
        raise DamagedFact(f"{key[:80]!r} is no key of a fact")
    return name, int(offset)


def _was_removed(fact: bytes, record: PartitionRecord) -> bool:
    head = SessionHead.unpack(fact)
    return head.offset < record.clock_tick and head.expires < record.watermark


Write = tuple[bytes, bytes | None]
"""A record for the changelog: key and value; no value deletes the fact."""


def changelog_flight(facts: Iterable[tuple[bytes, bytes]], deletions: Iterable[bytes]) -> list[Write]:
    """Return the second flight of a batch: its new facts, and the deletions, but never of a place written just now."""
    writes: list[Write] = list(facts)
    written = {key for key, _ in writes}
    writes.extend((key, None) for key in deletions if key not in written)
    return writes
