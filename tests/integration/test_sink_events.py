from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.sink_bench import (
    NOW_MS,
    OTHER_PROJECT,
    SinkBench,
    add_project,
    assert_counters_equal_rows,
    copied_database,
    emptied,
    event,
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
    bench = SinkBench(emptied(module_database), "events")
    yield bench
    bench.close()


def rows(url: str) -> int:
    return int(query(url, "SELECT count(*) FROM traceflow_events")[0][0])


def test_an_event_is_a_row_with_what_the_client_sent(bench: SinkBench) -> None:
    sent = event(
        1,
        event_type="error",
        event_name="TypeError",
        page_url="https://shop.example/cart\\\\x",
        element_text="a\tb\nc\\N",
        x_position=-4,
        y_position=12,
        error_message="x is null",
        metadata={"deep": [1, {"a": '\\"quoted"\n'}]},
    )
    written = bench.write([bench.events([sent], visitor_id="v1")])
    assert (written.inserted, written.duplicates, written.parked, written.careful) == (1, 0, 0, False)
    [row] = query(
        bench.url,
        "SELECT id::text, session_id, event_type, event_name, page_url, element_text, x_position, y_position,"
        " error_message, metadata, page_title, project_id::text, extract(epoch from timestamp) * 1000"
        " FROM traceflow_events",
    )
    assert row == (
        sent["id"],
        "s1",
        "error",
        "TypeError",
        "https://shop.example/cart\\\\x",
        "a\tb\nc\\N",
        -4,
        12,
        "x is null",
        {"deep": [1, {"a": '\\"quoted"\n'}]},
        None,
        "11111111-1111-4111-8111-111111111111",
        sent["timestamp"],
    )
    assert query(
        bench.url, "SELECT visitor_id, event_count, error_count, frustration_score FROM traceflow_sessions"
    ) == [("v1", 1, 1, 39)]
    assert_counters_equal_rows(bench.url)


def test_ticks_and_digests_make_no_rows_but_move_the_offset(bench: SinkBench) -> None:
    written = bench.write([bench.record(b"", key=b"", kind="tick"), bench.record(b"{}", key=b"p/s", kind="digest")])
    assert written.inserted == 0
    assert query(bench.url, "SELECT next_offset FROM traceflow_sink_offsets") == [(2,)]


def test_a_repeated_request_is_counted_once(bench: SinkBench) -> None:
    first = [event(n, event_type="error" if n % 2 else "click") for n in range(10)]
    bench.write([bench.events(first)])
    written = bench.write([bench.events([*first, event(11)])])
    assert (written.inserted, written.duplicates, written.careful) == (1, 10, True)
    assert rows(bench.url) == 11
    assert_counters_equal_rows(bench.url)


def test_a_repetition_within_one_batch_is_counted_once(bench: SinkBench) -> None:
    twice = [event(n) for n in range(5)]
    written = bench.write([bench.events(twice), bench.events(twice), bench.events([event(3), event(3)])])
    assert (written.inserted, written.duplicates) == (5, 7)
    assert_counters_equal_rows(bench.url)


def test_after_a_duplicate_the_careful_way_is_kept_for_a_while(bench: SinkBench) -> None:
    bench.write([bench.events([event(1)])])
    assert bench.write([bench.events([event(1)])]).careful
    assert bench.write([bench.events([event(2)])]).careful
    ways = [bench.write([bench.events([event(10 + n)])]).careful for n in range(20)]
    assert ways == [True] * 18 + [False] * 2
    assert_counters_equal_rows(bench.url)


def test_a_session_belongs_to_the_project_that_used_its_id_first(bench: SinkBench) -> None:
    add_project(bench.url, OTHER_PROJECT)
    bench.write([bench.events([event(1)])])
    written = bench.write(
        [
            bench.events([event(2)], project=OTHER_PROJECT),
            bench.events([event(3)]),
            bench.events([event(4)], session="s2"),
        ]
    )
    assert (written.inserted, written.parked) == (2, 1)
    assert bench.reasons() == [("session_id_taken", 1, -1)]
    assert query(bench.url, "SELECT session_id, event_count FROM traceflow_sessions ORDER BY 1") == [
        ("s1", 2),
        ("s2", 1),
    ]
    assert_counters_equal_rows(bench.url)


def test_of_two_projects_in_one_batch_the_first_in_the_log_gets_the_session(bench: SinkBench) -> None:
    add_project(bench.url, OTHER_PROJECT)
    written = bench.write([bench.events([event(2)], project=OTHER_PROJECT), bench.events([event(1)])])
    assert (written.inserted, written.parked) == (1, 1)
    assert bench.reasons() == [("session_id_taken", 1, -1)]
    assert query(bench.url, "SELECT project_id::text FROM traceflow_sessions") == [(OTHER_PROJECT,)]


def test_events_of_a_deleted_project_are_parked_without_stopping_anything(bench: SinkBench) -> None:
    written = bench.write([bench.events([event(1)], project=OTHER_PROJECT, session="sx"), bench.events([event(2)])])
    assert (written.inserted, written.parked) == (1, 1)
    assert bench.reasons() == [("key_unknown", 0, -1)]


def test_an_id_that_another_session_holds_is_parked(bench: SinkBench) -> None:
    bench.write([bench.events([event(1), event(2)])])
    written = bench.write([bench.events([event(3), event(2), event(4)], session="s2")])
    assert (written.inserted, written.duplicates, written.parked) == (2, 0, 1)
    assert bench.reasons() == [("event_id_taken", 1, 1)]
    assert_counters_equal_rows(bench.url)


def test_an_id_taken_within_one_batch_goes_to_the_first(bench: SinkBench) -> None:
    written = bench.write([bench.events([event(1)]), bench.events([event(1)], session="s2")])
    assert (written.inserted, written.parked) == (1, 1)
    assert bench.reasons() == [("event_id_taken", 1, 0)]
    assert_counters_equal_rows(bench.url)


def restamped(number: int, at_ms: int) -> dict[str, Any]:
    return event(number, timestamp=at_ms, restamped=True, event_type="error")


def test_a_restamped_event_is_stored_once_although_its_time_differs_from_retry_to_retry(bench: SinkBench) -> None:
    first = bench.write([bench.events([restamped(1, NOW_MS), event(2)])])
    again = bench.write([bench.events([restamped(1, NOW_MS + 5_000), event(3)])])
    assert (first.inserted, first.careful) == (2, False)
    assert (again.inserted, again.duplicates, again.careful) == (1, 1, False)
    assert_counters_equal_rows(bench.url)


def test_restamped_retries_within_one_batch_are_stored_once(bench: SinkBench) -> None:
    written = bench.write([bench.events([restamped(1, NOW_MS)]), bench.events([restamped(1, NOW_MS + 7)])])
    assert (written.inserted, written.duplicates) == (1, 1)
    assert_counters_equal_rows(bench.url)


def test_a_restamped_event_whose_id_another_session_holds_is_parked(bench: SinkBench) -> None:
    bench.write([bench.events([restamped(1, NOW_MS)])])
    bench.write([bench.events([restamped(1, NOW_MS + DAY_MS)], session="s2")])
    assert bench.reasons() == [("event_id_taken", 1, 0)]
    assert_counters_equal_rows(bench.url)


def test_a_late_day_gets_its_partition(bench: SinkBench) -> None:
    written = bench.write([bench.events([event(1, timestamp=NOW_MS - 40 * DAY_MS), event(2)])])
    assert (written.inserted, written.parked) == (2, 0)
    assert_counters_equal_rows(bench.url)


def test_a_day_beyond_all_bounds_is_parked_and_its_neighbours_are_stored(bench: SinkBench) -> None:
    far = [event(1, timestamp=NOW_MS - 400 * DAY_MS, event_type="error"), event(2, event_type="error"), event(3)]
    written = bench.write([bench.events(far), bench.events([event(4, timestamp=NOW_MS + 30 * DAY_MS)], session="s2")])
    assert (written.inserted, written.parked) == (2, 2)
    assert bench.reasons() == [("row_refused", 0, 0), ("row_refused", 1, 0)]
    assert_counters_equal_rows(bench.url)


def test_a_partition_that_vanishes_is_made_again(bench: SinkBench) -> None:
    bench.write([bench.events([event(1)])])
    for (leaf,) in query(
        bench.url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'traceflow_events'::regclass"
    ):
        execute(bench.url, f"DROP TABLE {leaf}")
    assert bench.write([bench.events([event(2)])]).inserted == 1


POISON: dict[str, Callable[[], dict[str, Any]]] = {
    "22021 NUL in text": lambda: event(9, page_title="a\x00b"),
    "22P05 NUL in metadata": lambda: event(9, metadata={"a": "\x00"}),
    "22003 integer too large": lambda: event(9, x_position=3_000_000_000),
    "22P02 fraction for an integer": lambda: event(9, x_position=12.5),
    "22P02 no uuid": lambda: event(9, id="not-a-uuid"),
    "54000 index entry too large": lambda: event(
        9, page_url="".join(chr(0x4E00 + n * 7 % 20_000) for n in range(3_000))
    ),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_row_that_postgres_refuses_is_parked_alone(bench: SinkBench, poison: Callable[[], dict[str, Any]]) -> None:
    records = [bench.events([event(100 + 10 * n + k) for k in range(10)], session=f"s{n}") for n in range(5)]
    records.insert(2, bench.events([event(1), event(2, event_type="error"), poison(), event(3)]))
    written = bench.write(records)
    assert (written.inserted, written.parked, written.careful) == (53, 1, True)
    assert [(reason, index) for reason, _, index in bench.reasons()] == [("row_refused", 2)]
    assert bench.letters.letters[0].offset == records[2].offset
    assert bench.letters.values == [records[2].value]
    assert_counters_equal_rows(bench.url)


def test_many_poison_rows_of_several_kinds_are_each_parked(bench: SinkBench) -> None:
    poisons = [make() | {"id": str(make()["id"])} for make in POISON.values()]
    records = [bench.events([event(10 * n + 20), poison, event(10 * n + 21)]) for n, poison in enumerate(poisons)]
    written = bench.write(records)
    assert (written.inserted, written.parked) == (2 * len(poisons), len(poisons))
    assert sorted(bench.reasons()) == [("row_refused", n, 1) for n in range(len(poisons))]
    assert_counters_equal_rows(bench.url)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"not json", "record_malformed"),
        (b'{"v":1}', "record_malformed"),
        (b'{"v":99}', "schema_newer"),
        (b'{"v":1,"project_id":"p","session_id":"s","events":[]}', "record_malformed"),
    ],
)
def test_a_record_that_does_not_decode_is_parked_whole(bench: SinkBench, value: bytes, reason: str) -> None:
    written = bench.write([bench.record(value, key=b"p/s", kind="events"), bench.events([event(1)])])
    assert (written.inserted, written.parked) == (1, 1)
    assert bench.reasons() == [(reason, 0, -1)]


