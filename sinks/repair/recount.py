"""Keep counters right while rows are put back that may have been counted once.

Theory. A counter grows with a row's insertion and never shrinks: rows that retention prunes stay counted. So a row that
was lost by hand has been counted, and putting it back through the sink's own code counts it a second time; a row that
was never stored has not. Afterwards the table itself tells them apart: a counter has to be what count(*) says, or what
it was before if that is more. It is wrong only for a session that has lost rows to retention *and* gets rows that were
never stored, by at most the smaller of the two.

The sessions (recordings, issues) are locked against counting before their counters are read, in the order in which the
sinks lock them, and the rows are counted by a statement that begins after that. Whoever counts meanwhile waits, and
adds to what stands then.

The events of an hour need neither: a day that can get a row has never been pruned, so they are what its rows say. Rows
and counts of one transaction are seen together or not at all, so nobody is locked.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from adapters.postgres import Connection, Cursor, read_queries
from sinks.contract.hours import HOUR_MS, ProjectHour
from sinks.contract.verdicts import Owner


@dataclass(slots=True)
class Recount:
    """The counters of the sessions, recordings and issues that a batch touches."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.repair", "recount.sql"))

    def open(self, connection: Connection) -> None:
        """Make the temporary tables of a new connection."""
        for query in ("create_before", "create_recordings_before", "create_issues_before"):
            connection.execute(self._queries[query])

    def note(self, cursor: Cursor, owners: Collection[Owner], issue_ids: Collection[str]) -> None:
        """Lock what the batch touches and note its counters, before the rows are put back."""
        parameters = _parameters(owners, issue_ids)
        for query in ("empty_before", "note_sessions", "note_recordings", "note_issues"):
            cursor.execute(self._queries[query], parameters)

    def settle(self, cursor: Cursor, owners: Collection[Owner], issue_ids: Collection[str]) -> None:
        """Set the counters, after the rows are back, in the same transaction."""
        parameters = _parameters(owners, issue_ids)
        for query in ("lock_sessions", "settle_sessions", "settle_recordings", "settle_issues"):
            cursor.execute(self._queries[query], parameters)

    def settle_hours(self, cursor: Cursor, inserted: Collection[ProjectHour]) -> None:
        """Set the events of the hours in which rows were put back, in the same transaction."""
        hours = sorted({hour for _, hour, _ in inserted})
        if hours:
            cursor.execute(self._queries["settle_hours"], {"hours": [hour * (HOUR_MS // 1000) for hour in hours]})


def _parameters(owners: Collection[Owner], issue_ids: Collection[str]) -> dict[str, object]:
    ordered = sorted(set(owners))
    return {
        "project_ids": [project_id for project_id, _ in ordered],
        "session_ids": [session_id for _, session_id in ordered],
        "issue_ids": sorted(set(issue_ids)),
    }
