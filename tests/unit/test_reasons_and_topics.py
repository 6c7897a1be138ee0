from schemas import topics
from schemas.reasons import Blame, Reason


def test_every_reason_has_blame_and_a_sentence() -> None:
    for reason in Reason:
        assert reason.describe
        assert reason.blame in Blame


def test_reason_codes_are_lower_snake_case_of_their_names() -> None:
    assert [r.value for r in Reason] == [r.name.lower() for r in Reason]


def test_only_what_may_pass_by_itself_is_answered_503() -> None:
    assert {r for r in Reason if r.status == 503} == {r for r in Reason if r.blame is Blame.TRANSIENT}


def test_changelogs_are_compacted_and_nothing_else_forgets_by_key() -> None:
    assert {t.name for t in topics.ALL if t.cleanup == "compact"} == {"analyze_changelog", "digest_changelog"}


def test_the_log_keeps_the_brokers_time() -> None:
    assert {t.configs()["message.timestamp.type"] for t in topics.ALL} == {"LogAppendTime"}


def test_a_chunk_fits_with_its_envelope_and_a_dead_letter_holds_it() -> None:
    assert topics.RECORDINGS.max_message_bytes > topics.MAX_CHUNK_BYTES
    assert topics.DEAD_LETTERS.max_message_bytes > topics.RECORDINGS.max_message_bytes
    assert topics.EVENTS.max_message_bytes > topics.MAX_RECORD_BYTES
