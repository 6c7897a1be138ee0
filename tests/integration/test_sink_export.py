import gzip
from collections.abc import Iterator

import orjson
import psycopg
import pytest
import zstandard

from sinks.export import NoRecording, recording_pieces
from tests.integration.sink_bench import NOW_MS, PROJECT, SinkBench, copied_database, emptied, execute


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def bench(module_database: str) -> Iterator[SinkBench]:
    bench = SinkBench(emptied(module_database), "recordings")
    yield bench
    bench.close()


def store(bench: SinkBench, seq: int, body: bytes, *, window: str = "w", codec: str = "json") -> None:
    meta = {"v": 1, "project_id": PROJECT, "session_id": "s1", "window_id": window, "seq": seq, "codec": codec}
    header = orjson.dumps(meta | {"received_at": NOW_MS, "encoding": "identity", "settings": {"version": 1}})
    bench.write([bench.record(body, key=f"{PROJECT}/s1".encode(), kind="chunk", meta=header)])


def rrweb(*numbers: int) -> bytes:
    return orjson.dumps([{"type": 3, "timestamp": NOW_MS + number, "data": {"n": number}} for number in numbers])


def exported(bench: SinkBench) -> list[int]:
    with psycopg.connect(bench.url, autocommit=True) as connection:
        whole = orjson.loads(b"".join(recording_pieces(connection, "s1")))
    return [event["data"]["n"] for event in whole]


def test_all_codecs_come_back_as_one_array_in_order_of_window_and_sequence(bench: SinkBench) -> None:
    store(bench, 1, rrweb(12, 13))
    store(bench, 0, gzip.compress(rrweb(10, 11)), codec="gzip")
    store(bench, 2, b" [ ] ")
    store(bench, 10, zstandard.compress(rrweb(15)), codec="zstd")
    store(bench, 3, rrweb(14), codec="zstd")
    store(bench, 0, b" \n" + rrweb(1) + b"\n", window="a")
    assert exported(bench) == [1, 10, 11, 12, 13, 14, 15]


def test_an_empty_recording_is_an_empty_array(bench: SinkBench) -> None:
    store(bench, 0, b"[]")
    assert exported(bench) == []


def test_a_recording_that_was_never_in_chunks_comes_from_its_row(bench: SinkBench) -> None:
    execute(bench.url, "INSERT INTO session_recordings (session_id, events) VALUES ('s1', %s)", rrweb(7, 8).decode())
    assert exported(bench) == [7, 8]


def test_what_was_put_together_is_not_given_twice(bench: SinkBench) -> None:
    store(bench, 0, rrweb(1))
    execute(bench.url, "UPDATE session_recordings SET events = session_recording_events(session_id)")
    assert exported(bench) == [1]


def test_an_unknown_session_has_no_recording(bench: SinkBench) -> None:
    with pytest.raises(NoRecording), psycopg.connect(bench.url, autocommit=True) as connection:
        next(recording_pieces(connection, "nobody"))
