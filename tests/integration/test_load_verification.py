"""The verification itself, on a real database: it finds each kind of difference, and none where there is none."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import psycopg
import pytest

from deploy.load.ledger import Acknowledged, Ledger
from deploy.load.request import ChunkPlace, ExpectedEvent, SessionRequest
from deploy.load.verification import Differences, Found, WrongCounter, verify

PROJECT = "3f0c1b52-6f0d-4a3c-9c1e-2b7a5d8e4f10"
AT_MS = 1_795_373_461_472
FINDING = str(uuid.uuid5(uuid.UUID(PROJECT), "a finding"))
NOTHING = Differences({})

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as opened:
        opened.execute("INSERT INTO traceflow_projects (id, name) VALUES (%s, 'p')", (PROJECT,))
        for table in ("traceflow_events", "session_recording_chunks"):
            opened.execute("SELECT traceflow_parts.ensure_day(%s::regclass, '2026-11-22')", (f"public.{table}",))
        opened.execute("INSERT INTO traceflow_sessions (session_id, project_id) VALUES ('s1', %s)", (PROJECT,))
        yield opened


def batch(*kinds: str) -> SessionRequest:
    events = [{"event_type": kind, "timestamp": AT_MS + n} for n, kind in enumerate(kinds)]
    return SessionRequest("s1", "agent", partial(orjson.dumps, {"session_id": "s1", "events": events}), len(kinds))


def chunk(seq: int) -> SessionRequest:
    return SessionRequest("s1", "agent", partial(bytes, b"[{}]"), 1, ChunkPlace("w", seq, "v"))


def ledger_of(*requests: SessionRequest, unknown: tuple[SessionRequest, ...] = ()) -> Ledger:
    entries = [Acknowledged(request, frozenset(), quota_limited=False) for request in requests]
    return Ledger(PROJECT, acknowledged=entries, unknown=list(unknown))


def store_events(connection: Connection, request: SessionRequest) -> list[ExpectedEvent]:
    expected = request.expected_events(PROJECT)
    for event, sent in zip(expected, orjson.loads(request.render())["events"], strict=True):
        store(connection, event.id, sent["event_type"], event.timestamp_ms)
    return expected


def store(connection: Connection, id_: str, kind: str, at_ms: int = AT_MS) -> None:
    connection.execute(
        "INSERT INTO traceflow_events (id, session_id, event_type, timestamp) "
        "VALUES (%s, 's1', %s, to_timestamp(%s / 1000.0))",
        (id_, kind, at_ms),
    )


def store_chunk(connection: Connection, seq: int, *, events: int = 1, day: str = "2026-11-22") -> None:
    connection.execute("SELECT traceflow_parts.ensure_day('public.session_recording_chunks'::regclass, %s)", (day,))
    connection.execute(
        "INSERT INTO session_recording_chunks (session_id, window_id, seq, chunk_day, codec, events, event_count, "
        "raw_size_bytes) VALUES ('s1', 'w', %s, %s, 'json', '[{}]', %s, 4)",
        (seq, day, events),
    )


def test_nothing_differs_where_everything_is_stored_once(database: str, connection: Connection) -> None:
    request = batch("click", "error", "pageview")
    store_events(connection, request)
    store(connection, FINDING, "rage_click")
    store_chunk(connection, 0)
    assert verify(database, ledger_of(request, chunk(0))) == NOTHING


@pytest.mark.usefixtures("connection")
def test_acknowledged_events_and_chunks_without_a_row_are_missing(database: str) -> None:
    request = batch("click")
    found = verify(database, ledger_of(request, chunk(0)))
    (event,) = request.expected_events(PROJECT)
    assert found.rows == {
        "missing_events": Found(1, (f"{event.id} of s1",)),
        "missing_chunks": Found(1, ("0 of s1",)),
    }


def test_a_row_at_another_time_is_not_the_event(database: str, connection: Connection) -> None:
    request = batch("click")
    store(connection, request.expected_events(PROJECT)[0].id, "click", AT_MS + 1)
    assert set(verify(database, ledger_of(request)).rows) == {"missing_events"}


def test_a_chunk_that_lost_events_is_missing(database: str, connection: Connection) -> None:
    store_chunk(connection, 0, events=2)
    assert set(verify(database, ledger_of(chunk(0))).rows) == {"missing_chunks"}


def test_one_event_or_chunk_in_two_rows_is_repeated(database: str, connection: Connection) -> None:
    request = batch("click")
    (event,) = store_events(connection, request)
    store(connection, event.id, "click", AT_MS + 5)
    store_chunk(connection, 0)
    store_chunk(connection, 0, day="2026-11-23")
    assert verify(database, ledger_of(request, chunk(0))).rows == {
        "repeated_events": Found(1, (f"{event.id} of s1",)),
        "repeated_chunks": Found(1, ("0 of s1",)),
    }


def test_rows_that_nobody_sent_are_unexpected_and_findings_are_not(database: str, connection: Connection) -> None:
    request = batch("click")
    store_events(connection, request)
    stranger = str(uuid.uuid4())
    store(connection, stranger, "click")
    store(connection, FINDING, "dead_click")
    store_chunk(connection, 7)
    assert verify(database, ledger_of(request)).rows == {
        "unexpected_events": Found(1, (f"click {stranger} of s1",)),
        "unexpected_chunks": Found(1, ("7 of s1",)),
    }


def test_what_was_never_answered_may_be_there_or_not(database: str, connection: Connection) -> None:
    stored, lost = batch("click", "scroll"), batch("custom")
    store_events(connection, stored)
    store_chunk(connection, 1)
    ledger = ledger_of(chunk(1), unknown=(stored, lost, chunk(2)))
    assert verify(database, ledger) == NOTHING


def test_counters_that_the_rows_do_not_bear_out_are_named(database: str, connection: Connection) -> None:
    request = batch("click", "error")
    store_events(connection, request)
    connection.execute("UPDATE traceflow_sessions SET event_count = 3, finding_counts = '{}'")
    found = verify(database, ledger_of(request))
    score = connection.execute("SELECT frustration_score FROM traceflow_sessions").fetchone()
    assert score is not None
    assert found.counters == (
        WrongCounter("s1", "event_count", 3, 2),
        WrongCounter("s1", "finding_counts.error", 0, 1),
        WrongCounter("s1", "frustration_score", score[0], 0),
    )
    assert found.lines()[0] == "event_count of session s1 is 3, its rows give 2"


@pytest.mark.usefixtures("connection")
def test_a_session_without_a_row_is_named(database: str) -> None:
    request = replace(batch("click"), session_id="s2")
    found = verify(database, ledger_of(request))
    assert WrongCounter("s2", "event_count", None, 0) in found.counters
