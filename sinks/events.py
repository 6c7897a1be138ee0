"""Sink `events`: the events that clients sent become rows of `traceflow_events`.

Reads records of kind `events`; digests and ticks in the same topic make no rows. What the gateway let through is
normalised already, so a record that does not have the declared shape is a fault of ours, and an event within it that
lacks its required fields is parked alone.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor
from schemas import topics
from schemas.messages import Kind
from schemas.reasons import Reason
from sinks.contract import Prepared, Stored
from sinks.copy_text import event_line, needs_no_escape, session_head
from sinks.days import epoch_day
from sinks.event_lines import EventLine, EventLines
from sinks.event_rows import EventTable
from sinks.finding_kinds import FINDING_KINDS
from sinks.record_owner import object_of, owner_of, text_or_none
from sinks.verdicts import RecordRefused, Refusal


class EventsSink:
    """See `sinks.contract.Sink`."""

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
        return _prepared(record, data, project_id, session_id, events)

    def days(self, content: EventLines) -> AbstractSet[int]:
        """Return the days of the rows."""
        return content.days

    def open(self, connection: Connection) -> None:
        """Make the staging table."""
        self._table.open(connection)

    def store(
        self, cursor: Cursor, items: Sequence[Prepared[EventLines]], *, careful: bool, closed_days: AbstractSet[int]
    ) -> Stored:
        """Insert the rows and count them for their sessions."""
        return self._table.store(cursor, items, careful=careful, closed_days=closed_days)


def _prepared(
    record: ConsumedRecord, data: Mapping[str, Any], project_id: str, session_id: str, events: list[Any]
) -> Prepared[EventLines]:
    head = session_head(session_id, project_id)
    plain = needs_no_escape(record.value or b"")
    lines: list[str] = []
    indexes: list[int] = []
    restamped: list[EventLine] = []
    refusals: list[Refusal] = []
    findings: dict[str, int] = {}
    times: list[int] = []
    for index, event in enumerate(events):
        try:
            line = event_line(event, head=head, plain=plain)
            is_finding = event["event_type"] in FINDING_KINDS
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            refusals.append(Refusal(Reason.RECORD_MALFORMED, f"{type(error).__name__}: {error}", index))
            continue
        times.append(event["timestamp"])
        if event.get("restamped"):
            restamped.append(EventLine(line.encode(), index, restamped=True))
            continue
        lines.append(line)
        indexes.append(index)
        if is_finding:
            findings[event["event_type"]] = findings.get(event["event_type"], 0) + 1
    content = EventLines(
        project_id=project_id,
        session_id=session_id,
        visitor_id=text_or_none(data.get("visitor_id")),
        lines="".join(lines).encode(),
        indexes=indexes,
        findings=findings,
        started_at=min(times, default=0),
        days=frozenset(map(epoch_day, times)),
        restamped=restamped,
    )
    return Prepared(
        record, content if times else None, rows=len(events), size_bytes=len(record.value or b""), refusals=refusals
    )
