import gzip
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from adapters.kafka_consumer import ConsumedRecord
from tests.integration.sink_bench import (
    NOW_MS,
    OTHER_PROJECT,
    PROJECT,
    SinkBench,
    add_project,
    assert_counters_equal_rows,
    copied_database,
    emptied,
    execute,
    query,
)

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def bench(module_database: str) -> Iterator[SinkBench]:
    bench = SinkBench(emptied(module_database), "recordings")
    yield bench
    bench.close()


def events(count: int, *, at: int = NOW_MS) -> list[dict[str, Any]]:
    return [{"type": 3, "timestamp": at + n, "data": {"text": f"a\tb\n{n}"}} for n in range(count)]


def chunk(
    bench: SinkBench, place: Any, *, count: int = 2, at: int = NOW_MS, body: bytes | None = None, **meta: Any
) -> ConsumedRecord:
    values = {
        "v": 1,
        "project_id": PROJECT,
        "session_id": "s1",
        "window_id": "w1",
        "seq": place,
        "received_at": NOW_MS,
        "encoding": "identity",
        "codec": "json",
        "settings": {"version": 1},
    } | meta
    data = orjson.dumps(events(count, at=at)) if body is None else body
    key = f"{values['project_id']}/{values['session_id']}".encode()
    return bench.record(data, key=key, kind="chunk", meta=orjson.dumps(values))


RECORDING = "SELECT event_count, storage_size_bytes, compressed, visitor_id, user_agent, events FROM session_recordings"


def test_a_chunk_is_a_row_that_sql_can_read(bench: SinkBench) -> None:
    written = bench.write([chunk(bench, 0, visitor_id="v1", user_agent="UA")])
    assert (written.inserted, written.parked) == (1, 0)
    assert query(
        bench.url,
        "SELECT session_id, window_id, seq, chunk_day = (now() AT TIME ZONE 'UTC')::date, codec, event_count,"
        " events -> 0 -> 'data' ->> 'text', raw_size_bytes, extract(epoch from last_event_at) * 1000"
        " FROM session_recording_chunks",
    ) == [("s1", "w1", 0, True, "json", 2, "a\tb\n0", len(orjson.dumps(events(2))), NOW_MS + 1)]
    assert query(bench.url, RECORDING) == [(2, len(orjson.dumps(events(2))), False, "v1", "UA", [])]
    assert query(bench.url, "SELECT project_id::text, event_count FROM traceflow_sessions") == [(PROJECT, 0)]


def test_a_chunk_sent_again_is_stored_and_counted_once_even_with_another_day_or_content(bench: SinkBench) -> None:
    bench.write([chunk(bench, 0), chunk(bench, 1, count=3)])
    again = [
        chunk(bench, 1, count=3),
        chunk(bench, 1, count=9, at=NOW_MS - 2 * DAY_MS),
        chunk(bench, 2),
        chunk(bench, 2),
        chunk(bench, 0, window_id="w2"),
    ]
    written = bench.write(again)
    assert (written.inserted, written.duplicates) == (2, 3)
    assert query(bench.url, "SELECT window_id, seq, event_count FROM session_recording_chunks ORDER BY 1, 2") == [
        ("w1", 0, 2),
        ("w1", 1, 3),
        ("w1", 2, 2),
        ("w2", 0, 2),
    ]
    [(count, size, *_)] = query(bench.url, RECORDING)
    assert count == 9
    assert [(size,)] == query(bench.url, "SELECT sum(raw_size_bytes)::int FROM session_recording_chunks")


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_project_may_store_bytes(bench: SinkBench, codec: str) -> None:
    body = gzip.compress(orjson.dumps(events(5)))
    bench.write([chunk(bench, 0, body=body, encoding="gzip", codec=codec)])
    [(stored, payload, readable)] = query(bench.url, "SELECT codec, payload, events FROM session_recording_chunks")
    assert (stored, readable) == (codec, None)
    assert (payload == body) == (codec == "gzip")
    assert query(bench.url, RECORDING)[0][:3] == (5, len(payload), True)


