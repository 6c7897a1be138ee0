"""Events by the hour: at any moment what GROUP BY over the rows of traceflow_events says, whatever came how often."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from adapters.dead_letters import DeadLetterLimit
from adapters.postgres import Cursor
from deploy.replay.tables import Difference, Tables
from ingest_gateway.admission.event_fields import COMMON_EVENT_TYPES
from schemas.ids import finding_id
from schemas.messages import Finding
from sinks.contract.verdicts import NewRows
from sinks.tables.finding_kinds import FINDING_KINDS
from sinks.tables.usage import UsageTable
from tests.integration.sink_bench import (
    HOURS,
    NOW_MS,
    OTHER_PROJECT,
    PROJECT,
    SinkBench,
    add_project,
    assert_counters_equal_rows,
    copied_database,
    emptied,
    event,
    execute,
    query,
)

HOUR_MS = 3_600_000
ODDITIES: list[dict[str, object]] = [
    {},
    {},
    {},
    {"restamped": True},
    {"page_title": "refused by Postgres\x00"},
    {"timestamp": 1_000},
]
"""What is odd about an event; the last is of a day that can have no partition."""
TYPES = ("click", "pageview", "error", "a\ttab", "back\\slash", "ä")


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def url(module_database: str) -> str:
    emptied(module_database)
    add_project(module_database, OTHER_PROJECT)
    return module_database


def at(hours_ago: int, number: int = 0) -> int:
    """Return a time within the hour so many hours before the present one."""
    return (NOW_MS // HOUR_MS - hours_ago) * HOUR_MS + number


def clicks(number: int, *, hours_ago: int, first: int = 1) -> list[dict[str, object]]:
    return [event(first + n, timestamp=at(hours_ago, n)) for n in range(number)]


def hours(url: str) -> list[tuple[int, str, int]]:
    """Return how many hours ago, which type, how many."""
    return [
        (round((at(0) / 1000 - hour.timestamp()) / 3600), event_type, events)
        for _, hour, event_type, events in query(url, HOURS)
    ]


def finding(number: int, kind: str, *, timestamp: int) -> Finding:
    return Finding(
        id=finding_id(project_id=PROJECT, session_id="s1", kind=kind, trigger=str(number)),
        project_id=PROJECT,
        session_id="s1",
        kind=kind,
        timestamp=timestamp,
        severity="low",
        page_url="https://shop.example/",
        evidence={"fingerprint": "f"},
    )


def test_events_and_findings_are_counted_by_the_hour_of_their_time(url: str) -> None:
    events, signals = SinkBench(url, "events"), SinkBench(url, "signals")
    last_of_the_hour = event(90, timestamp=at(2, HOUR_MS - 1), event_type="pageview")
    events.write(
        [events.events([*clicks(3, hours_ago=1), last_of_the_hour]), events.events(clicks(2, hours_ago=0, first=50))]
    )
    signals.write([signals.message(finding(1, "rage_click", timestamp=at(1, 7)))])
    assert hours(url) == [(2, "pageview", 1), (1, "click", 3), (1, "rage_click", 1), (0, "click", 2)]
    for bench in (events, signals):
        bench.close()


def test_whatever_comes_however_often_and_whichever_way_counts_once(url: str) -> None:
    """Two projects, three sinks' workers: repeated, restamped, refused and parked events, late days, findings."""
    rng = random.Random(5)
    unlimited = DeadLetterLimit(max_share=1.0, max_in_a_row=1 << 62)
    benches = [SinkBench(url, "events", partition=part, limit=unlimited) for part in range(2)]
    for turn in range(14):
        bench, records = benches[turn % 2], []
        for _ in range(rng.randrange(1, 5)):
            project = rng.choice((PROJECT, OTHER_PROJECT))
            events = [
                event(
                    number := rng.randrange(1, 400),
                    timestamp=at(number % 5 + 24 * (number % 3), number),
                    event_type=TYPES[number % len(TYPES)],
                )
                | rng.choice(ODDITIES)
                for _ in range(rng.randrange(1, 30))
            ]
            # a session's number tells its project but for some, which are parked
            session = f"{project[0] if rng.random() < 0.9 else 'x'}{rng.randrange(6)}"
            records.append(bench.events(events, session=session, project=project))
        bench.write(records)
        assert_counters_equal_rows(url)
    signals = SinkBench(url, "signals")
    found = [finding(n, ("rage_click", "error", "slow_load")[n % 3], timestamp=at(n % 4, n)) for n in range(20)]
    for _ in range(2):
        signals.write([signals.message(each) for each in found])
    assert_counters_equal_rows(url)
    assert query(
        url, "SELECT count(DISTINCT project_id), count(DISTINCT event_type) > 5 FROM traceflow_event_hours"
    ) == [(2, True)]
    assert benches[0].reasons()
    for bench in (*benches, signals):
        bench.close()


