"""The time of the log without a broker: flushes as an SDK makes them, ticks as the stages make them."""

import pytest

from schemas.messages import Kind
from stream_processors.fold.logic import LogRecord, Output
from stream_processors.offline.flushes import flushes
from stream_processors.offline.timetable import Arrival, events_log, recordings_log, with_ticks


def flushed(*times: int, flush_ms: int = 100) -> list[tuple[int, list[int]]]:
    return list(flushes(times, times, flush_ms=flush_ms))


def ticks(*arrivals: int, quiet_ms: int) -> list[int]:
    timetable = with_ticks([Arrival(at, "events") for at in arrivals], quiet_ms=quiet_ms)
    assert sorted(timetable, key=lambda arrival: arrival.at) == timetable
    return [arrival.at for arrival in timetable if arrival.kind == "tick"]


def test_a_flush_is_sent_so_long_after_its_first_event() -> None:
    assert flushed(1_000, 1_040, 1_099, 1_100, 1_300) == [
        (1_100, [1_000, 1_040, 1_099]),
        (1_200, [1_100]),
        (1_400, [1_300]),
    ]


def test_nothing_gives_no_flush() -> None:
    assert flushed() == []


def test_a_single_time_far_from_its_neighbours_does_not_move_the_clock() -> None:
    assert flushed(1_000, 9_000_000, 1_010, 1_020, 3, 1_030) == [(1_100, [1_000, 9_000_000, 1_010, 1_020, 3, 1_030])]


def test_a_clock_that_is_set_back_stands_still() -> None:
    assert flushed(1_000, 1_150, 1_160, 200, 210) == [(1_100, [1_000]), (1_250, [1_150, 1_160, 200, 210])]


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ([], []),
        ([10_000], [11_000, 12_000, 13_000]),
        ([10_400], [11_000, 12_000, 13_000, 14_000]),
        ([10_000, 10_000, 12_500], [11_000, 12_000, 13_000, 14_000, 15_000, 16_000]),
        # a long silence: while anything may wait, and once more before it ends
        ([10_000, 90_000], [11_000, 12_000, 13_000, 89_000, 91_000, 92_000, 93_000]),
    ],
)
def test_ticks_come_each_second_while_anything_may_wait(arrivals: list[int], expected: list[int]) -> None:
    assert ticks(*arrivals, quiet_ms=3_000) == expected


def test_the_logs_hold_each_arrival_and_in_the_place_of_a_chunk_or_tick_its_digest() -> None:
    timetable = [
        Arrival(5, "events", b"p/s", b"told"),
        Arrival(6, "chunk", b"p/s", b"[]", [("meta", b"{}")]),
        Arrival(7, "tick"),
        Arrival(8, "events", b"p/s", b"more"),
    ]
    assert recordings_log(timetable) == [
        LogRecord(0, 6, "chunk", b"p/s", b"[]", [("meta", b"{}")]),
        LogRecord(1, 7, "tick", b"", b"", ()),
    ]
    digests = [
        Output("events", b"p/s", b"digest", [("kind", b"digest")]),
        Output("events", None, b"tick", [("kind", Kind.DIGEST_TICK.value.encode())]),
    ]
    assert events_log(timetable, digests) == [
        LogRecord(0, 5, "events", b"p/s", b"told", ()),
        LogRecord(1, 6, "digest", b"p/s", b"digest", [("kind", b"digest")]),
        LogRecord(2, 7, "digest_tick", b"", b"tick", [("kind", b"digest_tick")]),
        LogRecord(3, 8, "events", b"p/s", b"more", ()),
    ]
