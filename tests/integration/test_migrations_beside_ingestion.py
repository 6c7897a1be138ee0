"""Migrations while sinks write and analysts read: nobody fails, nobody waits longer than a file waits for a lock."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from hashlib import sha256

import psycopg
import pytest

from adapters import migrations, partitioned_indexes
from adapters.migrations import MigrationFailed, migrate
from schemas.migrations import Migration
from tests.integration.earlier_version import FILES, RELEASED, migrate_to, new_database, whole_catalog
from tests.integration.sink_bench import execute, query

LOCK_TIMEOUT_S = 0.5
SLOW_MACHINE_S = 1.5
"""What a busy machine may add to a stall."""

BATCH = (
    "SELECT set_config('traceflow.sink', 'on', true)",
    "INSERT INTO traceflow_sessions (session_id, event_count) VALUES ('beside', 1) ON CONFLICT (session_id)"
    " DO UPDATE SET event_count = traceflow_sessions.event_count + 1, updated_at = now()",
    "INSERT INTO session_recordings (session_id) VALUES ('beside') ON CONFLICT (session_id)"
    " DO UPDATE SET updated_at = now()",
    "INSERT INTO session_recording_chunks (session_id, seq, chunk_day, codec, events, raw_size_bytes)"
    " SELECT 'beside', count(*), (now() AT TIME ZONE 'UTC')::date, 'json', '[]', 2 FROM session_recording_chunks",
    "INSERT INTO traceflow_ux_issues (issue_type, page_url) VALUES ('error', 'beside') ON CONFLICT"
    " (project_id, issue_type, md5(page_url), md5(element_selector), fingerprint)"
    " DO UPDATE SET occurrence_count = traceflow_ux_issues.occurrence_count + 1",
    "INSERT INTO traceflow_ux_issue_findings (finding_id, issue_id, session_id, detected_at)"
    " SELECT gen_random_uuid(), id, 'beside', now() FROM traceflow_ux_issues WHERE page_url = 'beside'",
    "INSERT INTO traceflow_sink_offsets (sink, topic, part, next_offset) VALUES ('events', 'beside', 0, 1)"
    " ON CONFLICT (sink, topic, topic_id, part) DO UPDATE SET next_offset = traceflow_sink_offsets.next_offset + 1",
)
"""A transaction of the first release's sinks, but for the COPY: they go on while their database is migrated."""

READ = (
    "SELECT count(*) FROM traceflow_events",
    "SELECT count(*) FROM session_recordings_full",
    "SELECT count(*) FROM traceflow_painful_elements",
)


class Ingestion:
    """A writer that never pauses; counts its batches and how long the longest took."""

    def __init__(self, conninfo: str) -> None:
        self.batches = 0
        self.longest_s = 0.0
        self._ends = threading.Event()
        self._connection = psycopg.connect(conninfo)

    def run(self) -> None:
        with self._connection as connection:
            while not self._ends.is_set():
                begun_s = time.monotonic()
                for statement in BATCH:
                    connection.execute(statement.encode())
                with connection.cursor().copy("COPY traceflow_events (session_id, event_type) FROM STDIN") as copy:
                    copy.write_row(("beside", "click"))
                connection.commit()
                self.batches += 1
                self.longest_s = max(self.longest_s, time.monotonic() - begun_s)

    def end(self) -> None:
        self._ends.set()


@contextmanager
def ingesting(conninfo: str) -> Iterator[Ingestion]:
    """Write for the time of a block; what fails to be written fails the test."""
    ingestion = Ingestion(conninfo)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingestion.run)
        try:
            until(lambda: ingestion.batches > 0 or running.done())
            yield ingestion
        finally:
            ingestion.end()
        running.result(timeout=60)


@contextmanager
def reading(conninfo: str, *, hold_s: float, pause_s: float) -> Iterator[None]:
    """Hold what an analyst's query of some length holds, again and again, for the time of a block."""
    ends = threading.Event()

    def read() -> None:
        with psycopg.connect(conninfo) as connection:
            while not ends.is_set():
                for statement in READ:
                    connection.execute(statement.encode())
                ends.wait(hold_s)
                connection.rollback()
                ends.wait(pause_s)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(read)
        try:
            yield
        finally:
            ends.set()
        running.result(timeout=60)


def until(condition: Callable[[], bool], *, within_s: float = 30) -> None:
    ends_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_s, "it did not happen in time"
        time.sleep(0.005)


def another(statements: str) -> Migration:
    version = FILES[-1].version + 1
    return Migration(version, f"{version:04}_another.sql", statements, sha256(statements.encode()).hexdigest())


@pytest.fixture
def first_release(postgres_server: str) -> Iterator[str]:
    with new_database(postgres_server, f"released_{time.monotonic_ns():x}") as conninfo:
        migrate_to(conninfo, RELEASED)
        yield conninfo


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "PAUSE_S", (0.05, 0.25))


