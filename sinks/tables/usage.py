"""Count what projects use of their owners' plans: sessions and recordings that a transaction really made.

The row of a subscription is shared by all sinks and partitions of its owner, so it is updated last, just before the
commit: whoever comes second waits for one commit and not for a COPY.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from adapters.postgres import Cursor, read_queries
from sinks.contract.verdicts import NewRows, Owner


@dataclass(slots=True)
class UsageTable:
    """The counters of `traceflow_subscriptions`."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.tables", "usage.sql"))

    def add(self, cursor: Cursor, new: NewRows) -> None:
        """Add new rows to the subscriptions that pay for their projects."""
        projects = sorted({project_id for project_id, _ in new.sessions | new.recordings})
        if projects:
            cursor.execute(
                self._queries["use"],
                {
                    "project_ids": projects,
                    "sessions": [_count(new.sessions, project_id) for project_id in projects],
                    "recordings": [_count(new.recordings, project_id) for project_id in projects],
                },
            )


def _count(owners: Collection[Owner], project_id: str) -> int:
    return sum(owner[0] == project_id for owner in owners)
