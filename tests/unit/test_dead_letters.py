from typing import Any

import pytest
from confluent_kafka import KafkaError

from adapters.dead_letter_reader import LetterFilter, StoredLetter
from adapters.dead_letters import (
    WINDOW,
    DeadLetterCounts,
    DeadLetterLimit,
    DeadLettersUnavailable,
    DeadLetterWriter,
    ParkedRecord,
)
from schemas.messages import DeadLetter, parse_dead_letter_headers
from schemas.reasons import Reason

OURS = Reason.ROW_REFUSED
THEIRS = Reason.SESSION_ID_TAKEN
LIMIT = DeadLetterLimit()


def parked(counts: DeadLetterCounts, reason: Reason, times: int) -> DeadLetterCounts:
    for _ in range(times):
        counts = counts.parked(reason)
    return counts


def test_ninety_nine_in_a_row_are_parked_and_the_hundredth_stops() -> None:
    counts = parked(DeadLetterCounts(records=20_000), OURS, 99)
    assert LIMIT.exceeded(counts) is None
    assert LIMIT.exceeded(counts.parked(OURS)) == "100 records in a row had to be parked as row_refused"


def test_a_processed_record_breaks_the_row() -> None:
    counts = parked(DeadLetterCounts(records=20_000), OURS, 99).passed().parked(OURS)
    assert LIMIT.exceeded(counts) is None


def test_what_the_client_sent_wrong_never_stops_and_breaks_the_row() -> None:
    counts = parked(parked(DeadLetterCounts(), OURS, 99), THEIRS, 1)
    assert counts.ours_in_a_row == 0
    assert LIMIT.exceeded(parked(DeadLetterCounts(), THEIRS, 5_000)) is None


def test_one_per_cent_is_parked_and_more_stops() -> None:
    counts = DeadLetterCounts(records=989, ours=9).passed().parked(OURS)
    assert (counts.records, counts.ours) == (991, 10)
    assert LIMIT.exceeded(counts.passed(9)) is None
    assert LIMIT.exceeded(counts.passed(8).parked(OURS)) == (
        "11 of the last 1000 records had to be parked, latest as row_refused"
    )


def test_the_share_of_a_small_sample_says_nothing() -> None:
    assert LIMIT.exceeded(DeadLetterCounts().parked(OURS).passed(9)) is None


def test_a_process_that_has_just_started_parks_ten_and_no_more_of_records_of_which_half_are_bad() -> None:
    counts, letters = DeadLetterCounts(), 0
    while LIMIT.exceeded(counts.passed().parked(OURS)) is None:
        counts, letters = counts.passed().parked(OURS), letters + 1
    assert letters == 10


def parked_by_one_start(counts: DeadLetterCounts) -> int:
    letters = 0
    while LIMIT.exceeded(counts.parked(OURS)) is None:
        counts, letters = counts.parked(OURS), letters + 1
    return letters


def test_starts_within_an_hour_share_what_one_of_them_may_park() -> None:
    assert [parked_by_one_start(LIMIT.at_start(ours=ours, arrived=500)) for ours in (0, 4, 9, 10, 5_000)] == [
        *(10, 6, 1, 0, 0)
    ]


def test_a_start_of_a_busy_stage_that_is_within_its_share_begins_as_any_other_and_none_beyond_it() -> None:
    assert parked_by_one_start(LIMIT.at_start(ours=300, arrived=50_000)) == 10
    assert parked_by_one_start(LIMIT.at_start(ours=495, arrived=50_000)) == 5
    assert parked_by_one_start(LIMIT.at_start(ours=500, arrived=50_000)) == 0


def test_a_thousand_letters_within_an_hour_are_too_many_however_much_came() -> None:
    assert parked_by_one_start(LIMIT.at_start(ours=1_000, arrived=100_000_000)) == 0


def test_what_was_parked_before_a_start_stops_nothing_that_goes_well() -> None:
    counts = LIMIT.at_start(ours=5_000, arrived=100)
    assert LIMIT.exceeded(counts) is None
    assert LIMIT.exceeded(counts.passed(50).parked(THEIRS)) is None


