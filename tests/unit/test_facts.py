"""What the changelog holds, and what a partition is recovered to."""

from typing import Any

import pytest

from stream_processors.fold.facts import (
    FORMAT,
    HEAD_BYTES,
    LOCATED_FORMAT,
    NOTHING,
    REDRIVEN_FORMAT,
    DamagedFact,
    NewerFactFormat,
    PartitionRecord,
    Recovered,
    SessionHead,
    changelog_flight,
    is_session_key,
    partition_record_key,
    recover,
    session_fact_key,
)


def fact(offset: int, *, expires: int = 1_000, is_closed: bool = False) -> bytes:
    head = SessionHead(is_closed=is_closed, last_activity=0, offset=offset, closes=500, expires=expires, wake=0)
    return head.pack() + b"state"


def record(**values: Any) -> bytes:
    return PartitionRecord(**values).pack()


def test_a_head_is_42_bytes_before_the_state_s_own() -> None:
    head = SessionHead(is_closed=True, last_activity=1, offset=2, closes=3, expires=4, wake=5)
    packed = bytes.fromhex("01 01 0100000000000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000")
    assert head.pack() == packed
    assert len(packed) == HEAD_BYTES
    assert SessionHead.unpack(packed + b"state") == head


def test_a_partition_record_is_41_bytes() -> None:
    position = PartitionRecord(offset=1, watermark=2, clock_tick=-1, last_tick=4, source=5)
    packed = bytes.fromhex("01 0100000000000000 0200000000000000 ffffffffffffffff 0400000000000000 0500000000000000")
    assert position.pack() == packed
    assert PartitionRecord.unpack(packed) == position


def test_keys_name_the_session_and_the_offset_whatever_the_session_is_called() -> None:
    assert session_fact_key(b"p/s|1", 7) == b"p/s|1|7"
    assert partition_record_key(7) == b"\0p|7"
    assert recover({b"p/s|1|7": fact(7)}).sessions == {b"p/s|1": fact(7)}


@pytest.mark.parametrize(
    ("key", "is_key"), [(b"p/s", True), (b"", False), (None, False), (b"\0p", False), (b"\0", False)]
)
def test_a_session_key_never_looks_like_a_partition_record_s(key: bytes | None, is_key: bool) -> None:
    assert is_session_key(key) is is_key


def test_an_open_session_is_due_when_it_wakes_or_closes_and_a_closed_one_when_it_expires() -> None:
    head = SessionHead(is_closed=False, last_activity=0, offset=0, closes=50, expires=90, wake=0)
    assert head.due == 50
    assert head._replace(wake=20).due == 20
    assert head._replace(wake=70).due == 50
    assert head._replace(is_closed=True, wake=20).due == 90


def test_nothing_is_recovered_from_nothing() -> None:
    assert recover({}) == NOTHING


def test_the_highest_fact_of_each_session_and_the_highest_record_count() -> None:
    facts = {
        b"a|3": fact(3),
        b"a|10": fact(10),
        b"b|4": fact(4),
        partition_record_key(9): record(offset=9),
        partition_record_key(10): record(offset=10, source=3),
    }
    assert recover(facts) == Recovered(
        record=PartitionRecord(offset=10, source=3),
        sessions={b"a": fact(10), b"b": fact(4)},
        leftovers=(b"a|3", partition_record_key(9)),
    )


def test_a_fact_beyond_the_partition_record_counts() -> None:
    facts = {b"a|12": fact(12), b"a|3": fact(3), partition_record_key(5): record(offset=5)}
    assert recover(facts).sessions == {b"a": fact(12)}


def test_a_fact_that_the_last_clock_tick_removed_is_left_over() -> None:
    tick: dict[str, Any] = {"offset": 30, "watermark": 1_001, "clock_tick": 20}
    facts = {b"a|3": fact(3, is_closed=True), partition_record_key(30): record(**tick)}
    assert recover(facts) == Recovered(PartitionRecord(**tick), {}, (b"a|3",))


def test_an_expired_session_that_changed_with_the_last_clock_tick_or_since_lives() -> None:
    position = record(offset=30, watermark=1_001, clock_tick=20)
    facts = {b"a|20": fact(20, is_closed=True), b"b|25": fact(25), partition_record_key(30): position}
    assert set(recover(facts).sessions) == {b"a", b"b"}


def test_a_session_that_expires_at_the_watermark_itself_lives() -> None:
    facts = {b"a|3": fact(3), partition_record_key(30): record(offset=30, watermark=1_000, clock_tick=20)}
    assert set(recover(facts).sessions) == {b"a"}


def test_only_a_partition_record_that_tells_of_redriven_records_is_of_the_newer_format() -> None:
    assert record(offset=3)[0] == FORMAT
    told = PartitionRecord(offset=3, watermark=2, redriven=1_764_000_000_000_000)
    assert (told.pack()[0], len(told.pack())) == (REDRIVEN_FORMAT, 49)
    assert PartitionRecord.unpack(told.pack()) == told


def test_a_partition_record_that_names_its_log_is_of_the_newest_format_and_101_bytes() -> None:
    located = PartitionRecord(offset=3, redriven=5, logged_at=1_764_000_000_000, topic_id="2Q5TDL7pQhiXJOnQEZpnJw")
    assert (located.pack()[0], len(located.pack())) == (LOCATED_FORMAT, 101)
    assert PartitionRecord.unpack(located.pack()) == located
    chained = located._replace(source_id="7n9fOXjJT2q5Vw6N3bVwWg")
    assert PartitionRecord.unpack(chained.pack()) == chained


@pytest.mark.parametrize(
    ("key", "newer"),
    [
        (b"a|3", bytes([FORMAT + 1]) + fact(3)[1:]),
        (partition_record_key(3), bytes([LOCATED_FORMAT + 1]) + record(offset=3)[1:]),
    ],
)
def test_a_newer_format_is_not_read(key: bytes, newer: bytes) -> None:
    with pytest.raises(NewerFactFormat):
        recover({key: newer})


@pytest.mark.parametrize(
    ("key", "value"), [(b"a", fact(1)), (b"|3", fact(1)), (b"a|x", fact(1)), (b"a|3", b"short"), (b"\0p|3", b"")]
)
def test_what_no_stage_writes_is_not_recovered_from(key: bytes, value: bytes) -> None:
    with pytest.raises(DamagedFact):
        recover({key: value})


def test_a_flight_never_deletes_a_place_that_it_writes() -> None:
    assert changelog_flight([(b"a|3", b"x")], [b"a|2", b"a|3"]) == [(b"a|3", b"x"), (b"a|2", None)]
