"""Whether a log is still the one that a state was made from."""

from stream_processors.continuity import LogSight, broken_by
from stream_processors.facts import PartitionRecord

STATE = PartitionRecord(offset=7, logged_at=5_000, topic_id="one")
LOG = LogSight("one", low=0, end=20, logged_at=5_000)


def test_a_log_that_holds_the_last_record_folded_continues_the_state() -> None:
    assert broken_by(STATE, LOG) is None
    assert broken_by(STATE, LOG._replace(end=8)) is None


def test_a_log_that_ends_before_the_state_does_not() -> None:
    assert broken_by(STATE, LOG._replace(end=7, logged_at=0)) == (
        "the log ends at 7, before record 7, which the state includes"
    )


def test_a_topic_made_anew_does_not_however_long_it_has_become() -> None:
    assert broken_by(STATE, LOG._replace(topic_id="two")) == (
        "the topic was deleted and made anew: its id was one and is two"
    )


def test_a_log_that_lost_its_end_and_has_grown_since_does_not() -> None:
    assert broken_by(STATE, LOG._replace(logged_at=6_000)) == (
        "record 7 is not the one that the state includes: the log lost its end, and has grown since"
    )


def test_a_record_that_retention_took_says_nothing() -> None:
    assert broken_by(STATE, LOG._replace(low=8, logged_at=0)) is None


def test_a_state_of_a_version_that_wrote_neither_id_nor_time_is_compared_with_the_log_s_end() -> None:
    older = PartitionRecord(offset=7)
    assert broken_by(older, LOG) is None
    assert broken_by(older, LOG._replace(end=3, logged_at=0)) is not None


def test_a_fold_that_has_begun_with_nothing_may_begin_in_any_log() -> None:
    assert broken_by(PartitionRecord(), LogSight("new", low=0, end=0)) is None
