"""Sink `signals`: findings become rows of `traceflow_events`, and UX issues.

A finding of an error whose structured event is a row already (`event_row` false) makes no second row: it only feeds the
issue. Rows and their counters go the same way as the events' (`event_rows`), in the same transaction as the issues.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, cast

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor
from schemas import topics
from schemas.messages import Event, Finding
from schemas.reasons import Reason
from sinks.contract.days import ClosedDays, epoch_day
from sinks.contract.hours import counts_by_hour
from sinks.contract.sink import Prepared, Stored
from sinks.contract.verdicts import RecordRefused
from sinks.tables.copy_text import event_line, session_head
from sinks.tables.event_lines import EventLines
from sinks.tables.event_rows import EventTable
from sinks.tables.finding_kinds import FINDING_KINDS
from sinks.tables.issue_tables import IssueTables
from sinks.tables.issues import SEVERITIES, IssueKey, issue_key
from sinks.tables.record_owner import message_of, owner_of, text_or_none, uuid_of

_ROW_FIELDS = (
    "page_url",
    "page_title",
    "element_tag",
    "element_id",
    "element_class",
    "element_text",
    "element_selector",
    "x_position",
    "y_position",
    "error_message",
    "error_stack",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingLines(EventLines):
    """A finding: its row, none if it has one already, and its issue, None if it makes none."""

    finding: Finding
    issue: IssueKey | None


class SignalsSink:
    """See `sinks.contract.sink.Sink`."""

    name = "signals"
    topic = topics.SIGNALS
    partitioned_table = "public.traceflow_events"

    def __init__(self) -> None:
        self._table = EventTable()
        self._issues = IssueTables()

    def prepare(self, record: ConsumedRecord) -> Prepared[FindingLines] | None:
        """Decode a finding."""
        finding = _finding(record)
        head = session_head(finding.session_id, finding.project_id)
        try:
            line = event_line(_row(finding), head=head)
            issue = issue_key(finding)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise RecordRefused(Reason.RECORD_MALFORMED, f"{type(error).__name__}: {error}") from error
        content = FindingLines(
            project_id=finding.project_id,
            session_id=finding.session_id,
            visitor_id=finding.visitor_id,
            lines=line.encode() if finding.event_row else b"",
            indexes=range(1) if finding.event_row else (),
            hours=counts_by_hour([finding.timestamp], [finding.kind]) if finding.event_row else {},
            started_at=finding.timestamp,
            days=frozenset({epoch_day(finding.timestamp)} if finding.event_row else ()),
            finding=finding,
            issue=issue,
        )
        return Prepared(record, content, rows=1, size_bytes=len(record.value or b""), visitor_id=finding.visitor_id)

    def days(self, content: FindingLines) -> AbstractSet[int]:
        """Return the day of the row."""
        return content.days

    def open(self, connection: Connection) -> None:
        """Make the staging table."""
        self._table.open(connection)

    def store(
        self,
        cursor: Cursor,
        items: Sequence[Prepared[FindingLines]],
        *,
        careful: bool,
        closed_days: ClosedDays,
    ) -> Stored:
        """Insert the rows, count them for their sessions, and gather all findings into issues."""
        stored = self._table.store(cursor, items, careful=careful, closed_days=closed_days)
        parked = {id(parking.item) for parking in stored.parkings}
        contents = [item.content for item in items if item.content is not None and id(item) not in parked]
        self._issues.store(cursor, [(each.issue, each.finding) for each in contents if each.issue is not None])
        return stored


def _finding(record: ConsumedRecord) -> Finding:
    """Decode and check a finding.

    Raises:
        RecordRefused: it is not what its contract says.
    """
    finding = message_of(Finding, record)
    project_id, session_id = owner_of(record, project_id=finding.project_id, session_id=finding.session_id)
    known = finding.kind in FINDING_KINDS and finding.severity in SEVERITIES and isinstance(finding.timestamp, int)
    if not (known and isinstance(finding.evidence, dict)):
        raise RecordRefused(Reason.RECORD_MALFORMED, "kind, severity, timestamp or evidence is not as declared")
    return replace(
        finding,
        id=uuid_of(finding.id, name="id"),
        project_id=project_id,
        session_id=session_id,
        visitor_id=text_or_none(finding.visitor_id),
    )


def _row(finding: Finding) -> Event:
    values: dict[str, Any] = {name: value for name in _ROW_FIELDS if (value := getattr(finding, name)) is not None}
    values |= {
        "id": finding.id,
        "timestamp": finding.timestamp,
        "event_type": finding.kind,
        "metadata": finding.evidence,
    }
    return cast(Event, values)
