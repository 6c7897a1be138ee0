"""Sinks let go of what is kept no longer, and park what comes for it."""

# ruff: noqa: S608 (statements are put together from this file's own constants)

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import sql
from pydantic import SecretStr

from adapters.postgres import Connection, connect
from adapters.retention import BATCH_ROWS
from schemas.connections import DatabaseSettings
from schemas.messages import Finding
from sinks.lifecycle.retention import ApplyRetention
from sinks.metrics import declare_metrics
from tests.integration.sink_bench import (
    NOW_MS,
    PROJECT,
    SinkBench,
    assert_counters_equal_rows,
    copied_database,
    emptied,
    event,
    execute,
    query,
)
from tests.integration.test_sink_role import chunk

DAY_MS = 86_400_000
TODAY = datetime.now(UTC).date()


@pytest.fixture(scope="module")
def shared(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def forever(shared: str) -> str:
    """Give a database without old days that keeps all."""
    for (leaf,) in query(
        shared,
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'traceflow_parts'::regnamespace"
        " AND relkind = 'r' AND relname ~ '_[0-9]{8}$'"
        " AND right(relname, 8) < to_char(traceflow_parts.today() - 8, 'YYYYMMDD')",
    ):
        execute(shared, f"DROP TABLE {leaf}")
    execute(
        shared,
        "UPDATE traceflow_retention SET events_days = NULL, recordings_days = NULL, sessions_days = NULL,"
        " counted_from = traceflow_parts.today()",
    )
    return emptied(shared)


@pytest.fixture
def kept(forever: str) -> str:
    """Give one that keeps events for 20 days, recordings for 15, sessions for 40."""
    execute(forever, "UPDATE traceflow_retention SET events_days = 20, recordings_days = 15, sessions_days = 40")
    return forever


class Round:
    """The chore with what it measures."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.registry = CollectorRegistry()
        self.chore = ApplyRetention(declare_metrics(self.registry), wait_s=0.2)

    def run(self, *, may_go_on: Callable[[], bool] = lambda: True) -> None:
        with connection(self.url) as held:
            self.chore(held, may_go_on=may_go_on)

    def figure(self, name: str, table: str | None = None) -> float | None:
        return self.registry.get_sample_value(f"traceflow_sink_{name}", {"table": table} if table else {})


def connection(url: str) -> Connection:
    return connect(DatabaseSettings(url=SecretStr(url)), application_name="test-retention")


def add_day(url: str, days_ago: int, parent: str = "traceflow_events") -> str:
    """Make a day, whatever is kept, and return its partition's name."""
    day = TODAY - timedelta(days=days_ago)
    name = f"{parent}_{day:%Y%m%d}"
    execute(url, f"CREATE TABLE traceflow_parts.{name} (LIKE {parent} INCLUDING ALL)")
    attach = f"ALTER TABLE {parent} ATTACH PARTITION traceflow_parts.{name} FOR VALUES FROM ('{{}}') TO ('{{}}')"
    execute(url, attach.format(day, day + timedelta(days=1)))
    return name


def add_session(url: str, name: str, *, started: int, ended: int | None = None) -> None:
    """Make a session that began and ended so many days ago."""
    execute(
        url,
        "INSERT INTO traceflow_sessions (session_id, project_id, started_at, ended_at)"
        " VALUES (%s, %s, now() - %s * interval '1 day', now() - %s * interval '1 day')",
        *(name, PROJECT, started, ended),
    )


def sessions(url: str) -> list[str]:
    return [name for (name,) in query(url, "SELECT session_id FROM traceflow_sessions ORDER BY 1")]


def leaves(url: str, parent: str) -> int:
    (count,) = query(url, "SELECT count(*) FROM pg_inherits WHERE inhparent = %s::text::regclass", parent)[0]
    return int(count)


def test_each_table_keeps_its_own_days(kept: str) -> None:
    for days_ago in (14, 15, 16, 20, 21, 40):
        add_day(kept, days_ago)
        add_day(kept, days_ago, "session_recording_chunks")
    rounds = Round(kept)
    rounds.run()
    assert (leaves(kept, "traceflow_events"), leaves(kept, "session_recording_chunks")) == (16 + 4, 16 + 2)
    assert rounds.figure("pruned_partitions_total", "traceflow_events") == 2
    assert rounds.figure("pruned_partitions_total", "session_recording_chunks") == 4
    applied = rounds.figure("retention_applied_timestamp_seconds")
    assert applied == pytest.approx(time.time(), abs=60)


def test_nothing_goes_unless_somebody_said_how_long_it_stays(forever: str) -> None:
    add_day(forever, 900)
    add_session(forever, "old", started=900)
    Round(forever).run()
    assert (leaves(forever, "traceflow_events"), sessions(forever)) == (17, ["old"])


def test_a_session_is_kept_by_its_last_activity(kept: str) -> None:
    add_session(kept, "old", started=42, ended=41)
    add_session(kept, "without an end", started=41)
    add_session(kept, "lives on", started=90, ended=39)
    add_session(kept, "young", started=39)
    rounds = Round(kept)
    rounds.run()
    assert sessions(kept) == ["lives on", "young"]
    assert rounds.figure("pruned_rows_total", "traceflow_sessions") == 2


def test_a_recording_goes_before_its_session(kept: str) -> None:
    for name, days_ago in (("old", 16), ("young", 14)):
        add_session(kept, name, started=days_ago)
        execute(
            kept,
            "INSERT INTO session_recordings (session_id, start_time) VALUES (%s, now() - %s * interval '1 day')",
            *(name, days_ago),
        )
    Round(kept).run()
    assert query(kept, "SELECT session_id FROM session_recordings") == [("young",)]
    assert sessions(kept) == ["old", "young"]


def test_with_a_session_go_its_jobs_and_links_but_no_count_of_an_issue(kept: str) -> None:
    bench = SinkBench(kept, "signals")
    for number, name in enumerate(("old", "young")):
        finding = Finding(
            id=f"0199b2f0-0000-8000-8000-00000000000{number}",
            project_id=PROJECT,
            session_id=name,
            kind="rage_click",
            timestamp=NOW_MS,
            visitor_id=f"visitor of {name}",
            page_url="/a",
        )
        bench.write([bench.message(finding)])
        execute(kept, "INSERT INTO traceflow_ai_queue (session_id, task_type) VALUES (%s, 'summary')", name)
        execute(kept, "INSERT INTO session_recordings (session_id) VALUES (%s)", name)
    bench.close()
    issue = "SELECT occurrence_count, affected_sessions, affected_users FROM traceflow_ux_issues"
    assert query(kept, issue) == [(2, 2, 2)]
    execute(kept, "UPDATE traceflow_sessions SET started_at = now() - interval '41 days' WHERE session_id = 'old'")
    Round(kept).run()
    assert query(kept, issue) == [(2, 2, 2)]
    assert query(kept, "SELECT session_id FROM traceflow_ux_issues") == [(None,)]
    for table in (
        *("traceflow_sessions", "traceflow_ai_queue", "session_recordings"),
        *("traceflow_ux_issue_findings", "traceflow_ux_issue_sessions"),
    ):
        assert query(kept, f"SELECT session_id FROM {table}") == [("young",)], table
    assert query(kept, "SELECT count(*) FROM traceflow_ux_issue_visitors") == [(2,)]


def test_sessions_go_in_batches_each_in_a_transaction_of_its_own(kept: str) -> None:
    execute(
        kept,
        "INSERT INTO traceflow_sessions (session_id, project_id, started_at)"
        " SELECT 's' || n, %s, now() - interval '50 days' - (n / 7) * interval '1 s' FROM generate_series(1, %s) AS n",
        *(PROJECT, 2 * BATCH_ROWS + 50),
    )
    left = [BATCH_ROWS + 50, 50, 0]

    def look() -> bool:
        assert len(sessions(kept)) == left.pop(0)
        return True

    Round(kept).run(may_go_on=look)
    assert left == []


def test_a_process_that_stops_leaves_the_rest_to_the_next(kept: str) -> None:
    for days_ago in (30, 31):
        add_day(kept, days_ago)
    rounds = Round(kept)
    rounds.run(may_go_on=lambda: False)
    assert (leaves(kept, "traceflow_events"), rounds.figure("retention_applied_timestamp_seconds")) == (17, 0)
    rounds.run()
    assert leaves(kept, "traceflow_events") == 16


def test_a_session_that_a_sink_writes_now_is_left_to_the_next_round(kept: str) -> None:
    for name in ("busy", "idle"):
        add_session(kept, name, started=41)
    with psycopg.connect(kept) as sink:
        sink.execute("UPDATE traceflow_sessions SET event_count = 1 WHERE session_id = 'busy'")
        Round(kept).run()
        assert sessions(kept) == ["busy"]
    Round(kept).run()
    assert sessions(kept) == []


def test_a_session_that_goes_while_a_sink_claims_it_is_made_anew(kept: str) -> None:
    """The claim finds the row, waits for its lock, and finds it deleted."""
    add_session(kept, "s1", started=41)
    bench = SinkBench(kept, "recordings")
    with psycopg.connect(kept) as pruner, psycopg.connect(kept, autocommit=True) as watcher:
        pruner.execute("SELECT FROM traceflow_sessions WHERE session_id = 's1' FOR UPDATE")
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(bench.write, [chunk(bench)])
            waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ends = time.monotonic() + 20
            while watcher.execute(waits).fetchone() is None:
                assert time.monotonic() < ends, "the sink never waited"
                time.sleep(0.01)
            pruner.execute("DELETE FROM traceflow_sessions WHERE session_id = 's1'")
            pruner.commit()
            assert writing.result(timeout=20).inserted == 1
    bench.close()
    assert (bench.reasons(), sessions(kept)) == ([], ["s1"])


def test_a_row_of_a_day_that_is_kept_no_longer_is_parked_and_its_day_not_made_again(kept: str) -> None:
    bench = SinkBench(kept, "events")
    late = [event(n, timestamp=NOW_MS - days_ago * DAY_MS) for n, days_ago in ((1, 19), (2, 21), (3, 61))]
    assert bench.write([bench.events(late)]).inserted == 1
    assert bench.reasons() == [("day_not_kept", 0, 1), ("day_not_kept", 0, 2)]
    assert leaves(kept, "traceflow_events") == 17
    assert_counters_equal_rows(kept)
    bench.close()


def test_a_day_that_went_under_a_running_sink_is_not_made_again(kept: str) -> None:
    add_day(kept, 21)
    execute(kept, "UPDATE traceflow_retention SET events_days = 22")
    bench = SinkBench(kept, "events")
    bench.write([bench.events([event(1, timestamp=NOW_MS - 21 * DAY_MS)])])
    execute(kept, "UPDATE traceflow_retention SET events_days = 20")
    Round(kept).run()
    written = bench.write([bench.events([event(2, timestamp=NOW_MS - 21 * DAY_MS), event(3)])])
    assert (written.inserted, bench.reasons()) == (1, [("day_not_kept", 1, 0)])
    assert leaves(kept, "traceflow_events") == 16
    bench.close()


def test_rows_that_come_too_late_do_not_stop_a_sink_however_many_come(kept: str) -> None:
    bench = SinkBench(kept, "events")
    late = [event(n, timestamp=NOW_MS - 30 * DAY_MS) for n in range(500)]
    assert bench.write([bench.events(late)]).parked == 500
    bench.close()


def test_a_late_chunk_of_a_day_that_is_kept_no_longer_makes_no_session(kept: str) -> None:
    bench = SinkBench(kept, "recordings")
    execute(kept, "UPDATE traceflow_retention SET recordings_days = 15")
    record = chunk(bench)
    bench.writer.days.today = lambda: NOW_MS // DAY_MS + 70
    assert bench.write([record]).parked == 1
    assert sessions(kept) == []
    bench.close()


def test_a_day_that_is_still_read_goes_when_its_reader_has_ended(kept: str) -> None:
    names = [add_day(kept, days_ago) for days_ago in (22, 21)]
    rounds = Round(kept)
    with psycopg.connect(kept) as reader:
        reader.execute("SELECT count(*) FROM traceflow_events")
        rounds.run()
        assert query(kept, "SELECT count(*) FROM pg_class WHERE relname = ANY(%s)", names) == [(2,)]
        assert rounds.figure("retention_applied_timestamp_seconds") == 0
    rounds.run()
    assert query(kept, "SELECT count(*) FROM pg_class WHERE relname = ANY(%s)", names) == [(0,)]


def test_only_one_process_lets_go_at_a_time(kept: str) -> None:
    add_day(kept, 21)
    with psycopg.connect(kept) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('traceflow_parts'), hashtext('prune'))")
        Round(kept).run()
        assert leaves(kept, "traceflow_events") == 17
    Round(kept).run()
    assert leaves(kept, "traceflow_events") == 16


