"""Whether a log is still the one that a state was made from, and whether the state is all that there was."""

from stream_processors.fold.facts import PartitionRecord
from stream_processors.runner.continuity import LogSight, broken_by, left_unread, lost_by_changelog

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


READ_TO_ITS_END = LOG._replace(committed=8, changelog_low=2, changelog_end=6)
NOTHING = PartitionRecord()


def test_a_state_that_reaches_what_was_committed_was_read_whole() -> None:
    for committed in (0, 7, 8):
        # whatever the changelog holds beyond: an owner that is none any more may still write the same facts again
        sight = READ_TO_ITS_END._replace(committed=committed, changelog_end=60)
        assert left_unread(STATE, sight, read=5) is None
        assert lost_by_changelog(STATE, sight, read=5) is None


def test_a_state_before_what_was_committed_of_a_changelog_that_has_more_was_read_in_part() -> None:
    sight = READ_TO_ITS_END._replace(committed=9, changelog_end=7)
    assert left_unread(STATE, sight, read=5) == (
        "the group has committed 9, and the state ends at 7; the changelog was read up to 5, and ends at 7"
    )


def test_nothing_read_of_a_changelog_is_a_part_too_also_where_the_log_still_has_everything() -> None:
    assert left_unread(NOTHING, READ_TO_ITS_END, read=-1) == (
        "the group has committed 8, and the state ends at -1; the changelog was read up to -1, and ends at 6"
    )


def test_a_stage_that_has_written_nothing_yet_has_nothing_to_read() -> None:
    sight = LOG._replace(low=3)
    assert left_unread(NOTHING, sight, read=-1) is None
    assert lost_by_changelog(NOTHING, sight, read=-1) is None


def test_what_a_changelog_has_lost_is_folded_again_while_the_log_has_it() -> None:
    sight = READ_TO_ITS_END._replace(committed=12)
    for state, low in ((STATE, 8), (NOTHING, 0)):
        assert left_unread(state, sight._replace(low=low), read=5) is None
        assert lost_by_changelog(state, sight._replace(low=low), read=5) is None


def test_what_neither_the_changelog_nor_the_log_has_is_lost() -> None:
    assert lost_by_changelog(STATE, READ_TO_ITS_END._replace(committed=12, low=9), read=5) == (
        "the group has committed 12, and the state ends at 7; the changelog has no more, and the log begins at 9"
    )
    emptied = LOG._replace(committed=12, low=1, changelog_low=6, changelog_end=6)
    assert left_unread(NOTHING, emptied, read=-1) is None
    assert lost_by_changelog(NOTHING, emptied, read=-1) == (
        "the group has committed 12, and the state ends at -1; the changelog has no more, and the log begins at 1"
    )
