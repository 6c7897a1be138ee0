"""Put rows into `traceflow_events`, each once, and count them for their sessions.

The fast way presumes that every row is new: sessions are claimed and counted in one statement, and the lines go by COPY
straight into the partitioned table. It holds for all rows or for none, because COPY fails as a whole, so what was
presumed and counted is what was inserted.

The careful way presumes nothing: lines go into a staging table (COPY names the line that it cannot read: what is before
it is kept, the line is parked, the rest goes on), are inserted unless they are there already, and only what was
inserted is counted. Rows that were restamped always go this way, the others when the fast way failed.

A time that a client sent may be believed in one try of a request and not in another, and then the tries have one id and
two times. Whichever comes first is stored: the session remembers that it has a restamped event (`has_restamped`), all
its later rows go the careful way, alone, and their ids are looked for around their times, as those of restamped rows
are. The order of the log decides, not the borders of batches. Other sessions of the batch go the fast way.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import psycopg

from adapters.postgres import Connection, Cursor, read_queries
from schemas.reasons import Reason
from sinks.contract.days import ClosedDays
from sinks.contract.failures import action_of, refusal_of
from sinks.contract.hours import add_hours
from sinks.contract.sink import Parking, Prepared, Stored
from sinks.contract.sqlstates import Action
from sinks.contract.verdicts import Owner, Refusal
from sinks.tables.copy_rows import copy_pieces
from sinks.tables.event_lines import EventLine, EventLines
from sinks.tables.finding_kinds import FINDING_KINDS
from sinks.tables.session_rows import SessionDelta, SessionRows

REACH = "15 days"
"""How far apart two tries of an event may be stored: a client's time is believed for 7 days, and 8 lie between them."""

_LINE = re.compile(r"^COPY [^,]+, \D*(\d+)", re.MULTILINE)
"""The line that COPY's error context names, in whatever language the server speaks."""


_Count = tuple[str, str, int, int]
"""Rows inserted: session, event_type, hour since 1970, how many."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What is left to be stored of an item."""

    item: Prepared[EventLines]
    content: EventLines

    @property
    def owner(self) -> Owner:
        """Return project and session."""
        return self.content.owner


@dataclass(slots=True)
class _Staged:
    """A row on its careful way."""

    part: _Part
    row: EventLine
    near: bool
    """Its id decides whether it is new, not its id and time."""
    refusal: Refusal | None = None