def test_workers_of_one_hour_do_not_wait_for_each_other(url: str) -> None:
    """One stands before its commit, having counted; the other stores the same hour of the same project meanwhile."""
    first, second = SinkBench(url, "events", partition=0), SinkBench(url, "events", partition=1)
    has_counted, may_commit = threading.Event(), threading.Event()

    class Stops(UsageTable):
        def add(self, cursor: Cursor, new: NewRows) -> None:
            super().add(cursor, new)
            has_counted.set()
            assert may_commit.wait(30)

    first.writer.usage = Stops()
    writing = threading.Thread(target=lambda: first.write([first.events(clicks(5, hours_ago=0), session="a")]))
    writing.start()
    try:
        assert has_counted.wait(30)
        second.write([second.events(clicks(3, hours_ago=0, first=100), session="b")])
        assert hours(url) == [(0, "click", 3)]
    finally:
        may_commit.set()
        writing.join()
    assert hours(url) == [(0, "click", 8)]
    for bench in (first, second):
        bench.close()


KILLED = """
import os, signal, sys
from sinks.tables.finding_kinds import FINDING_KINDS
from sinks.tables.usage import UsageTable
from tests.integration.sink_bench import SinkBench, event
class Dies(UsageTable):
    def add(self, cursor, new):
        os.kill(os.getpid(), signal.SIGKILL)
bench = SinkBench(sys.argv[1], "events")
bench.writer.usage = Dies()
bench.write([bench.events([event(n) for n in range(100)])])
"""


def test_a_sink_killed_between_counting_and_its_commit_has_counted_nothing(url: str) -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, url],
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
        cwd=root,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    heir = SinkBench(url, "events")
    heir.write([heir.events([event(n) for n in range(100)])])
    heir.close()
    assert sum(events for _, _, events in hours(url)) == 100
    assert_counters_equal_rows(url)


