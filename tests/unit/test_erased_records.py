"""What a batch says of visitors and sessions, and what counts as received before an erasure."""

import pytest

from adapters.erasures import CLOCKS_DIFFER_MS, Sighting, was_received_before
from adapters.kafka_consumer import ConsumedRecord
from sinks.contract.sink import Prepared
from sinks.tables.erased import MAX_TIME_MS, sightings
from sinks.tables.record_owner import owner_of_key

PROJECT = "11111111-1111-4111-8111-111111111111"
S1, S2 = f"{PROJECT}/s1".encode(), f"{PROJECT}/s2".encode()


def item(
    key: bytes | None, *, visitor: str | None = None, received: int | None = None, appended: int = 0
) -> Prepared[str]:
    record = ConsumedRecord(0, 0, appended, "", key, b"")
    return Prepared(record, "", rows=1, size_bytes=0, visitor_id=visitor, received_at=received)


def said(*items: Prepared[str]) -> list[Sighting]:
    return sightings(items, {each.record.key: owner_of_key(each.record.key) for each in items})


def test_a_session_and_whom_it_names_are_asked_for_once_with_the_earliest_time() -> None:
    assert said(
        item(S1, visitor="ada", received=7),
        item(S1, visitor="ada", received=5),
        item(S1, visitor="ada", received=6),
        item(S2, visitor="ada", received=8),
    ) == [Sighting(PROJECT, "s1", "ada", 5), Sighting(PROJECT, "s2", "ada", 8)]


def test_what_the_gateway_has_no_time_of_is_as_old_as_the_broker_says() -> None:
    assert said(item(S1, visitor="ada", appended=9)) == [Sighting(PROJECT, "s1", "ada", 9)]


@pytest.mark.parametrize("at", [0, -1, MAX_TIME_MS, 10**30])
def test_a_time_that_no_clock_says_is_unknown(at: int) -> None:
    assert said(item(S1, visitor="ada", received=at)) == [Sighting(PROJECT, "s1", "ada", None)]
    assert said(item(S1, visitor="ada", received=at), item(S1, visitor="ada", received=3)) == [
        Sighting(PROJECT, "s1", "ada", 3)
    ]


@pytest.mark.parametrize("key", [None, b"", b"p", b"no-uuid/s", f"{PROJECT}/a\0b".encode(), b"\xff/s"])
def test_a_key_that_names_no_session_that_can_be_stored_is_passed_over(key: bytes | None) -> None:
    assert said(item(key, visitor="ada", received=1)) == []


def test_a_project_is_named_in_its_canonical_form() -> None:
    assert said(item(S1.upper().replace(b"/S1", b"/s1"))) == [Sighting(PROJECT, "s1", None, None)]


def test_up_to_a_minute_after_an_erasure_counts_as_before() -> None:
    def at(received_at: int | None) -> bool:
        return was_received_before(Sighting(PROJECT, "s1", "ada", received_at), 1_000)

    assert [at(1_000), at(1_000 + CLOCKS_DIFFER_MS), at(1_001 + CLOCKS_DIFFER_MS), at(None)] == [
        True,
        True,
        False,
        False,
    ]
