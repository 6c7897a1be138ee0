"""What a sink is: how a record becomes rows, and how rows are stored within a transaction that others open and end.

The division of labour. `loop` reads and collects; a sink's `prepare` turns one record into what the database takes
(pure, no I/O, called on the reading thread while the database works on the batch before); `writer` opens the
transaction and moves the offsets; a sink's `store` puts the rows of the batch into it. Whatever fails, the writer rolls
back and calls `store` again with the same items.
"""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor
from schemas.topics import Topic
from sinks.contract.days import ClosedDays
from sinks.contract.hours import ProjectHour
from sinks.contract.verdicts import NewRows, Refusal

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Prepared(Generic[P_co]):
    """A record, and what it becomes: `content` is None if nothing of it can be stored."""

    record: ConsumedRecord
    content: P_co | None
    rows: int
    size_bytes: int
    refusals: Sequence[Refusal] = ()
    """What was already found unusable while preparing."""
    visitor_id: str | None = None
    """Whom the record names."""
    received_at: int | None = None
    """When the gateway had it, epoch ms; None for what a stage says."""


@dataclass(frozen=True, slots=True)
class Parking:
    """A refusal together with the record that it concerns."""

    item: Prepared[Any]
    refusal: Refusal


@dataclass(slots=True)
class Stored:
    """What became of the rows that a sink was given: each is inserted, a duplicate of a stored one, or parked."""

    inserted: int = 0
    duplicates: int = 0
    erased: int = 0
    """Rows that the writer left out before."""
    parkings: list[Parking] = field(default_factory=list)
    new: NewRows = field(default_factory=NewRows)
    hours: Counter[ProjectHour] = field(default_factory=Counter)
    """Rows of `traceflow_events` among the inserted."""

    def merged(self, other: "Stored") -> "Stored":
        """Return what became of both halves of a batch."""
        return Stored(
            inserted=self.inserted + other.inserted,
            duplicates=self.duplicates + other.duplicates,
            parkings=self.parkings + other.parkings,
            new=NewRows(self.new.sessions | other.new.sessions, self.new.recordings | other.new.recordings),
            hours=self.hours + other.hours,
        )


class Sink(Protocol[P]):
    """One of the sinks; its methods but `prepare` run on the thread that owns the connection."""

    @property
    def name(self) -> str:
        """Return events, sessions, recordings, signals or ai_jobs."""

    @property
    def topic(self) -> Topic:
        """Return the topic that it reads."""

    @property
    def partitioned_table(self) -> str | None:
        """Return the table whose days `days` speaks of; None if no table of the sink is partitioned by day."""

    def prepare(self, record: ConsumedRecord) -> Prepared[P] | None:
        """Turn a record into rows; None if it makes none (a tick, a digest). Pure.

        Raises:
            RecordRefused: nothing of the record can be stored.
        """

    def days(self, content: P) -> AbstractSet[int]:
        """Return the days (since 1970-01-01, UTC) whose partitions the content needs."""

    def open(self, connection: Connection) -> None:
        """Prepare a new connection, outside any transaction: temporary tables."""

    def store(self, cursor: Cursor, items: Sequence[Prepared[P]], *, careful: bool, closed_days: ClosedDays) -> Stored:
        """Store the batch within the open transaction; counters grow by rows really inserted and by nothing else.

        The fast way may presume that every row is new and valid, and fail if one is not: it is then called again with
        `careful`, which must find and park each row that cannot be stored. `closed_days` can have no partition.

        Raises:
            psycopg.Error: the transaction is to be rolled back; see `sinks.contract.sqlstates`.
        """