@pytest.mark.usefixtures("_short_pauses")
def test_every_later_file_is_applied_beside_writers_and_long_queries(first_release: str) -> None:
    later = [file.version for file in FILES if file.version > RELEASED]
    with ingesting(first_release) as ingestion, reading(first_release, hold_s=0.8, pause_s=0.2):
        assert [done.version for done in migrate(first_release)] == later
        written = ingestion.batches
        until(lambda: ingestion.batches > written)
    print(f"{ingestion.batches} batches, the longest stall {ingestion.longest_s * 1000:.0f} ms")
    assert ingestion.longest_s < LOCK_TIMEOUT_S + SLOW_MACHINE_S
    counted = [(ingestion.batches,)]
    for counts in (
        "SELECT count(*) FROM traceflow_events WHERE session_id = 'beside'",
        "SELECT event_count FROM traceflow_sessions WHERE session_id = 'beside'",
        "SELECT count(*) FROM session_recording_chunks WHERE session_id = 'beside'",
        "SELECT next_offset FROM traceflow_sink_offsets WHERE topic = 'beside'",
    ):
        assert query(first_release, counts) == counted


def test_a_file_that_never_gets_its_lock_leaves_ingestion_alone_between_tries_and_says_who_is_in_the_way(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "RETRY_FOR_S", 2.0)
    monkeypatch.setattr(migrations, "PAUSE_S", (0.2, 0.3))
    file = another("ALTER TABLE public.traceflow_events ADD COLUMN more TEXT")
    with psycopg.connect(database, application_name="a long report") as reader:
        reader.execute("SELECT count(*) FROM traceflow_events")
        told = r"_another\.sql: .*lock timeout.*\(a long report, \w+\), \d+ s old"
        with ingesting(database) as ingestion, pytest.raises(MigrationFailed, match=told):
            migrate(database, files=[*FILES, file])
    assert ingestion.longest_s < LOCK_TIMEOUT_S + SLOW_MACHINE_S
    assert ingestion.batches > 5


INDEX = another("CREATE INDEX idx_another ON ONLY public.traceflow_events (element_id) WHERE element_id <> '{}'")

PARTS = """
SELECT count(*), count(*) FILTER (WHERE x.indisvalid), bool_and(p.indisvalid)
FROM pg_inherits AS h JOIN pg_index AS p ON p.indrelid = h.inhparent AND p.indexrelid = 'idx_another'::regclass
LEFT JOIN (pg_index AS x JOIN pg_inherits AS a ON a.inhrelid = x.indexrelid AND a.inhparent = 'idx_another'::regclass)
  ON x.indrelid = h.inhrelid
"""


def test_an_index_of_the_events_is_built_beside_ingestion_and_an_open_query(database: str) -> None:
    with ingesting(database) as ingestion, reading(database, hold_s=0.2, pause_s=0.02):
        migrate(database, files=[*FILES, INDEX])
        execute(database, "SELECT traceflow_parts.ensure_day('traceflow_events', '2020-02-29')")
    assert query(database, PARTS) == [(17, 17, True)]
    assert ingestion.longest_s < LOCK_TIMEOUT_S + SLOW_MACHINE_S


def test_a_build_that_was_interrupted_is_made_good_by_the_next_run(database: str) -> None:
    execute(database, INDEX.sql)
    with psycopg.connect(database, autocommit=True) as connection:
        parts = partitioned_indexes.missing(connection)
    assert len(parts) == 16
    leaf, left_over = parts[3].leaf, parts[3].part
    execute(database, f"CREATE INDEX {left_over} ON traceflow_parts.{leaf} (element_id)")
    execute(
        database,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
        f"traceflow_parts.{left_over}",
    )
    migrate(database)
    assert query(database, PARTS) == [(16, 16, True)]
    definition = query(database, "SELECT pg_get_indexdef(%s::regclass)", f"traceflow_parts.{left_over}")
    assert str(definition[0][0]).endswith("(element_id) WHERE (element_id <> '{}'::text)")
    migrate(database)


MIGRATE = "import sys; from adapters.migrations import migrate; migrate(sys.argv[1])"


def test_a_migrator_that_is_killed_again_and_again_arrives_where_one_does_that_is_not(
    postgres_server: str, database: str
) -> None:
    """It is killed while it is busy with the second file, and with one after each third of the others."""
    with new_database(postgres_server, f"killed_{time.monotonic_ns():x}") as conninfo:
        for aim in (1, len(FILES) // 3, len(FILES) * 2 // 3):
            process = subprocess.Popen([sys.executable, "-c", MIGRATE, conninfo])
            until(partial(has_applied, conninfo, aim))
            process.kill()
            process.wait()
        migrate(conninfo)
        assert has_applied(conninfo, len(FILES))
        assert whole_catalog(conninfo) == whole_catalog(database)


def has_applied(conninfo: str, count: int) -> bool:
    return sum(row.state == "applied" for row in migrations.status(conninfo)) >= count