def test_old_records_fade_so_that_a_bad_hour_shows() -> None:
    counts = DeadLetterCounts().passed(10 * WINDOW)
    assert counts.records <= WINDOW
    counts = DeadLetterCounts(records=WINDOW, ours=100).parked(OURS)
    assert counts == DeadLetterCounts(records=WINDOW // 2, ours=50, ours_in_a_row=1, latest=OURS)


class Place:
    """What a callback gets of a record."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        return self._offset


class FakeProducer:
    def __init__(self, *, left: int = 0, error: KafkaError | None = None, offset: int | None = 5) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]] = []
        self.left = left
        self.error = error
        self.place = Place(offset)

    def produce(self, topic: str, value: bytes | None, key: bytes | None, **kwargs: Any) -> None:
        self.sent.append((topic, value, key, kwargs["headers"]))
        kwargs["on_delivery"](self.error, self.place)

    def flush(self, timeout: float) -> int:  # noqa: ARG002 — the producer's signature
        return self.left

    def purge(self, *_args: Any, **_kwargs: Any) -> None:
        self.sent.clear()


RECORD = ParkedRecord(
    reason=Reason.ROW_REFUSED,
    topic="events",
    partition=3,
    offset=17,
    key=b"p/s",
    value=b"{}",
    headers=[("kind", b"events")],
    index=2,
    detail="x" * 3_000,
)


def test_a_letter_holds_the_original_bytes_and_where_they_came_from() -> None:
    producer = FakeProducer()
    DeadLetterWriter(lambda: producer, prefix="t.", stage="sink-events").park([RECORD])
    [(topic, value, key, headers)] = producer.sent
    letter, original = parse_dead_letter_headers(headers)
    assert (topic, value, key, original) == ("t.dead_letters", b"{}", b"p/s", [("kind", b"events")])
    assert (letter.reason, letter.stage, letter.topic, letter.partition, letter.offset, letter.index) == (
        "row_refused",
        "sink-events",
        "events",
        3,
        17,
        2,
    )
    assert letter.detail == "x" * 2_000
    assert letter.at > 0


@pytest.mark.parametrize(
    "producer",
    [FakeProducer(left=1), FakeProducer(error=KafkaError(KafkaError._MSG_TIMED_OUT)), FakeProducer(offset=None)],
)
def test_a_letter_that_is_not_acknowledged_is_an_error(producer: FakeProducer) -> None:
    with pytest.raises(DeadLettersUnavailable, match="1 dead letters not acknowledged"):
        DeadLetterWriter(lambda: producer, prefix="t.", stage="sink-events").park([RECORD])


STORED = StoredLetter(
    partition=0,
    offset=0,
    letter=DeadLetter(reason="row_refused", stage="sink-events", topic="events", partition=3, offset=17, at=100),
    project_id="p",
    session_id="s",
    key=b"p/s",
    value=b"{}",
    headers=(),
)


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (LetterFilter(), True),
        (LetterFilter(stage="sink-events", reason="row_refused", project_id="p", since=100, until=101), True),
        (LetterFilter(stage="analyze"), False),
        (LetterFilter(reason="engine_error"), False),
        (LetterFilter(project_id="q"), False),
        (LetterFilter(since=101), False),
        (LetterFilter(until=100), False),
    ],
)
def test_letters_are_found_by_stage_reason_project_and_time(wanted: LetterFilter, shown: bool) -> None:
    assert wanted.matches(STORED) is shown


def test_after_a_failure_letters_go_through_a_new_producer() -> None:
    producers = [FakeProducer(left=1), FakeProducer()]
    building = iter(producers)
    writer = DeadLetterWriter(lambda: next(building), prefix="t.", stage="sink-events")
    with pytest.raises(DeadLettersUnavailable):
        writer.park([RECORD])
    writer.park([RECORD])
    assert [len(producer.sent) for producer in producers] == [0, 1]


def test_no_letters_need_no_producer() -> None:
    DeadLetterWriter(lambda: pytest.fail("built"), prefix="t.", stage="sink-events").park([])
