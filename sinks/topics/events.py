"""Sink `events`: the events that clients sent become rows of `traceflow_events`.

Reads records of kind `events`; digests and ticks in the same topic make no rows. What the gateway let through is
normalised already, so a record that does not have the declared shape is a fault of ours, and an event within it that
lacks its required fields is parked alone.
"""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor
from schemas import topics
from schemas.messages import CLIENT_TIMESTAMP, Event, Kind
from schemas.reasons import Reason
from sinks.contract.days import ClosedDays
from sinks.contract.hours import HOURS_A_DAY, HourCounts, counts_by_hour
from sinks.contract.sink import Prepared, Stored
from sinks.contract.verdicts import RecordRefused, Refusal
from sinks.tables.copy_text import event_line, needs_no_escape, plain_event_lines, session_head
from sinks.tables.event_lines import EventLine, EventLines
from sinks.tables.event_rows import EventTable
from sinks.tables.record_owner import object_of, owner_of, text_or_none, time_or_none

_TIMES_AS_SENT = frozenset((CLIENT_TIMESTAMP, f"event.{CLIENT_TIMESTAMP}"))


class EventsSink:
    """See `sinks.contract.sink.Sink`."""

    name = "events"
    topic = topics.EVENTS
    partitioned_table = "public.traceflow_events"

    def __init__(self) -> None:
        self._table = EventTable()

    def prepare(self, record: ConsumedRecord) -> Prepared[EventLines] | None:
        """Decode a batch of events into COPY lines."""
        if record.kind != Kind.EVENTS:
            return None
        data = object_of(record)
        events = data.get("events")
        if not isinstance(events, list):
            raise RecordRefused(Reason.RECORD_MALFORMED, "events is no array")
        project_id, session_id = owner_of(record, project_id=data.get("project_id"), session_id=data.get("session_id"))
        rows = _rows(record.value or b"", events, session_head(session_id, project_id))
        content = EventLines(
            project_id=project_id,
            session_id=session_id,
            visitor_id=text_or_none(data.get("visitor_id")),
            lines=rows.lines.encode(),
            indexes=rows.indexes,
            hours=rows.hours,
            started_at=min(rows.times, default=0),
            days=rows.days,
            restamped=rows.restamped,
            disbelieved=rows.disbelieved,
        )
        return Prepared(
            record,
            content if rows.times else None,
            rows=len(events),
            size_bytes=len(record.value or b""),
            refusals=rows.refusals,
            visitor_id=content.visitor_id,
            received_at=time_or_none(data.get("received_at")),
        )

    def days(self, content: EventLines) -> AbstractSet[int]:
        """Return the days of the rows."""
        return content.days

    def open(self, connection: Connection) -> None:
        """Make the staging table."""
        self._table.open(connection)

    def store(
        self, cursor: Cursor, items: Sequence[Prepared[EventLines]], *, careful: bool, closed_days: ClosedDays
    ) -> Stored:
        """Insert the rows and count them for their sessions."""
        return self._table.store(cursor, items, careful=careful, closed_days=closed_days)


@dataclass(slots=True)
class _Rows:
    """The rows of a record, as far as they can be made."""

    lines: str = ""
    indexes: Sequence[int] = ()
    times: list[int] = field(default_factory=list)
    hours: HourCounts = field(default_factory=dict)
    """Those of `lines`."""
    restamped: list[EventLine] = field(default_factory=list)
    disbelieved: bool = False
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def days(self) -> frozenset[int]:
        """Return the days of all rows."""
        plain = {hour // HOURS_A_DAY for hour in self.hours}
        return frozenset(plain.union(row.day for row in self.restamped))


def _rows(value: bytes, events: Sequence[Any], head: str) -> _Rows:
    if needs_no_escape(value) and b'"restamped"' not in value:
        with suppress(AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return _plain(events, head)
    return _careful(events, head)


def _plain(events: Sequence[Event], head: str) -> _Rows:
    """Encode events that need no care, all at once.

    Raises:
        AttributeError, KeyError, TypeError, ValueError, OverflowError: they do need it.
    """
    times = [event["timestamp"] for event in events]
    return _Rows(
        lines=plain_event_lines(events, head=head),
        indexes=range(len(events)),
        times=times,
        hours=counts_by_hour(times, [event["event_type"] for event in events]),
    )


def _careful(events: Sequence[Any], head: str) -> _Rows:
    """Encode events one by one: what is none is refused by its place, what was restamped is kept apart."""
    rows = _Rows()
    lines: list[str] = []
    indexes: list[int] = []
    hours: dict[int, Counter[str]] = {}
    for index, event in enumerate(events):
        try:
            line = event_line(event, head=head)
            counted = counts_by_hour([event["timestamp"]], [event["event_type"]])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            rows.refusals.append(Refusal(Reason.RECORD_MALFORMED, f"{type(error).__name__}: {error}", index))
            continue
        rows.times.append(event["timestamp"])
        if event.get("restamped"):
            rows.restamped.append(EventLine(line.encode(), index, restamped=True))
            metadata = event.get("metadata")
            rows.disbelieved |= isinstance(metadata, dict) and not _TIMES_AS_SENT.isdisjoint(metadata)
            continue
        lines.append(line)
        indexes.append(index)
        for hour, kinds in counted.items():
            hours.setdefault(hour, Counter()).update(kinds)
    rows.lines, rows.indexes, rows.hours = "".join(lines), indexes, hours
    return rows