def leap(url: str, days: int) -> None:
    """Let the clock be so many days after the day from which retention counted last."""
    execute(url, "UPDATE traceflow_retention SET counted_from = traceflow_parts.today() - %s", days)


def counted_from(url: str) -> int:
    """Return how many days before today retention counts from."""
    ((days,),) = query(url, "SELECT traceflow_parts.today() - counted_from FROM traceflow_retention")
    return int(days)


def test_a_clock_that_leapt_deletes_nothing_and_somebody_is_told(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    leap(kept, 400)
    for days_ago in (419, 420):
        add_day(kept, days_ago)
        add_day(kept, days_ago, "session_recording_chunks")
    add_session(kept, "young by the day that is counted from", started=439)
    rounds = Round(kept)
    rounds.run()
    assert (leaves(kept, "traceflow_events"), leaves(kept, "session_recording_chunks")) == (18, 18)
    assert sessions(kept) == ["young by the day that is counted from"]
    assert (rounds.figure("retention_refused"), rounds.figure("retention_applied_timestamp_seconds")) == (1, 0)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "retention_not_applied" in line]
    assert "traceflow partitions prune --today" in said


def test_rows_are_stored_while_the_clock_is_not_believed(kept: str) -> None:
    """By the clock their day would be kept no longer."""
    leap(kept, 30)
    ((made,),) = query(kept, "SELECT traceflow_parts.ensure_day('traceflow_events', traceflow_parts.today() - 50)")
    assert made


