"""Hold Postgres against a ledger: every acknowledged event and chunk exactly once, every counter what `count(*)` says.

The first half can be wrong for a while, because storing is asynchronous; `verify` waits for it up to a deadline. The
second half is never wrong for a moment, because counters and rows are written in one transaction.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg

from adapters.postgres import Connection, read_queries
from deploy.load.ledger import Ledger

_POLL_S = 0.5
_ROWS = (
    "missing_events",
    "missing_chunks",
    "repeated_events",
    "repeated_chunks",
    "unexpected_events",
    "unexpected_chunks",
)


class Found(NamedTuple):
    """How many rows are wrong in one way, and some of them."""

    rows: int
    examples: tuple[str, ...] = ()


class WrongCounter(NamedTuple):
    """A number of a session that its rows do not bear out."""

    session_id: str
    counter: str
    stored: int | None
    """None if the session has no row, or the column no value."""
    counted: int | None


@dataclass(frozen=True, slots=True)
class Differences:
    """What does not add up; empty is what is hoped for."""

    rows: Mapping[str, Found]
    """By the name of the query, only those that found something."""
    counters: tuple[WrongCounter, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows or self.counters)

    def lines(self) -> list[str]:
        """Return one sentence for each number that does not add up."""
        said = [
            f"{found.rows} {name.replace('_', ' ')}: {', '.join(found.examples)}" for name, found in self.rows.items()
        ]
        said += [
            f"{c.counter} of session {c.session_id} is {c.stored}, its rows give {c.counted}" for c in self.counters
        ]
        return said


def verify(database_url: str, ledger: Ledger, *, deadline_s: float = 0.0) -> Differences:
    """Compare the database with the ledger, waiting up to `deadline_s` for rows that are still on their way.

    Raises:
        psycopg.Error: the database cannot be asked.
    """
    with open_verifier(database_url, ledger) as verifier:
        ends_at = time.monotonic() + deadline_s
        while verifier.missing() and time.monotonic() < ends_at:
            time.sleep(_POLL_S)
        return verifier.differences()


class Verifier:
    """A connection that holds the ledger in temporary tables."""

    def __init__(self, connection: Connection, ledger: Ledger) -> None:
        self._connection = connection
        self._queries = read_queries("deploy.load", "verification.sql")
        for name in ("make_sessions", "make_events", "make_chunks"):
            connection.execute(self._queries[name])
        self._copy("fill_sessions", ((session_id,) for session_id in _sessions(ledger)))
        self._copy("fill_events", _event_rows(ledger))
        self._copy("fill_chunks", _chunk_rows(ledger))
        connection.execute(self._queries["index_events"])

    def missing(self) -> int:
        """Count acknowledged events and chunks that have no row yet."""
        return self._found("missing_events").rows + self._found("missing_chunks").rows

    def differences(self) -> Differences:
        """Compare everything now."""
        rows = {name: found for name in _ROWS if (found := self._found(name)).rows}
        counters = self._connection.execute(self._queries["wrong_counters"]).fetchall()
        return Differences(rows, tuple(WrongCounter(*row) for row in counters))

    def _found(self, name: str) -> Found:
        row = self._connection.execute(self._queries[name]).fetchone()
        rows, examples = row if row is not None else (0, None)
        return Found(int(rows), tuple(examples or ()))

    def _copy(self, name: str, rows: Iterator[tuple[Any, ...]]) -> None:
        with self._connection.cursor() as cursor, cursor.copy(self._queries[name]) as copy:
            for row in rows:
                copy.write_row(row)


@contextmanager
def open_verifier(database_url: str, ledger: Ledger) -> Iterator[Verifier]:
    """Open a connection for comparisons."""
    with psycopg.connect(database_url, autocommit=True, application_name="traceflow verify") as connection:
        yield Verifier(connection, ledger)


def _sessions(ledger: Ledger) -> list[str]:
    requests = [entry.request for entry in ledger.acknowledged if not entry.quota_limited]
    return sorted({request.session_id for request in requests})


def _event_rows(ledger: Ledger) -> Iterator[tuple[Any, ...]]:
    for events, acknowledged in ((ledger.acknowledged_events(), True), (ledger.unknown_events(), False)):
        for event in events:
            yield event.session_id, event.id, _moment(event.timestamp_ms), acknowledged


def _chunk_rows(ledger: Ledger) -> Iterator[tuple[Any, ...]]:
    for chunks, acknowledged in ((ledger.acknowledged_chunks(), True), (ledger.unknown_chunks(), False)):
        for request in chunks:
            place = request.chunk
            if place is not None:
                yield request.session_id, place.window_id, place.seq, request.event_count, acknowledged


def _moment(timestamp_ms: int) -> datetime:
    seconds, milliseconds = divmod(timestamp_ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)
