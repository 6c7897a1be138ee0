"""Know what was erased, and erase: the block-list of visitors and sessions, and the rows of what is on it.

Theory. Rows can be deleted; records in Kafka cannot, until retention takes them. So an erasure is a row of a block-list
that whatever stores rows consults, and then the deletion of the rows there are.

- A session that is blocked is never stored again, whatever record speaks of it.
- A visitor's erasure blocks each session that names the visitor then. Of a session that no table has yet, the first
  record that names the visitor and was received before tells it: whoever meets one blocks the session and removes what
  others have stored of it meanwhile (`Erasures.find`). What is received later of a new session is new, and is kept.

The list holds hashes only. Exact against transactions under way by the lock that the migration explains: a transaction
that asks `find` holds it until it commits, and `block` waits for those that do.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from adapters.postgres import Connection, Cursor, read_queries

Owner = tuple[str, str]
"""Project and session."""


class Subject(NamedTuple):
    """Who or what is erased."""

    project_id: str
    kind: Literal["visitor", "session"]
    id: str


class Sighting(NamedTuple):
    """That a record speaks of a session."""

    project_id: str
    session_id: str
    visitor_id: str | None
    """Whom it names."""
    received_at: int | None
    """Epoch ms; None if nobody knows."""


@dataclass(frozen=True, slots=True)
class Erasures:
    """The block-list, on connections that are passed in."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("adapters", "erasures.sql"))

    def find(self, cursor: Cursor, sightings: Sequence[Sighting]) -> dict[int, bool]:
        """Return the places of what this transaction may not store, and whether its session is blocked already.

        Where it is not, its session is to be blocked and removed, in a transaction of its own, before this one is tried
        again. What is not returned stays allowed until the transaction ends.
        """
        cursor.execute(
            self._queries["find"],
            {
                "project_ids": [each.project_id for each in sightings],
                "session_ids": [each.session_id for each in sightings],
                "visitor_ids": [each.visitor_id for each in sightings],
                "received_at": [each.received_at for each in sightings],
            },
        )
        return {place - 1: is_blocked for place, is_blocked in cursor}

    def blocked(self, connection: Connection, owners: Iterable[Owner]) -> set[Owner]:
        """Return those sessions that are blocked."""
        asked = list(owners)
        if not asked:
            return set()
        rows = connection.execute(
            self._queries["blocked"],
            {
                "project_ids": [project_id for project_id, _ in asked],
                "session_ids": [session_id for _, session_id in asked],
            },
        )
        return {asked[place - 1] for (place,) in rows}

    def knows_project(self, connection: Connection, project_id: str) -> bool:
        """Tell whether there is such a project."""
        return connection.execute(self._queries["know_project"], {"project_id": project_id}).fetchone() == (True,)

    def block(self, cursor: Cursor, subject: Subject) -> None:
        """Let nothing more be stored of it, and write that into the audit log.

        Raises:
            psycopg.errors.LockNotAvailable: a sink has been storing for 2 s.
        """
        cursor.execute(self._queries[f"block_{subject.kind}"], subject._asdict())

    def sessions_of(
        self, connection: Connection, visitor: Subject, *, only_blocked: bool, most: int | None
    ) -> list[str]:
        """Return sessions that name the visitor in the tables, at most so many."""
        parameters = visitor._asdict() | {"blocked": only_blocked, "most": most}
        return [row[0] for row in connection.execute(self._queries["sessions_of_visitor"], parameters)]

    def remove(self, cursor: Cursor, subject: Subject, session_ids: Collection[str]) -> None:
        """Remove the rows of blocked sessions, and add them to what the subject's erasure has removed."""
        cursor.execute(self._queries["remove"], subject._asdict() | {"session_ids": list(session_ids)})

    def forget_name(self, cursor: Cursor, visitor: Subject) -> None:
        """Take an erased visitor's name from what sessions of others have of before the erasure."""
        for query in ("forget_findings", "forget_issues"):
            cursor.execute(self._queries[query], visitor._asdict())

    def rows(self, connection: Connection, subject: Subject, session_ids: Collection[str]) -> dict[str, int]:
        """Count the rows that name the sessions, by table."""
        parameters = {"project_id": subject.project_id, "session_ids": list(session_ids)}
        return dict(connection.execute(self._queries["rows"], parameters).fetchall())

    def names(self, connection: Connection, visitor: Subject) -> dict[str, int]:
        """Count the rows that name an erased visitor for what was before, by table, beside the visitor's sessions."""
        return dict(connection.execute(self._queries["names"], visitor._asdict()).fetchall())

    def note_done(self, cursor: Cursor, subject: Subject) -> dict[str, int]:
        """Write into the audit log what the erasure has removed in all, by table, and return it."""
        cursor.execute(self._queries["note_done"], subject._asdict())
        row = cursor.fetchone()
        return dict(row[0]) if row else {}
