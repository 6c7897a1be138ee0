import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import psycopg
import pytest

from deploy.runtime.ports import free_port
from schemas import topics as topics_declared
from schemas.ids import session_key, session_row_id
from schemas.messages import RecordingSummary, SessionSnapshot
from sinks.commit.writer import Step
from tests.integration.sink_bench import NOW_MS, PROJECT, SinkBench, copied_database, emptied, event, execute, query
from tests.integration.sink_system import Log, environment, running, until

ROOT = Path(__file__).parents[2]
OWNER = "99999999-9999-4999-8999-999999999999"


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def paid(module_database: str) -> str:
    database = emptied(module_database)
    execute(database, "INSERT INTO auth.users (id) VALUES (%s)", OWNER)
    execute(database, "UPDATE traceflow_projects SET owner_id = %s", OWNER)
    for status, age in (("active", 0), ("active", 9), ("cancelled", -1)):
        execute(
            database,
            "INSERT INTO traceflow_subscriptions (user_id, status, created_at)"
            " VALUES (%s, %s, now() - %s * interval '1 day')",
            OWNER,
            status,
            age,
        )
    return database


def used(url: str) -> list[tuple[object, ...]]:
    return query(
        url, "SELECT status, sessions_used, recordings_used FROM traceflow_subscriptions ORDER BY created_at DESC"
    )


def test_a_session_is_used_once_by_the_latest_subscription_that_is_active(paid: str) -> None:
    bench = SinkBench(paid, "events")
    bench.write([bench.events([event(1)]), bench.events([event(2)], session="s2"), bench.events([event(3)])])
    bench.write([bench.events([event(1)]), bench.events([event(2)], session="s2")])
    bench.write([bench.events([event(4)], session="s3"), bench.events([event(5)])])
    bench.close()
    assert used(paid) == [("cancelled", 0, 0), ("active", 3, 0), ("active", 0, 0)]


def snapshot(version: int) -> SessionSnapshot:
    return SessionSnapshot(
        id=session_row_id(PROJECT, "s1"),
        project_id=PROJECT,
        session_id="s1",
        version=version,
        life=0,
        started_at=NOW_MS,
        ended_at=NOW_MS,
        duration_ms=0,
        recording=RecordingSummary(start_time=NOW_MS, end_time=NOW_MS, duration_ms=0, event_count=1, page_count=1),
    )


def chunk(session: str, seq: int) -> tuple[bytes, bytes, bytes]:
    """Return key, body and metadata of a recording chunk."""
    meta = {
        "v": 1,
        "project_id": PROJECT,
        "session_id": session,
        "window_id": "w",
        "seq": seq,
        "received_at": NOW_MS,
        "encoding": "identity",
        "codec": "json",
        "settings": {"version": 1},
    }
    return (
        session_key(PROJECT, session),
        orjson.dumps([{"type": 3, "timestamp": NOW_MS, "data": {}}]),
        orjson.dumps(meta),
    )


@pytest.mark.parametrize("order", [["recordings", "sessions"], ["sessions", "recordings"]])
def test_a_recording_is_used_once_whichever_sink_makes_its_row(paid: str, order: list[str]) -> None:
    for round_number in range(2):
        for name in order:
            bench = SinkBench(paid, name)
            if name == "sessions":
                bench.write([bench.message(snapshot(round_number))])
            else:
                key, body, meta = chunk("s1", round_number)
                bench.write([bench.record(body, key=key, kind="chunk", meta=meta)])
            bench.close()
    assert used(paid)[1] == ("active", 1, 1)
    assert query(paid, "SELECT event_count FROM session_recordings") == [(2,)]


def test_a_project_without_an_owner_is_used_by_nobody(module_database: str) -> None:
    bench = SinkBench(emptied(module_database), "events")
    assert bench.write([bench.events([event(1)])]).inserted == 1
    bench.close()


# The billing period


def set_period(database: str, *, start: datetime, end: datetime) -> None:
    """Let the subscription that pays have this period."""
    execute(
        database,
        "UPDATE traceflow_subscriptions SET current_period_start = %s, current_period_end = %s, usage_since = %s"
        " WHERE status = 'active'",
        start,
        end,
        start,
    )


USED_AND_ROWS = """
SELECT may.sessions_used, (SELECT count(*) FROM traceflow_sessions WHERE created_at >= period.begin),
       may.recordings_used, (SELECT count(*) FROM session_recordings WHERE created_at >= period.begin)
FROM traceflow_projects AS project, traceflow_entitlements(project.owner_id) AS may,
     coalesce(may.period_start, '-infinity') AS period(begin)
"""


def used_in_period(database: str) -> tuple[int, int]:
    """Hold that what is used is what was made in the present period; return it: sessions, recordings."""
    ((sessions, session_rows, recordings, recording_rows),) = query(database, USED_AND_ROWS)
    assert (sessions, recordings) == (session_rows, recording_rows)
    return sessions, recordings


def test_a_batch_that_is_open_when_the_period_ends_counts_where_its_rows_were_made(paid: str) -> None:
    border = datetime.now(UTC) + timedelta(seconds=1)
    set_period(paid, start=border - timedelta(days=30), end=border)
    open_before, quick = SinkBench(paid, "events"), SinkBench(paid, "events", partition=1)
    quick.write([quick.events([event(1)], session="before")])
    assert used_in_period(paid) == (1, 0)

    def while_it_is_open(step: Step) -> None:
        if step is Step.ROWS_STORED:
            until(lambda: datetime.now(UTC) > border)
            quick.write([quick.events([event(2)], session="after")])

    open_before.on_step = while_it_is_open
    open_before.write([open_before.events([event(3)], session="open")])
    open_before.on_step = lambda _step: None
    open_before.write([open_before.events([event(4)], session="next"), open_before.events([event(5)], session="open")])
    open_before.close()
    quick.close()
    assert used_in_period(paid) == (2, 0)
    assert query(paid, "SELECT count(*) FROM traceflow_sessions") == [(4,)]
    assert query(paid, "SELECT current_period_start FROM traceflow_subscriptions WHERE sessions_used > 0") == [
        (border,)
    ]


