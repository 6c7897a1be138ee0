"""Put rows into `traceflow_events`, each once, and count them for their sessions.

The fast way presumes that every row is new: sessions are claimed and counted in one statement, and the lines go by COPY
straight into the partitioned table. It holds for all rows or for none, because COPY fails as a whole, so what was
presumed and counted is what was inserted.

The careful way presumes nothing: lines go into a staging table (COPY names the line that it cannot read: what is before
it is kept, the line is parked, the rest goes on), are inserted unless they are there already, and only what was
inserted is counted. Rows that were restamped always go this way, the others when the fast way failed.
"""

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import psycopg

from adapters.postgres import Connection, Cursor, read_queries
from schemas.reasons import Reason
from sinks.contract import Parking, Prepared, Stored
from sinks.copy_rows import copy_pieces
from sinks.event_lines import EventLine, EventLines
from sinks.failures import action_of, refusal_of
from sinks.finding_kinds import FINDING_KINDS
from sinks.session_rows import SessionDelta, SessionRows
from sinks.sqlstates import Action
from sinks.verdicts import Owner, Refusal

RESTAMPED_REACH = "8 days"
"""Longer than the window in which a client's time is believed, so that a retry of a restamped event finds the first."""

_LINE = re.compile(r"^COPY [^,]+, \D*(\d+)", re.MULTILINE)
"""The line that COPY's error context names, in whatever language the server speaks."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What is left to be stored of an item."""

    item: Prepared[EventLines]
    content: EventLines


@dataclass(slots=True)
class _Staged:
    """A row on its careful way."""

    part: _Part
    row: EventLine
    refusal: Refusal | None = None


