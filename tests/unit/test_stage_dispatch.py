"""What batches are on the wire."""

from adapters.dead_letters import DeadLetterCounts
from schemas.messages import DeadLetter, parse_dead_letter_headers
from schemas.reasons import Reason
from stream_processors.fold.batch import Batch
from stream_processors.fold.logic import LogRecord, Output, Parked
from stream_processors.kinds import ANALYZE
from stream_processors.runner.dispatch import Dispatch, count_parked
from stream_processors.runner.flights import Letter

DISPATCH = Dispatch(ANALYZE, "t.")


def parked(offset: int, reason: Reason, index: int = -1) -> Parked:
    return Parked(LogRecord(offset, 0, "events", b"k", b"v", (("kind", b"events"),)), reason, "why", index)


def test_outputs_go_to_the_partition_that_they_come_from_and_before_the_dead_letters() -> None:
    output = Output("signals", b"k", b"v", (("kind", b"x"),))
    letter = parked(7, Reason.ENGINE_ERROR)
    effects = DISPATCH.effects({3: Batch(outputs=(output,), parked=(letter,))})
    assert effects[0] == Letter("t.signals", 3, b"k", b"v", (("kind", b"x"),))
    assert effects[1][:4] == ("t.dead_letters", 3, b"k", b"v")
    description, original = parse_dead_letter_headers(effects[1].headers)
    assert original == [("kind", b"events")]
    assert description == DeadLetter(
        reason="engine_error",
        stage="analyze",
        topic="events",
        partition=3,
        offset=7,
        detail="why",
        at=description.at,
        version=description.version,
    )


def test_facts_come_with_deletions_and_without_the_partition_record() -> None:
    batch = Batch(facts=((b"a|3", b"x"),), deletions=(b"a|1",), record=(b"\0p|3", b"r"))
    assert DISPATCH.facts({0: batch}) == [
        Letter("t.analyze_changelog", 0, b"a|3", b"x"),
        Letter("t.analyze_changelog", 0, b"a|1", None),
    ]
    assert DISPATCH.records({0: batch}) == [Letter("t.analyze_changelog", 0, b"\0p|3", b"r")]


def test_parked_records_are_counted_in_the_order_of_the_log() -> None:
    ours, theirs = Reason.ENGINE_ERROR, Reason.CHUNK_MALFORMED
    batch = Batch(parked=(parked(2, ours), parked(3, ours), parked(5, theirs)), offset=9, records=10)
    assert count_parked(DeadLetterCounts(), {0: batch}) == DeadLetterCounts(records=10, ours=2, latest=ours)
    ends_badly = Batch(parked=(parked(8, ours), parked(9, ours)), offset=9, records=10)
    counts = count_parked(DeadLetterCounts(), {0: ends_badly})
    assert counts == DeadLetterCounts(records=10, ours=2, ours_in_a_row=2, latest=ours)


def test_events_parked_within_one_record_count_each() -> None:
    batch = Batch(parked=(parked(0, Reason.ENGINE_ERROR, 0), parked(0, Reason.ENGINE_ERROR, 1)), offset=0, records=1)
    assert count_parked(DeadLetterCounts(), {0: batch}).ours == 2
