import gzip
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from schemas.ids import session_row_id
from schemas.messages import RecordingSummary, SessionSnapshot
from tests.integration.sink_bench import (
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

START = NOW_MS - 600_000


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def bench(module_database: str) -> Iterator[SinkBench]:
    bench = SinkBench(emptied(module_database), "sessions")
    yield bench
    bench.close()


def snapshot(version: int, **fields: Any) -> SessionSnapshot:
    values: dict[str, Any] = {
        "id": session_row_id(PROJECT, "s1"),
        "project_id": PROJECT,
        "session_id": "s1",
        "version": version,
        "life": 0,
        "started_at": START,
        "ended_at": START + 10_000,
        "duration_ms": 10_000,
        "page_count": 2,
        "pages_visited": ["/a", "/b"],
    }
    return SessionSnapshot(**(values | fields))


def test_a_snapshot_is_the_sessions_row(bench: SinkBench) -> None:
    told = snapshot(
        7,
        visitor_id="v1",
        user_agent="UA\ttab",
        device_type="mobile",
        browser="Firefox",
        os="Android",
        is_bot=True,
        screen_resolution="360x800",
        ip_address="192.0.2.0",
        country_code="DE",
        city="Köln",
        geolocation={"lat": 50.9, "lng": 6.9},
        referrer="https://search.example/",
        landing_page="/a",
        custom_properties={"plan": "pro"},
        clock_skew_ms=-40,
        closed=True,
    )
    assert bench.write([bench.message(told)]).inserted == 1
    assert query(
        bench.url,
        "SELECT id::text, project_id::text, visitor_id, user_agent, device_type, browser, os, is_bot,"
        " screen_resolution, ip_address, country_code, city, geolocation, extract(epoch from started_at) * 1000,"
        " extract(epoch from ended_at) * 1000, duration_ms, page_count, pages_visited, referrer, landing_page,"
        " custom_properties, clock_skew_ms, closed, version, life, event_count, frustration_score, ai_analyzed"
        " FROM traceflow_sessions",
    ) == [
        (
            told.id,
            PROJECT,
            "v1",
            "UA\ttab",
            "mobile",
            "Firefox",
            "Android",
            True,
            "360x800",
            "192.0.2.0",
            "DE",
            "Köln",
            {"lat": 50.9, "lng": 6.9},
            START,
            START + 10_000,
            10_000,
            2,
            ["/a", "/b"],
            "https://search.example/",
            "/a",
            {"plan": "pro"},
            -40,
            True,
            7,
            0,
            0,
            0,
            False,
        )
    ]


def test_the_newest_version_wins_whatever_the_order(bench: SinkBench) -> None:
    bench.write([bench.message(snapshot(version, page_count=version)) for version in (5, 9, 7)])
    written = bench.write([bench.message(snapshot(version, page_count=version)) for version in (8, 9)])
    assert (written.inserted, written.duplicates) == (0, 2)
    assert query(bench.url, "SELECT version, page_count FROM traceflow_sessions") == [(9, 9)]
    bench.write([bench.message(snapshot(10, page_count=3, pages_visited=["/c"]))])
    assert query(bench.url, "SELECT version, page_count, pages_visited FROM traceflow_sessions") == [(10, 3, ["/c"])]


def test_counters_and_the_ais_words_are_never_touched(bench: SinkBench) -> None:
    events = SinkBench(bench.url, "events")
    events.write([events.events([event(n, event_type="error") for n in range(3)])])
    execute(bench.url, "UPDATE traceflow_sessions SET ai_analyzed = true, ai_summary = 'stuck'")
    bench.write([bench.message(snapshot(3))])
    events.write([events.events([event(9)])])
    events.close()
    bench.write([bench.message(snapshot(4))])
    assert query(bench.url, "SELECT event_count, error_count, ai_analyzed, ai_summary FROM traceflow_sessions") == [
        (4, 3, True, "stuck")
    ]
    assert_counters_equal_rows(bench.url)


def test_the_first_snapshot_corrects_what_the_first_event_guessed(bench: SinkBench) -> None:
    events = SinkBench(bench.url, "events")
    events.write([events.events([event(1)])])
    events.close()
    bench.write([bench.message(snapshot(3))])
    assert query(bench.url, "SELECT extract(epoch from started_at) * 1000, earlier_lives FROM traceflow_sessions") == [
        (START, {})
    ]


LIVES = """
SELECT extract(epoch from started_at) * 1000, extract(epoch from ended_at) * 1000, duration_ms, page_count,
       pages_visited, landing_page, referrer, custom_properties, closed, life, version
FROM traceflow_sessions
"""
DAY_MS = 86_400_000
FIRST_LIFE = snapshot(20, closed=True, landing_page="/a", referrer="r", custom_properties={"a": 1, "b": 1})
SECOND_LIFE = snapshot(
    90,
    life=80,
    started_at=START + 2 * DAY_MS,
    ended_at=START + 2 * DAY_MS + 5_000,
    duration_ms=5_000,
    page_count=1,
    pages_visited=["/b"],
    landing_page="/b",
    custom_properties={"b": 2},
)
LATER = replace(
    SECOND_LIFE, version=99, closed=True, page_count=3, pages_visited=["/b", "/c"], ended_at=START + 3 * DAY_MS
)
JOINED = (
    START,
    START + 3 * DAY_MS,
    3 * DAY_MS,
    5,
    ["/a", "/b", "/c"],
    "/a",
    "r",
    {"a": 1, "b": 2},
    True,
    80,
    99,
)


@pytest.mark.parametrize(
    "batches",
    [
        [[FIRST_LIFE], [SECOND_LIFE], [LATER]],
        [[FIRST_LIFE, SECOND_LIFE, LATER]],
        [[LATER, FIRST_LIFE, SECOND_LIFE]],
        [[FIRST_LIFE], [LATER], [SECOND_LIFE], [FIRST_LIFE], [LATER]],
    ],
)
def test_lives_of_a_session_that_came_back_are_joined(bench: SinkBench, batches: list[list[SessionSnapshot]]) -> None:
    for batch in batches:
        bench.write([bench.message(each) for each in batch])
    assert query(bench.url, LIVES) == [JOINED]


def test_a_third_life_is_added_to_both_before_it(bench: SinkBench) -> None:
    third = replace(SECOND_LIFE, life=200, version=210, page_count=1, pages_visited=["/d"], ended_at=START + 4 * DAY_MS)
    for each in (FIRST_LIFE, LATER, third):
        bench.write([bench.message(each)])
    [row] = query(bench.url, LIVES)
    assert row[3:5] == (6, ["/a", "/b", "/c", "/d"])


def test_a_duration_saturates(bench: SinkBench) -> None:
    bench.write([bench.message(FIRST_LIFE)])
    bench.write([bench.message(replace(SECOND_LIFE, ended_at=START + 40 * DAY_MS))])
    assert query(bench.url, "SELECT duration_ms FROM traceflow_sessions") == [(2_147_483_647,)]


SUMMARY = RecordingSummary(
    start_time=START,
    end_time=START + 9_000,
    duration_ms=9_000,
    event_count=4,
    page_count=2,
    pages_visited=["/a", "/b"],
    device_fingerprint="fp",
)
RECORDING = """
SELECT session_id, project_id::text, duration_ms, page_count, pages_visited, device_fingerprint, visitor_id,
       geolocation, extract(epoch from start_time) * 1000, extract(epoch from end_time) * 1000, event_count
FROM session_recordings
"""


def test_the_recordings_part_goes_to_its_own_row(bench: SinkBench) -> None:
    told = snapshot(
        7, recording=SUMMARY, visitor_id="v1", country_code="DE", city="Köln", geolocation={"lat": 1.5, "lng": 2.5}
    )
    bench.write([bench.message(told)])
    assert query(bench.url, RECORDING) == [
        (
            "s1",
            PROJECT,
            9_000,
            2,
            ["/a", "/b"],
            "fp",
            "v1",
            {"city": "Köln", "country": "DE", "lat": 1.5, "lng": 2.5},
            START,
            START + 9_000,
            0,
        )
    ]


def test_recordings_of_two_lives_are_joined(bench: SinkBench) -> None:
    bench.write([bench.message(replace(FIRST_LIFE, recording=SUMMARY))])
    later = replace(
        SUMMARY, start_time=START + 2 * DAY_MS, end_time=START + 2 * DAY_MS + 1_000, page_count=1, pages_visited=["/c"]
    )
    for version in (90, 91):
        bench.write([bench.message(replace(SECOND_LIFE, version=version, recording=later))])
    [row] = query(bench.url, RECORDING)
    assert row[2:5] == (2 * DAY_MS + 1_000, 3, ["/a", "/b", "/c"])
    assert row[8:10] == (START, START + 2 * DAY_MS + 1_000)


def chunks(url: str, *bodies: bytes, codec: str = "json", first_seq: int = 0) -> None:
    recordings = SinkBench(url, "recordings")
    meta = {"v": 1, "project_id": PROJECT, "session_id": "s1", "window_id": "w", "received_at": NOW_MS, "codec": codec}
    records = [
        recordings.record(
            body,
            key=f"{PROJECT}/s1".encode(),
            kind="chunk",
            meta=orjson.dumps(meta | {"seq": seq, "encoding": "identity", "settings": {"version": 1}}),
        )
        for seq, body in enumerate(bodies, first_seq)
    ]
    recordings.write(records)
    recordings.close()


def rrweb(*times: int, text: str = "x") -> bytes:
    return orjson.dumps([{"type": 3, "timestamp": START + time, "data": {"text": text}} for time in times])


def materialised(url: str) -> int:
    return int(query(url, "SELECT jsonb_array_length(events) FROM session_recordings")[0][0])


def test_a_short_recording_is_put_together_when_its_session_closes(bench: SinkBench) -> None:
    chunks(bench.url, rrweb(1, 2), rrweb(3, 4))
    bench.write([bench.message(snapshot(7, recording=SUMMARY))])
    assert materialised(bench.url) == 0
    bench.write([bench.message(snapshot(8, recording=SUMMARY, closed=True))])
    assert materialised(bench.url) == 4
    chunks(bench.url, rrweb(5), first_seq=2)
    assert materialised(bench.url) == 0
    bench.write([bench.message(snapshot(9, recording=replace(SUMMARY, event_count=5), closed=True))])
    assert materialised(bench.url) == 5


def test_a_recording_is_put_together_though_its_snapshot_counted_a_repeated_chunk_twice(bench: SinkBench) -> None:
    chunks(bench.url, rrweb(1, 2), rrweb(3, 4))
    chunks(bench.url, rrweb(3, 4), first_seq=1)
    bench.write([bench.message(snapshot(8, recording=replace(SUMMARY, event_count=6), closed=True))])
    assert materialised(bench.url) == 4


def test_a_recording_whose_chunks_are_being_stored_stays_in_its_chunks(bench: SinkBench) -> None:
    chunks(bench.url, rrweb(1, 2), rrweb(3, 4))
    # what the other sink has just committed: the count is seen before the rows
    execute(bench.url, "UPDATE session_recordings SET event_count = 6")
    bench.write([bench.message(snapshot(8, recording=SUMMARY, closed=True))])
    assert materialised(bench.url) == 0


def test_a_long_recording_stays_in_its_chunks(bench: SinkBench) -> None:
    chunks(bench.url, rrweb(1, 2), rrweb(3, 4, text="x" * 600_000))
    bench.write([bench.message(snapshot(8, recording=SUMMARY, closed=True))])
    assert materialised(bench.url) == 0


def test_a_compressed_recording_stays_in_its_chunks(bench: SinkBench) -> None:
    chunks(bench.url, gzip.compress(rrweb(1, 2, 3, 4)), codec="gzip")
    bench.write([bench.message(snapshot(8, recording=SUMMARY, closed=True))])
    assert materialised(bench.url) == 0


def test_a_recording_that_jsonb_cannot_hold_costs_no_snapshot(bench: SinkBench) -> None:
    number = b'[{"type":3,"timestamp":5,"data":{"n":' + b"1" * 200_000 + b"}}]"
    execute(bench.url, "INSERT INTO traceflow_sessions (session_id, project_id) VALUES ('s1', %s)", PROJECT)
    execute(
        bench.url, "INSERT INTO session_recordings (session_id, project_id, event_count) VALUES ('s1', %s, 4)", PROJECT
    )
    execute(
        bench.url,
        "INSERT INTO session_recording_chunks (session_id, seq, chunk_day, codec, events, event_count, raw_size_bytes)"
        " VALUES ('s1', 0, (now() AT TIME ZONE 'UTC')::date, 'json', %s, 4, 100)",
        number.decode(),
    )
    written = bench.write([bench.message(snapshot(8, recording=SUMMARY, closed=True))])
    assert (written.inserted, written.parked) == (1, 0)
    assert materialised(bench.url) == 0


def test_a_snapshot_of_another_projects_session_is_parked(bench: SinkBench) -> None:
    add_project(bench.url, OTHER_PROJECT)
    bench.write([bench.message(snapshot(7))])
    foreign = replace(snapshot(99), project_id=OTHER_PROJECT)
    written = bench.write([bench.message(foreign), bench.message(snapshot(6)), bench.message(snapshot(8))])
    assert (written.inserted, written.duplicates, written.parked) == (1, 1, 1)
    assert bench.reasons() == [("session_id_taken", 1, -1)]
    assert query(bench.url, "SELECT project_id::text, version FROM traceflow_sessions") == [(PROJECT, 8)]


def test_a_tombstone_of_compaction_says_nothing(bench: SinkBench) -> None:
    empty = bench.record(b"", key=b"p/s")
    written = bench.write([replace(empty, value=None), bench.message(snapshot(7))])
    assert (written.inserted, written.parked) == (1, 0)


def test_a_snapshot_that_postgres_refuses_is_parked_alone(bench: SinkBench) -> None:
    batch = [
        replace(
            snapshot(7), session_id=f"s{n}", duration_ms=2**31 if n == 3 else 1, id=session_row_id(PROJECT, f"s{n}")
        )
        for n in range(6)
    ]
    written = bench.write([bench.message(each) for each in batch])
    assert (written.inserted, written.parked) == (5, 1)
    assert bench.reasons() == [("row_refused", 3, -1)]
