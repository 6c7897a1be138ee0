"""Add to the events of an hour what a transaction really inserted.

A row belongs to a sink and to one partition of its topic, the lowest of a batch: as no two workers own a partition,
none waits for another's row, and one worker makes one row an hour and event_type whatever it owns. Readers add them up
(`traceflow_event_hours`). What a command stores by hand counts as partition -1.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from adapters.postgres import Cursor, read_queries
from sinks.contract.hours import HOUR_MS, ProjectHour

NO_PARTITION = -1


@dataclass(slots=True)
class EventHoursTable:
    """The table `traceflow_event_hour_counts`."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.tables", "event_hours.sql"))

    def add(self, cursor: Cursor, rows: Mapping[ProjectHour, int], *, sink: str, partitions: Collection[int]) -> None:
        """Add rows of events, by project, hour and event_type, that a sink inserted from these partitions."""
        if not rows:
            return
        places = sorted(rows)
        cursor.execute(
            self._queries["add"],
            {
                "sink": sink,
                "part": min(partitions, default=NO_PARTITION),
                "project_ids": [project_id for project_id, _, _ in places],
                "hours": [hour * (HOUR_MS // 1000) for _, hour, _ in places],
                "event_types": [event_type for _, _, event_type in places],
                "events": [rows[place] for place in places],
            },
        )
