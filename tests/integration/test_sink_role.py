"""The sinks work with the rights of the role traceflow_sink, reached by a login that is only its member."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql

from schemas.ids import session_row_id
from schemas.messages import AiJob, Finding, RecordingSummary, SessionSnapshot
from sinks.commit.writer import Step
from sinks.repair.restore import SinkRestore
from sinks.settings import SinkSettings
from tests.integration.sink_bench import NOW_MS, PROJECT, SinkBench, add_project, contents, event, execute, query
from tests.integration.sink_system import environment

OWNER = "99999999-9999-4999-8999-999999999999"
SETTINGS = SinkSettings(role="traceflow_sink")


@pytest.fixture
def login(database: str) -> Iterator[str]:
    """Give the URL of a login role that may nothing by itself."""
    add_project(database)
    execute(database, "INSERT INTO auth.users (id) VALUES (%s)", OWNER)
    execute(database, "UPDATE traceflow_projects SET owner_id = %s", OWNER)
    execute(database, "INSERT INTO traceflow_subscriptions (user_id) VALUES (%s)", OWNER)
    name, password = f"sink_{secrets.token_hex(4)}", secrets.token_hex(8)
    role = sql.Identifier(name)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
        connection.execute(sql.SQL("GRANT traceflow_sink TO {}").format(role))
    tail = database.partition("@")[2]
    yield f"postgresql://{name}:{password}@{tail}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def snapshot() -> SessionSnapshot:
    summary = RecordingSummary(start_time=NOW_MS, end_time=NOW_MS, duration_ms=0, event_count=1, page_count=1)
    return SessionSnapshot(
        id=session_row_id(PROJECT, "s1"),
        project_id=PROJECT,
        session_id="s1",
        version=1,
        life=0,
        started_at=NOW_MS,
        ended_at=NOW_MS,
        duration_ms=0,
        closed=True,
        recording=summary,
    )


def chunk(bench: SinkBench) -> Any:
    meta = {"v": 1, "project_id": PROJECT, "session_id": "s1", "window_id": "w", "seq": 0, "codec": "json"}
    header = orjson.dumps(meta | {"received_at": NOW_MS, "encoding": "identity", "settings": {"version": 1}})
    body = orjson.dumps([{"type": 3, "timestamp": NOW_MS, "data": {}}])
    return bench.record(body, key=f"{PROJECT}/s1".encode(), kind="chunk", meta=header)


def test_all_sinks_write_what_they_have_to(login: str, database: str) -> None:
    late = event(2, timestamp=NOW_MS - 40 * 86_400_000)
    finding = Finding(
        id="0199b2f0-0000-8000-8000-000000000001",
        project_id=PROJECT,
        session_id="s1",
        kind="rage_click",
        timestamp=NOW_MS,
        visitor_id="v",
        page_url="/a",
    )
    job = AiJob(
        id="0199b2f0-0000-8000-8000-000000000002",
        project_id=PROJECT,
        session_id="s1",
        task_type="root_cause",
        priority=1,
        input_data={},
    )
    messages: dict[str, SessionSnapshot | Finding | AiJob] = {
        "sessions": snapshot(),
        "signals": finding,
        "ai_jobs": job,
    }
    for name in ("events", "recordings", "sessions", "signals", "ai_jobs"):
        bench = SinkBench(login, name, settings=SETTINGS)
        for _ in range(2):  # the second time the careful way, for rows that are there already
            if name == "events":
                bench.write([bench.events([event(1), late])])
            elif name == "recordings":
                bench.write([chunk(bench)])
            else:
                bench.write([bench.message(messages[name])])
        bench.close()
    assert query(
        database,
        "SELECT (SELECT count(*) FROM traceflow_events), (SELECT count(*) FROM session_recording_chunks),"
        " (SELECT jsonb_array_length(events) FROM session_recordings), (SELECT version FROM traceflow_sessions),"
        " (SELECT occurrence_count FROM traceflow_ux_issues), (SELECT count(*) FROM traceflow_ai_queue),"
        " (SELECT array[sessions_used, recordings_used] FROM traceflow_subscriptions)",
    ) == [(3, 1, 1, 1, 1, 1, [1, 1])]


def test_a_session_of_an_erased_visitor_is_removed_with_the_rights_of_the_role(login: str, database: str) -> None:
    execute(database, "SELECT block_traceflow_visitor(%s, 'ada')", PROJECT)
    with closing(SinkBench(login, "recordings", settings=SETTINGS)) as bench:
        bench.write([chunk(bench)])
    with closing(SinkBench(login, "events", settings=SETTINGS)) as bench:
        assert bench.write([bench.events([event(1)], visitor_id="ada", received_at=NOW_MS - 60_000)]).erased == 1
    assert query(database, "SELECT count(*) FROM traceflow_sessions") == [(0,)]
    assert query(database, "SELECT kind, removed -> 'session_recording_chunks' FROM traceflow_erasures ORDER BY 1") == [
        ("session", 1),
        ("visitor", None),
    ]


def test_a_frozen_owner_is_ended_with_the_rights_of_the_login(login: str, database: str) -> None:
    frozen = SinkBench(login, "events", settings=SETTINGS)
    heirs: list[SinkBench] = []

    def inherit(step: Step) -> None:
        if step is Step.ROWS_STORED and not heirs:
            heirs.append(SinkBench(login, "events", settings=SETTINGS))

    frozen.on_step = inherit
    with pytest.raises(Exception, match="stored \\(offset, epoch\\)"):
        frozen.write([frozen.events([event(1)])])
    assert heirs[0].write([heirs[0].events([event(1)])]).inserted == 1
    heirs[0].close()
    frozen.close()
    assert query(database, "SELECT count(*) FROM traceflow_events") == [(1,)]


def test_lost_rows_are_put_back_with_the_rights_of_the_role(login: str, database: str) -> None:
    benches = {name: SinkBench(login, name, settings=SETTINGS) for name in ("events", "recordings", "sessions")}
    records = {
        "events": benches["events"].events([event(1), event(2, event_type="error", error_message="oh")]),
        "recordings": chunk(benches["recordings"]),
        "sessions": benches["sessions"].message(snapshot()),
    }
    for name, record in records.items():
        benches[name].write([record])
        benches[name].close()
    stored = contents(database)
    assert query(database, "SELECT events <> '[]' FROM session_recordings") == [(True,)]
    settings = environment(kafka="nobody:1", prefix="t.", database=login, role="traceflow_sink")
    for lost in ("traceflow_events", "traceflow_sessions", "session_recordings", "session_recording_chunks"):
        execute(database, f"DELETE FROM {lost}")  # noqa: S608
        for name, record in records.items():
            sink = SinkRestore(name, settings)
            assert sink.store([record]) == []
            sink.close()
        assert contents(database) == stored
