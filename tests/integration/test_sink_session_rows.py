"""Sessions as the sinks share them: two at once, on the same sessions."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from adapters.postgres import Connection
from sinks.contract.verdicts import NewRows
from sinks.tables.session_rows import SessionDelta, SessionRows
from tests.integration.sink_bench import NOW_MS, PROJECT, add_project, copied_database, query

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def url(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        add_project(url, PROJECT)
        yield url


def delta(session_id: str) -> SessionDelta:
    return SessionDelta(session_id, PROJECT, None, NOW_MS, events=1)


def count(connection: Connection, *session_ids: str) -> None:
    """Count an event of each, as the fast way does, in a transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        SessionRows().count(cursor, [delta(session_id) for session_id in session_ids], NewRows())


def test_who_inserts_first_and_who_counts_first_never_wait_for_each_other(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as careful, psycopg.connect(url, autocommit=True) as fast:
        count(fast, "a-known")
        with ThreadPoolExecutor(1) as pool:
            with careful.transaction(), careful.cursor() as cursor:
                sessions = SessionRows()
                both = [delta("b-new"), delta("a-known")]
                sessions.claim(cursor, both, NewRows(), to_count=True)
                other = pool.submit(count, fast, "b-new", "a-known")
                while not query(url, WAITING)[0][0]:
                    assert not other.done()
                sessions.count(cursor, both, NewRows())
            other.result(timeout=20)
    found = query(url, "SELECT session_id, event_count FROM traceflow_sessions ORDER BY session_id")
    assert found == [("a-known", 3), ("b-new", 2)]
