"""Partitions by day are made while others write and read, and are what their parents are."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

DAY = "2020-02-29"
PARENTS = ("traceflow_events", "session_recording_chunks")


def ensure_day(conninfo: str, parent: str, day: str = DAY) -> object:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT traceflow_parts.ensure_day(%s, %s)", (parent, day)).fetchone()
    assert row is not None
    return row[0]


def test_a_day_is_made_once(database: str) -> None:
    assert [ensure_day(database, parent) for parent in PARENTS] == [True, True]
    assert [ensure_day(database, parent) for parent in PARENTS] == [False, False]


def test_two_who_make_the_same_day_at_once_make_it_once(database: str) -> None:
    waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(database) as first, psycopg.connect(database, autocommit=True) as watcher:
        first.execute("SELECT traceflow_parts.ensure_day('traceflow_events', %s)", (DAY,))
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(ensure_day, database, "traceflow_events")
            ends = time.monotonic() + 20
            while watcher.execute(waiting).fetchone() is None:
                assert time.monotonic() < ends, "the second never waited"
                time.sleep(0.01)
            first.commit()
            assert second.result(timeout=20) is False


def test_a_day_is_made_while_a_copy_and_a_query_are_open(database: str) -> None:
    with psycopg.connect(database) as writer, psycopg.connect(database) as reader:
        writer.execute("SET LOCAL traceflow.sink = 'on'")
        with writer.cursor().copy("COPY traceflow_events (session_id, event_type) FROM STDIN") as copy:
            copy.write_row(("s-1", "click"))
        reader.execute("SELECT count(*) FROM traceflow_events")
        reader.execute("SELECT count(*) FROM session_recording_chunks")
        assert [ensure_day(database, parent) for parent in PARENTS] == [True, True]


def test_a_row_of_a_day_without_a_partition_is_told_from_a_bad_row(database: str) -> None:
    insert = "INSERT INTO traceflow_events (session_id, event_type, \"timestamp\") VALUES ('s-1', 'click', %s)"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO traceflow_sessions (session_id) VALUES ('s-1')")
        with pytest.raises(errors.CheckViolation) as refused:
            connection.execute(insert, (f"{DAY}T12:00Z",))
        assert refused.value.diag.constraint_name is None
        ensure_day(database, "traceflow_events")
        for at in (f"{DAY}T00:00:00Z", f"{DAY}T23:59:59.999999Z"):
            connection.execute(insert, (at,))
        for at in ("2020-02-28T23:59:59.999999Z", "2020-03-01T00:00:00Z"):
            with pytest.raises(errors.CheckViolation):
                connection.execute(insert, (at,))
        counted = connection.execute("SELECT event_count FROM traceflow_sessions").fetchone()
    assert counted == (2,)


def test_a_day_is_one_of_utc_wherever_the_session_is(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET LOCAL timezone = 'Pacific/Kiritimati'")
        connection.execute("SELECT traceflow_parts.ensure_day('traceflow_events', %s)", (DAY,))
        connection.execute("SET LOCAL timezone = 'UTC'")
        bound = connection.execute(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class"
            " WHERE oid = 'traceflow_parts.traceflow_events_20200229'::regclass"
        ).fetchone()
    assert bound == ("FOR VALUES FROM ('2020-02-29 00:00:00+00') TO ('2020-03-01 00:00:00+00')",)


def test_only_what_is_partitioned_by_day_gets_days(database: str) -> None:
    with pytest.raises(errors.WrongObjectType, match="traceflow_sessions is not partitioned by day"):
        ensure_day(database, "traceflow_sessions")


def test_a_new_partition_has_the_indexes_trigger_and_compression_of_its_parent(database: str) -> None:
    ensure_day(database, "traceflow_events")
    compare = (
        "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = c.oid),"
        " (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid AND tgtype & 1 = 1),"
        " (SELECT array_agg((attname, attcompression, attstorage)::text ORDER BY attname) FROM pg_attribute"
        "  WHERE attrelid = c.oid AND attnum > 0), relrowsecurity"
        " FROM pg_class AS c WHERE oid = %s::regclass"
    )
    with psycopg.connect(database) as connection:
        leaf = connection.execute(compare, ("traceflow_parts.traceflow_events_20200229",)).fetchone()
        assert leaf == connection.execute(compare, ("traceflow_events",)).fetchone()


def test_partitions_by_hash_have_the_compression_of_their_parent(database: str) -> None:
    with psycopg.connect(database) as connection:
        kinds = connection.execute(
            "SELECT count(DISTINCT attcompression) FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid"
            " WHERE attname = 'events' AND relname LIKE 'session_recordings%' AND relkind IN ('r', 'p')"
        ).fetchone()
    assert kinds == (1,)


def test_days_ahead_counts_to_the_first_gap(database: str) -> None:
    ahead = "SELECT traceflow_parts.days_ahead('traceflow_events')"
    with psycopg.connect(database) as connection:
        assert connection.execute(ahead).fetchone() == (7,)
        connection.execute(
            "SELECT traceflow_parts.ensure_day('traceflow_events', (now() AT TIME ZONE 'UTC')::date + 9)"
        )
        assert connection.execute(ahead).fetchone() == (7,)
        made = connection.execute(
            "SELECT traceflow_parts.ensure_days(today + 7, today + 9)"
            " FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) AS clock"
        ).fetchone()
        assert made == (3,)
        assert connection.execute(ahead).fetchone() == (9,)


def test_a_day_can_be_detached_while_an_older_query_is_open_elsewhere(database: str) -> None:
    ensure_day(database, "traceflow_events")
    with psycopg.connect(database, autocommit=True) as keeper:
        keeper.execute(
            "ALTER TABLE traceflow_events DETACH PARTITION traceflow_parts.traceflow_events_20200229 CONCURRENTLY"
        )
        keeper.execute("DROP TABLE traceflow_parts.traceflow_events_20200229")
    assert ensure_day(database, "traceflow_events") is True