KILLED = """
import os, signal, sys
from sinks.commit.writer import Step
from tests.integration.sink_bench import SinkBench, event
bench = SinkBench(sys.argv[1], "events")
def die(step):
    if step.name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
bench.on_step = die
bench.write([bench.events([event(n)], session=f"s{n}") for n in range(9)])
"""


@pytest.mark.parametrize("step", [Step.LETTERS_WRITTEN, Step.COMMITTED], ids=lambda step: step.name)
def test_a_sink_killed_before_or_after_its_commit_opens_the_period_once_and_counts_once(paid: str, step: Step) -> None:
    end = datetime.now(UTC) - timedelta(days=1)
    set_period(paid, start=end - timedelta(days=30), end=end)
    execute(paid, "UPDATE traceflow_subscriptions SET sessions_used = 400 WHERE status = 'active'")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, paid, step.name],
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert used_in_period(paid) == ((9, 0) if step is Step.COMMITTED else (0, 0))
    heir = SinkBench(paid, "events")
    for sessions in (9, 10) if step is Step.LETTERS_WRITTEN else (10,):
        heir.write([heir.events([event(n)], session=f"s{n}") for n in range(sessions)])
    heir.close()
    assert used_in_period(paid) == (10, 0)


def test_workers_that_are_killed_while_the_period_ends_count_every_session_once(
    kafka: str, topics: str, paid: str, tmp_path: Path
) -> None:
    settings = environment(kafka=kafka, prefix=topics, database=paid, batch_rows=20)
    log = Log(settings)
    environ = {
        **os.environ,
        "TRACEFLOW_KAFKA_BOOTSTRAP": kafka,
        "TRACEFLOW_DATABASE_URL": paid,
        "TRACEFLOW_TOPIC_PREFIX": topics,
        "TRACEFLOW_ADMIN_PORT": str(free_port()),
        "TRACEFLOW_SINK_BATCH_ROWS": "20",
    }
    border = datetime.now(UTC) + timedelta(days=1)
    set_period(paid, start=border - timedelta(days=30), end=border)
    sent = 0

    def send(sessions: int) -> None:
        nonlocal sent
        for n in range(sent, sent + sessions):
            for twice in range(2):
                log.events([event(n), event(100_000 + 2 * n + twice)], session=f"s{n}")
            if n % 3 == 0:
                key, body, meta = chunk(f"s{n}", 0)
                log.send(topics_declared.RECORDINGS, key, body, kind="chunk", meta=meta)
        log.flush()
        sent += sessions

    with ExitStack() as stack:
        output = stack.enter_context((tmp_path / "killed.out").open("wb"))
        killed = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker", "sink", "--kill", "LETTERS_WRITTEN"],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=output,
        )
        stack.callback(killed.kill)
        sinks = [stack.enter_context(running(name, settings)) for name in ("events", "recordings")]
        until(lambda: all(sink.loop.ready for sink in sinks))
        while killed.poll() is None:
            send(5)
            time.sleep(0.2)
        assert killed.returncode == -signal.SIGKILL
        # the partitions of the dead are still nobody's; the others go on over the border
        border = datetime.now(UTC) + timedelta(seconds=0.5)
        set_period(paid, start=border - timedelta(days=30), end=border)
        before = query(paid, "SELECT count(*) FROM traceflow_sessions")[0][0]
        while datetime.now(UTC) < border + timedelta(seconds=0.5):
            send(5)
            time.sleep(0.05)
        until(lambda: query(paid, "SELECT count(*) FROM traceflow_sessions") == [(sent,)])
        until(lambda: query(paid, "SELECT count(*) FROM session_recordings") == [((sent + 2) // 3,)])
    sessions, recordings = used_in_period(paid)
    assert 0 < sessions <= sent - before
    assert recordings > 0


def test_what_is_asked_at_the_same_moment_never_spends_more_than_there_is(paid: str) -> None:
    execute(paid, "UPDATE traceflow_subscriptions SET ai_credits_limit = 50")
    execute(
        paid,
        "INSERT INTO traceflow_user_features (user_id, feature_id, usage_limit) VALUES (%s, 'heatmaps', 30)",
        OWNER,
    )
    asked = "SELECT traceflow_use_ai_credits(%s, 3), traceflow_use_feature(%s, 'heatmaps', 2)"

    def spend(_: int) -> list[tuple[bool, bool]]:
        with psycopg.connect(paid, autocommit=True) as connection:
            return [tuple(connection.execute(asked, (OWNER, OWNER)).fetchall()[0]) for _ in range(10)]

    with ThreadPoolExecutor(4) as threads:
        answers = [answer for answers in threads.map(spend, range(4)) for answer in answers]
    assert [sum(given) for given in zip(*answers, strict=True)] == [16, 15]
    assert query(paid, "SELECT max(ai_credits_used) FROM traceflow_subscriptions") == [(48,)]
    assert query(paid, "DELETE FROM traceflow_user_features RETURNING current_usage") == [(30,)]