@pytest.mark.parametrize(
    "bad",
    [
        *({}, [], 7, None, {"id": "x", "timestamp": "now", "event_type": "click"}),
        *(event(9, event_type=None), event(9, event_type=5), event(9, event_type=["click"])),
    ],
)
def test_an_event_without_its_shape_is_parked_alone(bench: SinkBench, bad: Any) -> None:
    written = bench.write([bench.events([event(1), bad, event(2)])])
    assert (written.inserted, written.parked) == (2, 1)
    assert bench.reasons() == [("record_malformed", 0, 1)]
    assert_counters_equal_rows(bench.url)


def test_a_key_that_contradicts_the_record_is_refused(bench: SinkBench) -> None:
    record = bench.events([event(1)])
    forged = bench.record(record.value or b"", key=b"other/s1", kind="events")
    bench.write([forged])
    assert bench.reasons() == [("record_malformed", 1, -1)]


def test_a_plain_insert_by_hand_counts_through_the_trigger_and_the_sink_does_not_count_twice(bench: SinkBench) -> None:
    bench.write([bench.events([event(1), event(2)])])
    by_hand = "INSERT INTO traceflow_events (session_id, event_type) VALUES ('s1', 'rage_click'), ('s1', 'error')"
    execute(bench.url, by_hand)
    bench.write([bench.events([event(3)])])
    assert query(bench.url, "SELECT event_count, rage_click_count FROM traceflow_sessions") == [(5, 1)]
    assert_counters_equal_rows(bench.url)