@dataclass(slots=True)
class EventTable:
    """The table `traceflow_events` as the sinks write it."""

    sessions: SessionRows = field(default_factory=SessionRows)
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.tables", "event_rows.sql"))

    def open(self, connection: Connection) -> None:
        """Make the staging table of a new connection."""
        connection.execute(self._queries["create_stage"])

    def store(
        self, cursor: Cursor, items: Sequence[Prepared[EventLines]], *, careful: bool, closed_days: ClosedDays
    ) -> Stored:
        """Store the rows of the items; see `sinks.contract.sink.Sink.store`."""
        stored = Stored()
        parts = [_Part(item, item.content) for item in items if item.content is not None]
        if closed_days:
            parts = _without_closed_days(parts, closed_days, stored)
        near = {part.owner for part in parts if part.content.disbelieved}
        deltas = _deltas(parts, uncounted=None if careful else near)
        owned = self._claim(cursor, deltas, near, stored, careful=careful)
        parts = self._without_lost(cursor, parts, deltas.keys() - owned, stored)
        if not careful:
            copied = [part.content for part in parts if part.owner not in near]
            stored.inserted += self._copy(cursor, copied)
            for content in copied:
                add_hours(stored.hours, content.project_id, content.hours)
        staged = [
            _Staged(part, row, near=row.restamped or part.owner in near)
            for part in parts
            for row in (*(part.content.rows() if careful or part.owner in near else ()), *part.content.restamped)
        ]
        if staged:
            self._store_staged(cursor, staged, stored)
        return stored

    def _claim(
        self, cursor: Cursor, deltas: Mapping[Owner, SessionDelta], near: set[Owner], stored: Stored, *, careful: bool
    ) -> AbstractSet[Owner]:
        """Claim the sessions, count them if their rows can be presumed new, and add to `near` those that are marked."""
        if careful:
            held = self.sessions.claim(cursor, deltas.values(), stored.new, to_count=True)
            counted: set[Owner] = set()
        else:
            counted = self.sessions.count(cursor, deltas.values(), stored.new)
            held = self.sessions.held(cursor, [delta for owner, delta in deltas.items() if owner not in counted])
        near |= {owner for owner, has_restamped in held.items() if has_restamped}
        return counted | held.keys()

    def _without_lost(
        self, cursor: Cursor, parts: list[_Part], lost: AbstractSet[Owner], stored: Stored
    ) -> list[_Part]:
        """Park the records whose sessions are not their projects', and return the others."""
        if not lost:
            return parts
        refusals = self.sessions.refusals(cursor, lost)
        stored.parkings += [Parking(part.item, refusals[part.owner]) for part in parts if part.owner in lost]
        return [part for part in parts if part.owner not in lost]

    def _copy(self, cursor: Cursor, contents: Sequence[EventLines]) -> int:
        rows = sum(len(content.indexes) for content in contents)
        if rows:
            copy_pieces(cursor, self._queries["copy_rows"], (content.lines for content in contents), rows=rows)
        return rows

    def _store_staged(self, cursor: Cursor, staged: Sequence[_Staged], stored: Stored) -> None:
        cursor.execute(self._queries["empty_stage"])
        self._copy_to_stage(cursor, staged)
        counts = self._insert(cursor, "insert_exact", staged, 0, len(staged) - 1)
        if any(each.near for each in staged):
            counts += self._insert(cursor, "insert_near", staged, 0, len(staged) - 1)
        inserted = sum(count for *_, count in counts)
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
            stage_line(place, staged[place].row.line, near=staged[place].near, restamped=staged[place].row.restamped)
            for place in range(start, end)
        )
        with cursor.connection.transaction():
            copy_pieces(cursor, self._queries["copy_staged"], rows, rows=end - start)

    def _insert(self, cursor: Cursor, query: str, staged: Sequence[_Staged], first: int, last: int) -> list[_Count]:
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

    def _count(self, cursor: Cursor, staged: Iterable[_Staged], counts: Iterable[_Count], stored: Stored) -> None:
        """Add what was inserted to the sessions, which this transaction has claimed already, and to its hours."""
        deltas = {delta.session_id: delta for delta in _deltas((each.part for each in staged), uncounted=None).values()}
        for session_id, event_type, hour, count in counts:
            findings = {event_type: count} if event_type in FINDING_KINDS else {}
            deltas[session_id].add(events=count, findings=findings)
            stored.hours[deltas[session_id].project_id, hour, event_type] += count
        counted = [delta for delta in deltas.values() if delta.events]
        self.sessions.count(cursor, counted, stored.new, inserted=True)


def stage_line(place: int, line: bytes, *, near: bool, restamped: bool) -> bytes:
    """Return a COPY line of the staging table for one of the table itself."""
    return b"%d\t%s\t%s\t%s" % (place, REACH.encode() if near else b"0", b"t" if restamped else b"f", line)


def refused_line(context: str | None) -> int | None:
    """Return the line, from 1, that the context of COPY's error names."""
    found = _LINE.search(context or "")
    return int(found[1]) if found else None


def _without_closed_days(parts: Iterable[_Part], closed_days: ClosedDays, stored: Stored) -> list[_Part]:
    """Park the rows whose day can have no partition, and return what is left."""
    kept = []
    for part in parts:
        if part.content.days.isdisjoint(closed_days):
            kept.append(part)
            continue
        content, lost = part.content.without_days(closed_days)
        stored.parkings += [
            Parking(part.item, replace(closed_days[day], index=index)) for index, day in sorted(lost.items())
        ]
        if content is not None:
            kept.append(_Part(part.item, content))
    return kept


def _deltas(parts: Iterable[_Part], *, uncounted: AbstractSet[Owner] | None) -> dict[Owner, SessionDelta]:
    """Return what the parts add to their sessions, but rows to these; None: to any."""
    deltas: dict[Owner, SessionDelta] = {}
    for content in (part.content for part in parts):
        delta = deltas.get(content.owner)
        if delta is None:
            delta = deltas[content.owner] = SessionDelta(
                content.session_id, content.project_id, content.visitor_id, content.started_at
            )
        delta.started_at = min(delta.started_at, content.started_at)
        if uncounted is None:
            # counted once it is inserted
            delta.has_restamped |= content.disbelieved
        elif content.owner not in uncounted:
            delta.add(events=len(content.indexes), findings=content.findings)
    return deltas
