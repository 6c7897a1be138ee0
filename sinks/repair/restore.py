"""Store rows again that the database has lost, for a replay: what is there already stays as it is.

The records go through the sink's own code, the careful way: each row is inserted unless it is there. What a loss has
left counted is not counted twice (`recount`), and nothing is added to what a subscription has used: a row that is put
back was paid for when it came. One transaction holds all of a call; killed anywhere, and run again, the rows are there
once and the counters are what they say.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from adapters.dead_letters import ParkedRecord
from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor
from schemas.topics import Topic
from sinks.app import SINKS, Environment
from sinks.commit.batching import Span
from sinks.commit.loop import prepared
from sinks.commit.writer import Step, Writer
from sinks.contract.days import ClosedDays
from sinks.contract.sink import Prepared, Sink, Stored
from sinks.contract.verdicts import NewRows
from sinks.repair.by_hand import OwnsNothing, batch_by_hand, writer_by_hand
from sinks.repair.recount import Recount
from sinks.topics.sessions import SessionsSink
from sinks.topics.signals import FindingLines


class _Always(OwnsNothing):
    """No offset says that a batch is in: its rows do; see `sinks.commit.writer.Progress`."""

    def advance(self, cursor: Cursor, spans: Mapping[int, Span], epochs: Mapping[int, int]) -> bool:  # noqa: ARG002
        """Go on."""
        return True


@dataclass(slots=True)
class _Refused:
    """Keeps what the last try refused, and parks nothing: the log has it; see `sinks.commit.writer.Letters`."""

    records: list[ParkedRecord] = field(default_factory=list)

    def park(self, parked: Iterable[ParkedRecord]) -> None:
        """Take note."""
        self.records = list(parked)


@dataclass(slots=True)
class _Recounting:
    """A sink whose rows may have been counted before; see `sinks.contract.sink.Sink`."""

    sink: Sink[Any]
    _recount: Recount = field(default_factory=Recount)

    @property
    def name(self) -> str:
        """Return the sink's."""
        return self.sink.name

    @property
    def topic(self) -> Topic:
        """Return the sink's."""
        return self.sink.topic

    @property
    def partitioned_table(self) -> str | None:
        """Return the sink's."""
        return self.sink.partitioned_table

    def prepare(self, record: ConsumedRecord) -> Prepared[Any] | None:
        """Prepare as the sink does."""
        return self.sink.prepare(record)

    def days(self, content: Any) -> AbstractSet[int]:
        """Return the sink's."""
        return self.sink.days(content)

    def open(self, connection: Connection) -> None:
        """Prepare a new connection."""
        self.sink.open(connection)
        self._recount.open(connection)

    def store(
        self,
        cursor: Cursor,
        items: Sequence[Prepared[Any]],
        *,
        careful: bool,  # noqa: ARG002 — most of a batch may be there
        closed_days: ClosedDays,
    ) -> Stored:
        """Store what is missing, the careful way, and settle the counters."""
        contents = [item.content for item in items if item.content is not None]
        owners = [(content.project_id, content.session_id) for content in contents]
        findings = [content for content in contents if isinstance(content, FindingLines)]
        issue_ids = [finding.issue.id for finding in findings if finding.issue is not None]
        self._recount.note(cursor, owners, issue_ids)
        stored = self.sink.store(cursor, items, careful=True, closed_days=closed_days)
        sink = self.sink
        closed = sink.remake_recordings(cursor, items) if isinstance(sink, SessionsSink) else []
        self._recount.settle(cursor, owners, issue_ids)
        if isinstance(sink, SessionsSink):
            sink.materialise(cursor, closed)
        self._recount.settle_hours(cursor, stored.hours)
        stored.new, stored.hours = NewRows(), Counter()
        return stored


@dataclass(slots=True)
class SinkRestore:
    """Stores records of one sink again."""

    name: str
    environment: Environment
    on_step: Callable[[Step], None] = lambda _step: None
    _refused: _Refused = field(default_factory=_Refused)
    _writer: Writer[Any] = field(init=False)

    def __post_init__(self) -> None:
        self._writer = writer_by_hand(
            _Recounting(SINKS[self.name]()),
            self.environment,
            progress=_Always(),
            letters=self._refused,
            on_step=self.on_step,
        )

    def store(self, records: Iterable[ConsumedRecord]) -> list[ParkedRecord]:
        """Store what is missing of these records, in one transaction, and return what the sink refuses of it.

        Raises:
            Abandoned: Postgres cannot be written now.
            SinkHalted: a person has to act.
        """
        items = [item for record in records if (item := prepared(self._writer.sink, record)) is not None]
        self._writer.write(batch_by_hand(items), {})
        return self._refused.records

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()
