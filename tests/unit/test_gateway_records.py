from typing import Any

import orjson

from ingest_gateway.admission.events import Admission, Rejected, SessionEvents, admit
from ingest_gateway.admission.json_body import decode
from ingest_gateway.admission.records import Origin, dead_letters, event_records
from schemas.messages import DeadLetter, parse_dead_letter_headers
from schemas.reasons import Reason
from schemas.topics import MAX_RECORD_BYTES

PROJECT = "0190163d-8694-739b-aea5-966c26f8ad91"
RECEIVED = 1_764_057_600_000
ORIGIN = Origin(project_id=PROJECT, settings={"version": 3}, received_at=RECEIVED, ip="192.0.2.0", user_agent="agent/1")
EVENT: Any = {"id": "i", "timestamp": 1, "event_type": "click"}


def test_a_session_is_one_record_with_everything_that_the_request_says() -> None:
    admission = Admission([SessionEvents("s", "v", [EVENT])], [], 5, {"referrer": "r"})
    (record,) = event_records(admission, ORIGIN)
    assert (record.topic, record.key, record.headers) == ("events", f"{PROJECT}/s".encode(), [("kind", "events")])
    assert orjson.loads(record.value) == {
        "v": 1,
        "project_id": PROJECT,
        "session_id": "s",
        "received_at": RECEIVED,
        "settings": {"version": 3},
        "events": [EVENT],
        "visitor_id": "v",
        "sent_at": 5,
        "ip": "192.0.2.0",
        "user_agent": "agent/1",
        "context": {"referrer": "r"},
    }


def test_what_is_not_known_is_left_out() -> None:
    origin = Origin(project_id=PROJECT, settings={"version": 1}, received_at=1, ip=None, user_agent=None)
    (record,) = event_records(Admission([SessionEvents("s", None, [EVENT])], [], None, None), origin)
    assert sorted(orjson.loads(record.value)) == ["events", "project_id", "received_at", "session_id", "settings", "v"]


def test_each_session_has_its_own_record() -> None:
    admission = Admission([SessionEvents("s", None, [EVENT]), SessionEvents("t", None, [EVENT])], [], None, None)
    assert [r.key for r in event_records(admission, ORIGIN)] == [f"{PROJECT}/s".encode(), f"{PROJECT}/t".encode()]


def test_a_large_session_is_split_between_events_and_nothing_else_changes() -> None:
    context: Any = {"custom_properties": {"events": []}}
    events: Any = [{**EVENT, "page_title": f"{n}" * 40} for n in range(10)]
    admission = Admission([SessionEvents("s", "v", events)], [], 5, context)
    (whole,) = (orjson.loads(r.value) for r in event_records(admission, ORIGIN))
    parts = list(event_records(admission, ORIGIN, max_bytes=700))
    assert len(parts) > 2
    assert all(len(p.value) <= 700 for p in parts)
    assert {p.key for p in parts} == {f"{PROJECT}/s".encode()}
    decoded = [orjson.loads(p.value) for p in parts]
    assert [event for part in decoded for event in part["events"]] == events
    assert all({**part, "events": []} == {**whole, "events": []} for part in decoded)


def test_the_largest_event_that_admission_lets_through_fits_a_record() -> None:
    texts = dict.fromkeys(("page_url", "page_title", "error_message", "error_stack"), "\\u0001" * 20000)
    fields = ",".join(f'"{name}":"{text}"' for name, text in texts.items())
    body = f'{{"session_id":"s","events":[{{"event_type":"a",{fields},"metadata":{{"a":"{"x" * 65_000}"}}}}]}}'
    admission = admit(decode(body.encode()), project_id=PROJECT, received_at=RECEIVED, max_events=1)
    (record,) = event_records(admission, ORIGIN)
    assert admission.accepted == 1
    assert len(record.value) < MAX_RECORD_BYTES


def test_a_refused_event_is_a_dead_letter_with_its_reason_and_place() -> None:
    rejected = Rejected(4, Reason.EVENT_FIELD_INVALID, "x_position must be a number", "s", {"x_position": "é"})
    (letter,) = dead_letters([rejected], ORIGIN, version="1.2")
    assert (letter.topic, letter.key, letter.value) == (
        "dead_letters",
        f"{PROJECT}/s".encode(),
        '{"x_position":"é"}'.encode(),
    )
    headers: Any = letter.headers
    assert parse_dead_letter_headers(headers) == (
        DeadLetter(
            reason="event_field_invalid",
            stage="gateway",
            topic="",
            partition=-1,
            offset=-1,
            index=4,
            detail="x_position must be a number",
            at=RECEIVED,
            version="1.2",
        ),
        [],
    )


def test_a_refused_event_without_session_has_a_key_without_one() -> None:
    (letter,) = dead_letters([Rejected(0, Reason.EVENT_SHAPE_WRONG, "", None, 7)], ORIGIN, version="1")
    assert (letter.key, letter.value) == (f"{PROJECT}/".encode(), b"7")


def test_a_refused_event_larger_than_a_record_is_cut() -> None:
    rejected = Rejected(0, Reason.EVENT_TOO_LARGE, "", "s", {"a": "x" * 2_000_000})
    (letter,) = dead_letters([rejected], ORIGIN, version="1")
    assert len(letter.value) == MAX_RECORD_BYTES