def test_sinks_that_stood_still_for_a_week_catch_up_by_themselves(kept: str) -> None:
    leap(kept, 7)
    for days_ago in (20, 21, 27):
        add_day(kept, days_ago)
    rounds = Round(kept)
    rounds.run()
    assert (leaves(kept, "traceflow_events"), counted_from(kept)) == (17, 0)
    assert rounds.figure("retention_refused") == 0


def test_a_clock_is_not_followed_by_more_than_a_week_nor_back(kept: str) -> None:
    for days in (8, -3):
        leap(kept, days)
        Round(kept).run()
        assert counted_from(kept) == days


def test_where_all_is_kept_a_leap_is_nobodys_business_but_is_not_followed(
    forever: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or what is kept later would be counted from a day that never was."""
    leap(forever, 400)
    rounds = Round(forever)
    rounds.run()
    assert (counted_from(forever), rounds.figure("retention_refused")) == (400, 0)
    assert "retention_not_applied" not in capsys.readouterr().out


def test_a_sinks_own_login_follows_the_clock(login: str, kept: str) -> None:
    leap(kept, 1)
    Round(login).run()
    assert counted_from(kept) == 0


@pytest.fixture
def login(kept: str) -> Iterator[str]:
    """Give the URL of a login that is only a member of traceflow_sink."""
    name, password = f"sink_{secrets.token_hex(4)}", secrets.token_hex(8)
    role = sql.Identifier(name)
    with psycopg.connect(kept, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
        owner.execute(sql.SQL("GRANT traceflow_sink TO {}").format(role))
    yield f"postgresql://{name}:{password}@{kept.partition('@')[2]}"
    with psycopg.connect(kept, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP ROLE {}").format(role))


def test_nothing_goes_by_a_clock_that_another_one_contradicts(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    add_day(kept, 21)
    leap(kept, 1)
    rounds = Round(kept)
    rounds.chore.clock = lambda: time.time() - 2 * 3_600
    rounds.run()
    assert counted_from(kept) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "retention_not_applied" in line]
    assert len(said) == 1
    assert "nothing is dropped by a clock that is wrong" in said[0]
    assert (rounds.figure("retention_refused"), rounds.figure("retention_applied_timestamp_seconds")) == (1, 0)
    assert leaves(kept, "traceflow_events") == 17
    rounds.chore.clock = time.time
    rounds.run()
    assert rounds.figure("retention_refused") == 0
    assert leaves(kept, "traceflow_events") == 16


def test_a_login_that_may_not_says_so_once_and_who_may(
    kept: str, login: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add_day(kept, 21)
    rounds = Round(login)
    for _ in range(3):
        rounds.run()
    ((owner,),) = query(kept, "SELECT current_user::text")
    said = [line for line in capsys.readouterr().out.splitlines() if "retention_not_applied" in line]
    assert len(said) == 1
    assert f"only {owner}, the tables' owner, may drop" in said[0]
    assert rounds.figure("retention_refused") == 1
    assert leaves(kept, "traceflow_events") == 17
    execute(kept, "UPDATE traceflow_retention SET events_days = NULL, recordings_days = NULL, sessions_days = NULL")
    rounds.run()
    assert (rounds.figure("retention_refused"), rounds.figure("retention_applied_timestamp_seconds")) != (1, 0)
