"""Make and lock rows of `session_recordings`, which two sinks write: chunks come to one, snapshots to the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.postgres import Cursor, read_queries
from schemas.ids import session_row_id
from sinks.contract.verdicts import NewRows, Owner


@dataclass(slots=True)
class RecordingRows:
    """The table `session_recordings` as the sinks share it."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.tables", "recording_rows.sql"))

    def make(self, cursor: Cursor, starts: Mapping[Owner, int], new: NewRows) -> None:
        """Make the recordings that are new, and lock all; `starts` holds their first known time, epoch ms."""
        if not starts:
            return
        parameters = {
            "ids": [session_row_id(*owner) for owner in starts],
            "session_ids": [session_id for _, session_id in starts],
            "project_ids": [project_id for project_id, _ in starts],
            "start_times": list(starts.values()),
        }
        cursor.execute(self._queries["make"], parameters)
        made = {row[0] for row in cursor}
        new.recordings |= {owner for owner in starts if owner[1] in made}
        cursor.execute(self._queries["lock"], parameters)