@dataclass(slots=True)
class EventTable:
    """The table `traceflow_events` as the sinks write it."""

    sessions: SessionRows = field(default_factory=SessionRows)
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks", "event_rows.sql"))

    def open(self, connection: Connection) -> None:
        """Make the staging table of a new connection."""
        connection.execute(self._queries["create_stage"])

    def store(
        self, cursor: Cursor, items: Sequence[Prepared[EventLines]], *, careful: bool, closed_days: AbstractSet[int]
    ) -> Stored:
        """Store the rows of the items; see `sinks.contract.Sink.store`."""
        stored = Stored()
        parts = [_Part(item, item.content) for item in items if item.content is not None]
        if closed_days:
            parts = _without_closed_days(parts, closed_days, stored)
        deltas = _deltas((part.content for part in parts), counted=not careful)
        if careful:
            owned = self.sessions.claim(cursor, deltas.values(), stored.new, to_count=True)
        else:
            owned = self.sessions.count(cursor, deltas.values(), stored.new)
        parts = self._without_lost(cursor, parts, deltas.keys() - owned, stored)
        if careful:
            staged = [_Staged(part, row) for part in parts for row in (*part.content.rows(), *part.content.restamped)]
        else:
            staged = [_Staged(part, row) for part in parts for row in part.content.restamped]
            stored.inserted += self._copy(cursor, [part.content for part in parts])
        if staged:
            self._store_staged(cursor, staged, stored)
        return stored

    def _without_lost(
        self, cursor: Cursor, parts: list[_Part], lost: AbstractSet[Owner], stored: Stored
    ) -> list[_Part]:
        """Park the records whose sessions are not their projects', and return the others."""
        if not lost:
            return parts
        refusals = self.sessions.refusals(cursor, lost)
        stored.parkings += [
            Parking(part.item, refusals[part.content.owner]) for part in parts if part.content.owner in lost
        ]
        return [part for part in parts if part.content.owner not in lost]

    def _copy(self, cursor: Cursor, contents: Sequence[EventLines]) -> int:
        rows = sum(len(content.indexes) for content in contents)
        if rows:
            copy_pieces(cursor, self._queries["copy_rows"], (content.lines for content in contents), rows=rows)
        return rows

    def _store_staged(self, cursor: Cursor, staged: Sequence[_Staged], stored: Stored) -> None:
        cursor.execute(self._queries["empty_stage"])
        self._copy_to_stage(cursor, staged)
        counts = self._insert(cursor, "insert_exact", staged, 0, len(staged) - 1)
        if any(each.row.restamped for each in staged):
            counts += self._insert(cursor, "insert_restamped", staged, 0, len(staged) - 1)
        inserted = sum(count for _, _, count in counts)
        if inserted < sum(each.refusal is None for each in staged):
            self._mark_taken(cursor, staged)
        parkings = [Parking(each.part.item, each.refusal) for each in staged if each.refusal is not None]
        stored.inserted += inserted
        stored.duplicates += len(staged) - inserted - len(parkings)
        stored.parkings += parkings
        self._count(cursor, staged, counts, stored)

    def _copy_to_stage(self, cursor: Cursor, staged: Sequence[_Staged]) -> None:
        """Fill the staging table; a line that cannot be read is refused and left out."""
        start = 0
        while start < len(staged):
            try:
                self._copy_run(cursor, staged, start, len(staged))
                return
            except psycopg.Error as error:
                line = refused_line(error.diag.context)
                if action_of(error) is not Action.ISOLATE or line is None or start + line > len(staged):
                    raise
                bad = start + line - 1
                staged[bad].refusal = refusal_of(error, index=staged[bad].row.index)
            self._copy_run(cursor, staged, start, bad)
            start = bad + 1

    def _copy_run(self, cursor: Cursor, staged: Sequence[_Staged], start: int, end: int) -> None:
        if start == end:
            return
        rows = (
            b"%d\t%s\t%s"
            % (place, RESTAMPED_REACH.encode() if staged[place].row.restamped else b"0", staged[place].row.line)
            for place in range(start, end)
        )
        with cursor.connection.transaction():
            copy_pieces(cursor, self._queries["copy_staged"], rows, rows=end - start)

    def _insert(
        self, cursor: Cursor, query: str, staged: Sequence[_Staged], first: int, last: int
    ) -> list[tuple[str, str, int]]:
        """Insert the places from first to last; a row that fails there is found by halving and refused."""
        try:
            with cursor.connection.transaction():
                cursor.execute(self._queries[query], {"first": first, "last": last})
                return cursor.fetchall()
        except psycopg.Error as error:
            if action_of(error) is not Action.ISOLATE:
                raise
            if first == last:
                staged[first].refusal = refusal_of(error, index=staged[first].row.index)
                return []
        middle = (first + last) // 2
        return self._insert(cursor, query, staged, first, middle) + self._insert(
            cursor, query, staged, middle + 1, last
        )

    def _mark_taken(self, cursor: Cursor, staged: Sequence[_Staged]) -> None:
        cursor.execute(self._queries["taken"])
        for (place,) in cursor:
            if staged[place].refusal is None:
                staged[place].refusal = Refusal(
                    Reason.EVENT_ID_TAKEN, "another session holds an event of this id", index=staged[place].row.index
                )

    def _count(
        self, cursor: Cursor, staged: Iterable[_Staged], counts: Iterable[tuple[str, str, int]], stored: Stored
    ) -> None:
        """Add what was inserted to the sessions, which this transaction has claimed already."""
        deltas = {
            delta.session_id: delta for delta in _deltas((each.part.content for each in staged), counted=False).values()
        }
        for session_id, event_type, count in counts:
            findings = {event_type: count} if event_type in FINDING_KINDS else {}
            deltas[session_id].add(events=count, findings=findings)
        self.sessions.count(cursor, [delta for delta in deltas.values() if delta.events], stored.new)


def refused_line(context: str | None) -> int | None:
    """Return the line, from 1, that the context of COPY's error names."""
    found = _LINE.search(context or "")
    return int(found[1]) if found else None


def _without_closed_days(parts: Iterable[_Part], closed_days: AbstractSet[int], stored: Stored) -> list[_Part]:
    """Park the rows whose day can have no partition, and return what is left."""
    kept = []
    for part in parts:
        if part.content.days.isdisjoint(closed_days):
            kept.append(part)
            continue
        content, lost = part.content.without_days(closed_days)
        refused = "its day lies too far from today to have a partition"
        stored.parkings += [Parking(part.item, Refusal(Reason.ROW_REFUSED, refused, index)) for index in lost]
        if content is not None:
            kept.append(_Part(part.item, content))
    return kept


def _deltas(contents: Iterable[EventLines], *, counted: bool) -> dict[Owner, SessionDelta]:
    deltas: dict[Owner, SessionDelta] = {}
    for content in contents:
        delta = deltas.get(content.owner)
        if delta is None:
            delta = deltas[content.owner] = SessionDelta(
                content.session_id, content.project_id, content.visitor_id, content.started_at
            )
        delta.started_at = min(delta.started_at, content.started_at)
        if counted:
            delta.add(events=len(content.indexes), findings=content.findings)
    return deltas