def test_plain_inserts_and_deletes_are_counted_with_and_without_a_project(url: str) -> None:
    execute(
        url, "INSERT INTO traceflow_sessions (session_id, project_id) VALUES ('mine', %s), ('nobodys', NULL)", PROJECT
    )
    insert = """
    INSERT INTO traceflow_events (session_id, event_type, "timestamp")
    SELECT session_id, event_type, now() - n * '10 min'::interval
    FROM traceflow_sessions, unnest(ARRAY['click', 'error']) AS event_type, generate_series(1, 30) AS n
    """
    execute(url, insert)
    assert sum(events for _, _, events in hours(url)) == 120
    assert_counters_equal_rows(url)
    with pytest.raises(errors.ForeignKeyViolation), psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO traceflow_events (session_id, project_id, event_type) VALUES ('mine', gen_random_uuid(), 'x')"
        )
    execute(
        url, """DELETE FROM traceflow_events WHERE session_id = 'mine' OR "timestamp" < now() - interval '2 hours'"""
    )
    assert query(url, HOURS) == query(
        url,
        """SELECT project_id::text, date_trunc('hour', "timestamp", 'UTC'), event_type, count(*)"""
        " FROM traceflow_events GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    )
    execute(url, "DELETE FROM traceflow_events")
    assert hours(url) == []


def test_hours_outlive_the_events_of_a_day_that_is_dropped(module_database: str, url: str) -> None:
    bench = SinkBench(url, "events")
    old = NOW_MS - 40 * 24 * HOUR_MS
    bench.write([bench.events([event(n, timestamp=old + n) for n in range(1, 4)]), bench.events([event(9)])])
    bench.close()
    before = query(url, HOURS)
    day = datetime.fromtimestamp(old / 1000, UTC)
    execute(module_database, f"DROP TABLE traceflow_parts.traceflow_events_{day:%Y%m%d}")
    assert query(url, HOURS) == before
    assert query(url, "SELECT * FROM traceflow_event_hour_differences()") == []
    assert query(url, "SELECT recount_traceflow_event_hours()") == [(0,)]
    assert query(url, "SELECT sum(events), sum(clicks) FROM traceflow_traffic_by_day WHERE day = %s", day.date()) == [
        (3, 3)
    ]


def test_types_that_clients_make_up_are_counted_together_and_taken_off_again(url: str) -> None:
    bench = SinkBench(url, "events")
    made_up = [event(n, timestamp=at(1, n), event_type=f"own {n}") for n in range(1, 41)]
    for _ in range(2):
        bench.write([bench.events(made_up), bench.events([event(50, timestamp=at(1), event_type="click")])])
    bench.close()
    assert hours(url) == [(1, "(other)", 40), (1, "click", 1)]
    assert query(url, "SELECT count(*) FROM traceflow_event_hour_counts") == [(2,)]
    execute(url, "DELETE FROM traceflow_events WHERE event_type IN ('own 1', 'own 2', 'click')")
    assert hours(url) == [(1, "(other)", 38)]
    assert query(url, "SELECT * FROM traceflow_event_hour_differences()") == []


def test_what_was_counted_under_its_own_name_before_is_found_under_the_common_one(url: str) -> None:
    bench = SinkBench(url, "events")
    bench.write([bench.events([event(n, timestamp=at(1, n), event_type="own") for n in (1, 2, 3)])])
    bench.close()
    execute(url, "UPDATE traceflow_event_hour_counts SET event_type = 'own'")
    execute(url, 'DELETE FROM traceflow_events WHERE "timestamp" = %s', _moment(at(1, 2)))
    assert hours(url) == [(1, "(other)", 2)]
    assert query(url, "SELECT * FROM traceflow_event_hour_differences()") == []


def test_the_types_that_the_gateway_knows_and_findings_have_a_name_of_their_own(url: str) -> None:
    known = sorted(COMMON_EVENT_TYPES | FINDING_KINDS)
    counted = (
        "SELECT traceflow_counted_type(t) FROM unnest(%s::text[]) WITH ORDINALITY AS asked(t, place) ORDER BY place"
    )
    assert [name for (name,) in query(url, counted, [*known, "purchase", "(other)"])] == [*known, "(other)", "(other)"]


def test_hours_that_are_wrong_are_told_and_mended(url: str) -> None:
    bench = SinkBench(url, "events")
    bench.write([bench.events([*clicks(5, hours_ago=3), *clicks(2, hours_ago=2, first=20)])])
    execute(url, "UPDATE traceflow_event_hour_counts SET events = events + 4 WHERE hour < %s", _moment(at(2)))
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("INSERT INTO traceflow_events (session_id, event_type) VALUES ('s1', 'odd')")
    hour = datetime.fromtimestamp(at(3) / 1000, UTC)
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        told = Tables(connection).hours(None)
        assert (
            Difference("traceflow_event_hours", "changed", PROJECT, "", f"{hour:%Y-%m-%dT%H}Z click: 9, rows: 5")
            in told
        )
        assert [each.project_id for each in told] == [PROJECT, ""]
        assert Tables(connection).hours(PROJECT) == told[:1]
    # of these hours alone, then of all
    assert query(url, "SELECT recount_traceflow_event_hours(%s, %s)", _moment(at(3)), _moment(at(2))) == [(1,)]
    assert query(url, "SELECT recount_traceflow_event_hours()") == [(1,)]
    assert query(url, "SELECT * FROM traceflow_event_hour_differences()") == []
    bench.write([bench.events([event(70)])])
    bench.close()


def test_a_recount_beside_writers_changes_nothing_that_is_right(url: str) -> None:
    """Rows and counts of a transaction are seen together: what is right is never taken for wrong."""
    is_done = threading.Event()

    def write(part: int) -> None:
        bench = SinkBench(url, "events", partition=part)
        for turn in range(40):
            number = part * 10_000 + turn * 20 + 1
            bench.write([bench.events(clicks(20, hours_ago=turn % 2, first=number), session=f"s{part}")])
        bench.close()

    writers = [threading.Thread(target=write, args=(part,)) for part in range(2)]
    for writer in writers:
        writer.start()
    mended = Counter[int]()
    while not is_done.is_set():
        if not any(writer.is_alive() for writer in writers):
            is_done.set()
        mended.update(count for (count,) in query(url, "SELECT recount_traceflow_event_hours()"))
    assert set(mended) == {0}
    assert sum(events for _, _, events in hours(url)) == 2 * 40 * 20
    assert_counters_equal_rows(url)


def _moment(epoch_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch_ms)
