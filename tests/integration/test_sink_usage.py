from collections.abc import Iterator

import orjson
import pytest

from schemas.ids import session_row_id
from schemas.messages import RecordingSummary, SessionSnapshot
from tests.integration.sink_bench import NOW_MS, PROJECT, SinkBench, copied_database, emptied, event, execute, query

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


@pytest.mark.parametrize("order", [["recordings", "sessions"], ["sessions", "recordings"]])
def test_a_recording_is_used_once_whichever_sink_makes_its_row(paid: str, order: list[str]) -> None:
    meta = {
        "v": 1,
        "project_id": PROJECT,
        "session_id": "s1",
        "window_id": "w",
        "received_at": NOW_MS,
        "encoding": "identity",
        "codec": "json",
        "settings": {"version": 1},
    }
    body = orjson.dumps([{"type": 3, "timestamp": NOW_MS, "data": {}}])
    for round_number in range(2):
        for name in order:
            bench = SinkBench(paid, name)
            if name == "sessions":
                bench.write([bench.message(snapshot(round_number))])
            else:
                header = orjson.dumps(meta | {"seq": round_number})
                bench.write([bench.record(body, key=f"{PROJECT}/s1".encode(), kind="chunk", meta=header)])
            bench.close()
    assert used(paid)[1] == ("active", 1, 1)
    assert query(paid, "SELECT event_count FROM session_recordings") == [(2,)]


def test_a_project_without_an_owner_is_used_by_nobody(module_database: str) -> None:
    bench = SinkBench(emptied(module_database), "events")
    assert bench.write([bench.events([event(1)])]).inserted == 1
    bench.close()
