"""Claim sessions for their projects and keep their counters.

A session id is unique in the whole database, and the first project that uses one owns it. So each sink claims the
sessions of its batch before it writes rows that hang on them; rows of a session that is another project's are parked
and touch nothing. Rows of a project that was deleted meanwhile are parked as well.

Counters are added in the transaction that inserts the rows, and only for rows that it inserts: `count` claims and
counts in one statement, for a caller that knows beforehand; a caller that has to insert first claims without counting.
The session's lock, which both take, holds off whoever else might insert one of its events meanwhile.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from adapters.postgres import Cursor, read_queries
from schemas.ids import session_row_id
from schemas.reasons import Reason
from sinks.contract.verdicts import NewRows, Owner, Refusal


@dataclass(slots=True)
class SessionDelta:
    """A session that a batch touches, and what it adds to its counters."""

    session_id: str
    project_id: str
    visitor_id: str | None
    started_at: int
    """Epoch ms; the row's start until the first snapshot of the session gives the real one."""
    events: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    """Rows by event_type over the finding kinds."""
    has_restamped: bool = False
    """A restamped event among them came with a time, which may be believed when it is sent again."""

    @property
    def owner(self) -> Owner:
        """Return project and session."""
        return self.project_id, self.session_id

    def add(self, *, events: int, findings: Mapping[str, int]) -> None:
        """Add rows."""
        self.events += events
        for kind, count in findings.items():
            self.findings[kind] = self.findings.get(kind, 0) + count


class SessionRows:
    """The table `traceflow_sessions` as the sinks share it."""

    def __init__(self) -> None:
        self._queries = read_queries("sinks.tables", "session_rows.sql")

    def claim(
        self, cursor: Cursor, deltas: Iterable[SessionDelta], new: NewRows, *, to_count: bool = False
    ) -> dict[Owner, bool]:
        """Make or lock the sessions without counting; return as `held`.

        `to_count` for a caller that counts later in the same transaction: nobody else counts them meanwhile.
        """
        owned: dict[Owner, bool] = {}
        for wanted in rounds(deltas):
            owned |= self._claim_round(cursor, wanted, new, to_count=to_count)
            # One that was there, and that retention or an erasure deleted before it could be locked, is made after all.
            if left := [delta for delta in wanted if delta.owner not in owned]:
                owned |= self._claim_round(cursor, left, new, to_count=to_count)
        return owned

    def _claim_round(
        self, cursor: Cursor, wanted: Sequence[SessionDelta], new: NewRows, *, to_count: bool
    ) -> dict[Owner, bool]:
        cursor.execute(self._queries["claim_to_count" if to_count else "claim_new"], _arrays(wanted))
        made = {row[0] for row in cursor}
        new.sessions |= {delta.owner for delta in wanted if delta.session_id in made}
        # In a statement of its own: only then its snapshot has the rows that others committed meanwhile.
        return self.held(cursor, wanted)

    def held(self, cursor: Cursor, deltas: Iterable[SessionDelta]) -> dict[Owner, bool]:
        """Lock the sessions that exist and are their projects', and return those, each with its `has_restamped`."""
        wanted = list(deltas)
        if not wanted:
            return {}
        cursor.execute(self._queries["claim_held"], _arrays(wanted))
        return {wanted[place - 1].owner: has_restamped for place, has_restamped in cursor}

    def count(
        self, cursor: Cursor, deltas: Iterable[SessionDelta], new: NewRows, *, inserted: bool = False
    ) -> set[Owner]:
        """Make the sessions that are new and add the counts; return those that are their projects'.

        Unless the rows are `inserted`, sessions that have restamped events are locked and left: whether a row of
        theirs is new cannot be presumed.
        """
        owned: set[Owner] = set()
        for added in rounds(deltas):
            cursor.execute(self._queries["count"], {**_arrays(added), "inserted": inserted})
            held: dict[str, bool] = dict(cursor.fetchall())
            for delta in added:
                if delta.session_id in held:
                    owned.add(delta.owner)
                    if held[delta.session_id]:
                        new.sessions.add(delta.owner)
        return owned

    def refusals(self, cursor: Cursor, lost: Collection[Owner]) -> dict[Owner, Refusal]:
        """Say why these sessions could not be claimed."""
        projects = sorted({project_id for project_id, _ in lost})
        cursor.execute(self._queries["known_projects"], {"project_ids": projects})
        known = {row[0] for row in cursor}
        return {
            (project_id, session_id): Refusal(Reason.SESSION_ID_TAKEN, f"session {session_id} is another project's")
            if project_id in known
            else Refusal(Reason.KEY_UNKNOWN, f"project {project_id} does not exist any more")
            for project_id, session_id in lost
        }


def rounds(deltas: Iterable[SessionDelta]) -> Iterator[list[SessionDelta]]:
    """Yield the deltas in order of session id, no session id twice in a round: an upsert takes each only once.

    A session id comes twice only if two projects use it; the one that came first in the log is first here as well.
    """
    left = list(deltas)
    while left:
        first: dict[str, SessionDelta] = {}
        later = [delta for delta in left if first.setdefault(delta.session_id, delta) is not delta]
        yield [first[session_id] for session_id in sorted(first)]
        left = later


def _arrays(deltas: Sequence[SessionDelta]) -> dict[str, object]:
    return {
        "ids": [session_row_id(delta.project_id, delta.session_id) for delta in deltas],
        "session_ids": [delta.session_id for delta in deltas],
        "project_ids": [delta.project_id for delta in deltas],
        "visitor_ids": [delta.visitor_id for delta in deltas],
        "started_at": [delta.started_at for delta in deltas],
        "events": [delta.events for delta in deltas],
        "findings": [orjson.dumps(delta.findings).decode() for delta in deltas],
        "has_restamped": [delta.has_restamped for delta in deltas],
    }
