import pytest

from schemas import messages
from schemas.messages import AiJob, DeadLetter, Finding, MalformedRecord, NewerFormat, RecordingSummary, SessionSnapshot

FINDING = Finding(
    id="7b0e5a30-5f6c-5d8a-8a56-0d6f2a2f9a10",
    project_id="p",
    session_id="s",
    kind="rage_click",
    timestamp=1_765_361_000_000,
    x_position=10,
    evidence={"clicks": 4},
)
SNAPSHOT = SessionSnapshot(
    id="7b0e5a30-5f6c-5d8a-8a56-0d6f2a2f9a11",
    project_id="p",
    session_id="s",
    version=17,
    life=3,
    started_at=1,
    ended_at=2,
    duration_ms=1,
    pages_visited=["/a"],
    recording=RecordingSummary(
        start_time=1, end_time=2, duration_ms=1, event_count=9, page_count=1, pages_visited=["/a"]
    ),
)
JOB = AiJob(id="i", project_id="p", session_id="s", task_type="root_cause", priority=2, input_data={"pages": []})
LETTER = DeadLetter(
    reason="engine_error",
    stage="analyze",
    topic="events",
    partition=3,
    offset=99,
    index=2,
    detail="x: ü",
    at=5,
    version="0.1",
)


def test_a_message_comes_back_as_it_was() -> None:
    assert messages.decode_message(Finding, messages.encode(FINDING)) == FINDING
    assert messages.decode_message(SessionSnapshot, messages.encode(SNAPSHOT)) == SNAPSHOT
    assert messages.decode_message(AiJob, messages.encode(JOB)) == JOB


def test_a_dead_letter_comes_back_with_the_original_headers() -> None:
    headers = [*messages.dead_letter_headers(LETTER), ("kind", b"events")]
    assert messages.parse_dead_letter_headers(headers) == (LETTER, [("kind", b"events")])


def test_of_a_record_parked_twice_the_later_description_counts() -> None:
    first = messages.dead_letter_headers(LETTER)
    second = messages.dead_letter_headers(
        DeadLetter(reason="row_refused", stage="sink-events", topic="events", partition=3, offset=99)
    )
    letter, original = messages.parse_dead_letter_headers(second + first + [("kind", b"events")])
    assert letter.reason == "row_refused"
    assert original == [*first, ("kind", b"events")]


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b'{"v":"1"}', b"\xff"])
def test_what_is_no_object_with_a_format_is_malformed(value: bytes | None) -> None:
    with pytest.raises(MalformedRecord):
        messages.decode_object(value)


def test_a_missing_required_field_is_named() -> None:
    with pytest.raises(MalformedRecord, match="timestamp"):
        messages.decode_message(Finding, b'{"v":1,"id":"a","project_id":"p","session_id":"s","kind":"error"}')


def test_a_dead_letter_without_its_offset_is_malformed() -> None:
    with pytest.raises(MalformedRecord, match="offset"):
        messages.parse_dead_letter_headers(
            [(n, v) for n, v in messages.dead_letter_headers(LETTER) if n != "dl_offset"]
        )


def test_a_higher_format_is_told_apart_from_a_malformed_record() -> None:
    with pytest.raises(NewerFormat, match="format 2"):
        messages.decode_object(b'{"v":2}')
