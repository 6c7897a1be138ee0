"""The rows of one record of events, as COPY lines with what has to be known about them."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sinks.contract.days import epoch_day
from sinks.contract.hours import HourCounts, counts_by_hour
from sinks.contract.verdicts import Owner
from sinks.tables.copy_text import EVENT_COLUMNS, unescaped
from sinks.tables.finding_kinds import FINDING_KINDS

_TIMESTAMP = EVENT_COLUMNS.index("timestamp")
_EVENT_TYPE = EVENT_COLUMNS.index("event_type")


@dataclass(frozen=True, slots=True)
class EventLine:
    """One row."""

    line: bytes
    index: int
    """The event's place in its record."""
    restamped: bool

    @property
    def timestamp_ms(self) -> int:
        """Return the row's time, read back from its line."""
        text = self.line.split(b"\t", _TIMESTAMP + 1)[_TIMESTAMP].decode()
        return round(datetime.fromisoformat(text).timestamp() * 1000)

    @property
    def day(self) -> int:
        """Return the row's day, counted from 1970-01-01."""
        return epoch_day(self.timestamp_ms)

    @property
    def event_type(self) -> str:
        """Return the row's type."""
        return unescaped(self.line.split(b"\t", _EVENT_TYPE + 1)[_EVENT_TYPE].decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLines:
    """The rows of one record, all of one session."""

    project_id: str
    session_id: str
    visitor_id: str | None
    lines: bytes
    """COPY lines of the rows whose time is the client's."""
    indexes: Sequence[int]
    """The place of each of these rows in the record."""
    hours: HourCounts
    """These rows by hour and event_type."""
    started_at: int
    """The earliest time of all rows, epoch ms."""
    days: frozenset[int]
    """The days of all rows."""
    restamped: Sequence[EventLine] = ()
    disbelieved: bool = False
    """Some of the restamped rows came with a time, which may be believed when the event is sent again."""

    @property
    def owner(self) -> Owner:
        """Return project and session."""
        return self.project_id, self.session_id

    @property
    def findings(self) -> dict[str, int]:
        """Return the rows of `lines` by event_type over the finding kinds."""
        found: dict[str, int] = {}
        for kinds in self.hours.values():
            for kind in FINDING_KINDS & kinds.keys():
                found[kind] = found.get(kind, 0) + kinds[kind]
        return found

    def rows(self) -> list[EventLine]:
        """Return each row of `lines` with its place."""
        split = self.lines.splitlines(keepends=True)
        return [EventLine(line, index, restamped=False) for index, line in zip(self.indexes, split, strict=True)]

    def without_days(self, days: Container[int]) -> tuple["EventLines | None", dict[int, int]]:
        """Return what is left without the rows of these days, None if nothing is; and their days by place."""
        rows = self.rows()
        kept = [row for row in rows if row.day not in days]
        restamped = [row for row in self.restamped if row.day not in days]
        left = [*kept, *restamped]
        lost = {row.index: row.day for row in (*rows, *self.restamped) if row.day in days}
        if not left:
            return None, lost
        return replace(
            self,
            lines=b"".join(row.line for row in kept),
            indexes=[row.index for row in kept],
            hours=counts_by_hour([row.timestamp_ms for row in kept], [row.event_type for row in kept]),
            started_at=min(row.timestamp_ms for row in left),
            days=frozenset(row.day for row in left),
            restamped=restamped,
        ), lost