def test_the_day_is_that_of_the_first_event_unless_its_clock_is_wrong(bench: SinkBench) -> None:
    bench.write(
        [chunk(bench, 0, at=NOW_MS - 2 * DAY_MS), chunk(bench, 1, at=NOW_MS - 400 * DAY_MS), chunk(bench, 2, at=1)]
    )
    assert query(
        bench.url, "SELECT seq, (now() AT TIME ZONE 'UTC')::date - chunk_day FROM session_recording_chunks ORDER BY 1"
    ) == [(0, 2), (1, 0), (2, 0)]


def test_a_late_chunk_clears_what_was_put_together(bench: SinkBench) -> None:
    bench.write([chunk(bench, 0)])
    execute(bench.url, "UPDATE session_recordings SET events = '[1]'")
    bench.write([chunk(bench, 0)])
    assert query(bench.url, "SELECT events FROM session_recordings") == [([1],)]
    bench.write([chunk(bench, 1)])
    assert query(bench.url, "SELECT events FROM session_recordings") == [([],)]


def test_the_view_gives_the_whole_recording_in_order_of_window_and_sequence(bench: SinkBench) -> None:
    bench.write([chunk(bench, 1, at=NOW_MS + 50), chunk(bench, 0, window_id="w0"), chunk(bench, 0, body=b" [ ] ")])
    [(whole,)] = query(bench.url, "SELECT events FROM session_recordings_full WHERE session_id = 's1'")
    assert whole == events(2) + events(2, at=NOW_MS + 50)


def test_what_json_functions_cannot_take_is_mended_so_that_the_view_works(bench: SinkBench) -> None:
    body = b'[{"type":3,"timestamp":5,"data":{"text":"a\\u0000b\\ud800"}}]'
    bench.write([chunk(bench, 0, body=body)])
    [(whole,)] = query(bench.url, "SELECT events FROM session_recordings_full WHERE session_id = 's1'")
    assert whole[0]["data"]["text"] == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"no json", "chunk_malformed"), (b'{"a":1}', "chunk_not_rrweb"), (b"[3]", "chunk_not_rrweb")],
)
def test_what_is_no_chunk_is_parked_alone(bench: SinkBench, body: bytes, reason: str) -> None:
    written = bench.write([chunk(bench, 0), chunk(bench, 1, body=body), chunk(bench, 2)])
    assert (written.inserted, written.parked) == (2, 1)
    assert bench.reasons() == [(reason, 1, -1)]
    assert bench.letters.values == [body]


@pytest.mark.parametrize(
    "meta", [{"place": -1}, {"place": "0"}, {"codec": "rar"}, {"window_id": "a\x00"}, {"received_at": None}, {"v": "1"}]
)
def test_a_malformed_header_is_our_fault(bench: SinkBench, meta: dict[str, Any]) -> None:
    bench.write([chunk(bench, **({"place": 0} | meta)), chunk(bench, 1)])
    assert bench.reasons() == [("record_malformed", 0, -1)]


def test_chunks_of_another_projects_session_are_parked(bench: SinkBench) -> None:
    add_project(bench.url, OTHER_PROJECT)
    bench.write([chunk(bench, 0)])
    written = bench.write([chunk(bench, 1, project_id=OTHER_PROJECT), chunk(bench, 2)])
    assert (written.inserted, written.parked) == (1, 1)
    assert bench.reasons() == [("session_id_taken", 1, -1)]
    assert_counters_equal_rows(bench.url)


def test_a_chunk_that_postgres_refuses_is_parked_alone(bench: SinkBench) -> None:
    too_long = "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(3_000))
    written = bench.write([chunk(bench, 0), chunk(bench, 1, window_id=too_long), chunk(bench, 2), chunk(bench, 3)])
    assert (written.inserted, written.parked) == (3, 1)
    assert bench.reasons() == [("row_refused", 1, -1)]
    assert query(bench.url, RECORDING)[0][0] == 6
