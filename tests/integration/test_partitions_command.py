"""`traceflow partitions`: old days go while others read and write."""

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from adapters.postgres import read_queries
from deploy.command.application import run
from tests.integration.sink_bench import SinkBench, add_project, event, execute, query

Run = Callable[..., tuple[int, Any]]

OLD = ("2020-01-01", "2020-01-02")
PRUNE = ("partitions", "prune", "--keep-events", "90", "--wait", "0.5")


@pytest.fixture
def command(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with --json in a database with two old days; give its exit code and its answer."""
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", database)
    add_project(database)
    execute(database, "INSERT INTO traceflow_sessions (session_id) VALUES ('old')")
    for day in OLD:
        for parent in ("traceflow_events", "session_recording_chunks"):
            execute(database, "SELECT traceflow_parts.ensure_day(%s, %s)", parent, day)
        insert = "INSERT INTO traceflow_events (session_id, event_type, \"timestamp\") VALUES ('old', 'click', %s)"
        execute(database, insert, f"{day}T12:00Z")

    def call(*arguments: str) -> tuple[int, Any]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*arguments, "--json"])
        return code, json.loads(out.getvalue()) if out.getvalue() else err.getvalue()

    return call


def days(database: str, table: str = "traceflow_events") -> dict[str, str]:
    """Return the state of each old day."""
    rows = query(
        database,
        "SELECT to_char(to_date(right(relname, 8), 'YYYYMMDD'), 'YYYY-MM-DD'),"
        " CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'detaching' ELSE 'attached' END"
        " FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE relnamespace = 'traceflow_parts'::regnamespace AND relkind = 'r' AND relname LIKE %s",
        f"{table}_2020%",
    )
    return dict(rows)


def test_every_day_is_listed_with_its_state_and_size(command: Run) -> None:
    code, listed = command("partitions", "list")
    assert code == 0
    assert {row["goes_on"] for row in listed} == {None}
    assert len(listed) == 2 * (16 + len(OLD))
    old = [row for row in listed if row["day"] in OLD and row["table"] == "traceflow_events"]
    assert [(row["day"], row["state"], row["size_bytes"] > 8192) for row in old] == [(d, "attached", True) for d in OLD]


def test_status_counts_the_locks_that_a_question_without_a_time_takes(database: str) -> None:
    ((told, a_connection, connections),) = query(
        database, read_queries("deploy.command", "status.sql")["locks"].decode()
    )
    with psycopg.connect(database) as asking:
        asking.execute("SELECT count(*) FROM traceflow_events WHERE session_id = 's1'")
        ((of_days,),) = asking.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_class AS locked ON locked.oid = relation"
            " WHERE pid = pg_backend_pid() AND locked.relnamespace = 'traceflow_parts'::regnamespace"
        )
    assert told == of_days
    assert told < a_connection * connections


def test_missing_days_are_made_once(command: Run) -> None:
    assert command("partitions", "ensure", "--ahead", "9") == (0, {"made": 4})
    assert command("partitions", "ensure", "--ahead", "9") == (0, {"made": 0})


def test_a_dry_run_says_what_would_go_and_changes_nothing(command: Run, database: str) -> None:
    code, told = command(*PRUNE, "--dry-run")
    assert (code, [row["day"] for row in told["dropped"]], told["left"]) == (0, list(OLD), [])
    assert days(database) == dict.fromkeys(OLD, "attached")


def test_old_days_go_with_their_rows_and_only_those_of_the_named_table(command: Run, database: str) -> None:
    bench = SinkBench(database, "events")
    bench.write([bench.events([event(1)])])
    code, told = command(*PRUNE)
    assert (code, [row["day"] for row in told["dropped"]], told["left"]) == (0, list(OLD), [])
    assert days(database) == {}
    assert days(database, "session_recording_chunks") == dict.fromkeys(OLD, "attached")
    assert query(database, "SELECT session_id FROM traceflow_events") == [("s1",)]
    assert query(database, "SELECT event_count FROM traceflow_sessions WHERE session_id = 'old'") == [(2,)]
    assert command(*PRUNE) == (0, {"dry_run": False, "dropped": [], "deleted": {}, "left": []})
    bench.close()


def test_a_day_that_a_long_query_reads_is_left_half_way_and_goes_later(command: Run, database: str) -> None:
    with psycopg.connect(database) as reader:
        reader.execute("SELECT count(*) FROM traceflow_events")
        code, told = command(*PRUNE)
        assert (code, told["dropped"]) == (1, [])
        assert told["left"] == ["traceflow_events_20200101 is in use by a transaction that began before"]
        assert days(database) == {OLD[0]: "detaching", OLD[1]: "attached"}
        assert query(database, "SELECT count(*) FROM traceflow_events") == [(1,)]
    code, told = command(*PRUNE)
    assert (code, [row["day"] for row in told["dropped"]]) == (0, list(OLD))
    assert days(database) == {}


def test_nobody_waits_while_pruning_waits(command: Run, database: str) -> None:
    bench = SinkBench(database, "events")
    with psycopg.connect(database) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT count(*) FROM traceflow_events")
        pruning = pool.submit(command, *PRUNE[:-1], "60")
        try:
            ends = time.monotonic() + 30
            while days(database)[OLD[0]] != "detaching":
                assert time.monotonic() < ends, "pruning never waited"
                time.sleep(0.01)
            assert bench.write([bench.events([event(1)])]).inserted == 1
            assert query(database, "SELECT traceflow_parts.ensure_day('traceflow_events', '2020-02-01')") == [(True,)]
            assert query(database, "SELECT count(*) FROM traceflow_events") == [(2,)]
            assert not pruning.done()
        finally:
            reader.rollback()
        assert pruning.result(timeout=30)[0] == 0
    assert days(database) == {"2020-02-01": "attached"}
    bench.close()


def test_two_do_not_prune_at_once(command: Run, database: str) -> None:
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('traceflow_parts'), hashtext('prune'))")
        assert command(*PRUNE) == (1, "traceflow: another process prunes this database now\n")
    assert days(database) == dict.fromkeys(OLD, "attached")


def test_a_day_for_which_a_sink_may_make_a_partition_is_not_dropped(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told = command("partitions", "prune", "--keep-recordings", "59")
    assert (code, "up to 60 days back (TRACEFLOW_SINK_OLDEST_DAY)" in told) == (2, True)
    monkeypatch.setenv("TRACEFLOW_SINK_OLDEST_DAY", "30")
    assert command("partitions", "prune", "--keep-recordings", "59", "--dry-run")[0] == 0


def test_without_options_goes_what_is_kept_no_longer_and_for_ever_is_the_default(command: Run, database: str) -> None:
    assert command("partitions", "keep") == (0, {"events": None, "recordings": None, "sessions": None})
    nothing = {"dry_run": False, "dropped": [], "deleted": {}, "left": []}
    assert command("partitions", "prune") == (0, nothing)
    kept = {"events": 30, "recordings": 20, "sessions": 40}
    assert command("partitions", "keep", "--events", "30", "--recordings", "20", "--sessions", "40") == (0, kept)
    execute(database, "UPDATE traceflow_sessions SET started_at = '2020-01-01'")
    code, told = command("partitions", "prune", "--dry-run")
    assert (code, len(told["dropped"]), told["deleted"]) == (0, 4, {"traceflow_sessions": 1})
    assert query(database, "SELECT count(*) FROM traceflow_sessions") == [(1,)]
    code, told = command("partitions", "prune")
    assert (code, len(told["dropped"]), told["deleted"]) == (0, 4, {"traceflow_sessions": 1})
    assert (days(database), query(database, "SELECT count(*) FROM traceflow_sessions")) == ({}, [(0,)])


def test_a_day_is_listed_with_the_day_on_which_it_goes(command: Run) -> None:
    command("partitions", "keep", "--events", "30")
    _, listed = command("partitions", "list")
    goes_on = {row["day"]: row["goes_on"] for row in listed if row["table"] == "traceflow_events"}
    assert goes_on[OLD[0]] == "2020-02-01"
    assert {row["goes_on"] for row in listed if row["table"] == "session_recording_chunks"} == {None}


def test_what_stays_is_changed_one_by_one_and_audited(command: Run, database: str) -> None:
    command("partitions", "keep", "--events", "90", "--recordings", "30", "--sessions", "400")
    assert command("partitions", "keep", "--sessions", "forever")[1] == {
        **{"events": 90, "recordings": 30},
        "sessions": None,
    }
    command("partitions", "keep", "--events", "90")
    changes = "SELECT details FROM traceflow_audit_logs WHERE target_table = 'traceflow_retention' ORDER BY created_at"
    assert query(database, changes) == [
        (
            {
                "events_days": {"old": None, "new": 90},
                "recordings_days": {"old": None, "new": 30},
                "sessions_days": {"old": None, "new": 400},
            },
        ),
        ({"sessions_days": {"old": 400, "new": None}},),
    ]


def test_after_a_leap_of_the_clock_nothing_goes_until_somebody_says_which_day_it_is(
    command: Run, database: str
) -> None:
    command("partitions", "keep", "--events", "30")
    execute(database, "UPDATE traceflow_retention SET counted_from = '2020-01-03'")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    code, told = command("partitions", "prune")
    assert (code, f"clock says {today}, and retention counts from 2020-01-03" in told) == (1, True)
    code, told = command("partitions", "prune", "--today", "2020-02-02")
    assert (code, f"the database's clock says that it is {today}" in told) == (2, True)
    code, told = command("partitions", "prune", "--today", today, "--dry-run")
    assert (code, [row["day"] for row in told["dropped"]]) == (0, list(OLD))
    assert command("partitions", "prune")[0] == 1
    assert days(database) == dict.fromkeys(OLD, "attached")
    assert command("partitions", "prune", "--today", today)[0] == 0
    assert (days(database), command("partitions", "prune")[0]) == ({}, 0)
    audited = "SELECT details FROM traceflow_audit_logs WHERE details ? 'counted_from'"
    assert query(database, audited) == [({"counted_from": {"old": "2020-01-03", "new": today}},)]


@pytest.mark.parametrize(
    ("options", "because"),
    [
        (("--events", "14"), "keep 15 days at least"),
        (("--sessions", "400"), "keep sessions at least as long as events and recordings"),
        (("--events", "90", "--recordings", "30", "--sessions", "89"), "at least as long as events and recordings"),
        (("--events", "soon"), "neither a number of days nor forever: soon"),
    ],
)
def test_what_late_data_needs_and_what_sessions_hold_cannot_be_given_up(
    command: Run, options: tuple[str, ...], because: str
) -> None:
    code, told = command("partitions", "keep", *options)
    assert (code, because in told) == (2, True)
    assert command("partitions", "keep")[1] == {"events": None, "recordings": None, "sessions": None}


@pytest.mark.parametrize(
    "days", ["events_days = 14", "sessions_days = 400", "events_days = 90, recordings_days = 30, sessions_days = 89"]
)
def test_the_table_itself_holds_that_whoever_writes_it(database: str, days: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        execute(database, f"UPDATE traceflow_retention SET {days}")  # noqa: S608 # ours


def test_options_may_be_as_short_as_what_is_kept(command: Run) -> None:
    command("partitions", "keep", "--recordings", "30")
    assert command("partitions", "prune", "--keep-recordings", "30", "--dry-run")[0] == 0
    assert command("partitions", "prune", "--keep-recordings", "29", "--dry-run")[0] == 2
