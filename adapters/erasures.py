"""Know what was erased, and erase: the block-list of visitors and sessions, and the rows of what is on it.

Theory. Rows can be deleted; records in Kafka cannot, until retention takes them. So an erasure is a row of a block-list
that whatever stores rows consults, and then the deletion of the rows there are.

- A session that is blocked is never stored again, whatever record speaks of it.
- A visitor's erasure blocks each session that names the visitor then. Other sessions of before are told later: by a
  record that names the visitor and was received before, because no table had it yet, or by one that names the visitor
  of a session that was there. Whoever meets such a record blocks the session and removes what others have stored of it
  (`Erasures.find`). What is received later, of a new session, is new and is kept.

The list holds hashes only. Exact against transactions under way by the lock that the migration explains: a transaction
that asks `find` holds it until it commits, and `block` waits for those that do.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from adapters.postgres import Connection, Cursor, read_queries
from schemas.ids import erasure_hash

CLOCKS_DIFFER_MS = 60_000
"""How far the clocks of gateways and brokers may be ahead of Postgres': so much longer counts as before an erasure."""

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


def was_received_before(sighting: Sighting, erased_at: int) -> bool:
    """Tell whether a record counts as received before an erasure, epoch ms."""
    return sighting.received_at is not None and sighting.received_at <= erased_at + CLOCKS_DIFFER_MS


@dataclass(frozen=True, slots=True)
class Erasures:
    """The block-list, on connections that are passed in."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("adapters", "erasures.sql"))

    def find(self, cursor: Cursor, sightings: Collection[Sighting]) -> dict[Sighting, bool]:
        """Return those that this transaction may not store, and whether their session is blocked already.

        Where it is not, the session is to be blocked and removed, in a transaction of its own, before this one is tried
        again. What is not returned stays allowed until the transaction ends.
        """
        if not sightings:
            return {}
        sessions = {each[:2]: erasure_hash(each.project_id, "session", each.session_id) for each in sightings}
        visitors = {
            (each.project_id, each.visitor_id): erasure_hash(each.project_id, "visitor", each.visitor_id)
            for each in sightings
            if each.visitor_id is not None
        }
        cursor.execute(self._queries["find"], {"hashes": [*sessions.values(), *visitors.values()]})
        listed: dict[bytes, int] = dict(cursor.fetchall())
        if not listed:
            return {}
        found = {each: True for each in sightings if sessions[each[:2]] in listed}
        named = {
            each: erased_at
            for each in sightings
            if each not in found
            and each.visitor_id is not None
            and (erased_at := listed.get(visitors[each.project_id, each.visitor_id])) is not None
        }
        before = {each for each, erased_at in named.items() if was_received_before(each, erased_at)}
        known = self._known_before(cursor, {each: at for each, at in named.items() if each not in before})
        return found | dict.fromkeys(before | known, False)

    def _known_before(self, cursor: Cursor, sightings: Mapping[Sighting, int]) -> set[Sighting]:
        """Return those whose session had a row at the moment given, epoch ms."""
        if not sightings:
            return set()
        asked = list(sightings)
        cursor.execute(
            self._queries["known_before"],
            {
                "project_ids": [each.project_id for each in asked],
                "session_ids": [each.session_id for each in asked],
                "moments": list(sightings.values()),
            },
        )
        return {asked[place - 1] for (place,) in cursor}

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
