import json
import uuid
from typing import Any

import pytest

from ingest_gateway.admission.event_fields import DEPTH_LIMIT, METADATA_LIMIT, RESERVED_EVENT_TYPES, TEXT_LIMITS
from ingest_gateway.admission.events import Admission, Rejected, admit, canonical
from ingest_gateway.admission.json_body import decode
from ingest_gateway.admission.refusal import Refusal
from schemas.ids import EventIds, event_seed
from schemas.reasons import Reason

PROJECT = "0190163d-8694-739b-aea5-966c26f8ad91"
RECEIVED = 1_764_057_600_000
ID = "0190163d-8694-739b-aea5-966c26f8ad92"


def judged(body: Any, *, max_events: int = 1_000) -> Admission:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return admit(decode(raw), project_id=PROJECT, received_at=RECEIVED, max_events=max_events)


def one(event: Any, **envelope: Any) -> Any:
    """Return the only event as it was accepted, or the only refusal."""
    admission = judged({"session_id": "s", "events": [event], **envelope})
    accepted = [e for session in admission.sessions for e in session.events]
    return (accepted + admission.rejected)[0]


def refused(body: Any, **limits: int) -> tuple[Reason, str]:
    with pytest.raises(Refusal) as raised:
        judged(body, **limits)
    return raised.value.reason, raised.value.message


def click(**fields: Any) -> dict[str, Any]:
    return {"event_type": "click", "id": ID, "timestamp": RECEIVED - 5, **fields}


# What is accepted, and how it looks then


def test_an_event_keeps_the_columns_that_it_sent_and_no_others() -> None:
    sent = click(
        page_url="https://shop.example/",
        x_position=-3,
        y_position=10.5,
        scroll_depth=40.4,
        metadata={"trusted": True},
    )
    assert one(sent) == {
        "event_type": "click",
        "id": ID,
        "timestamp": RECEIVED - 5,
        "page_url": "https://shop.example/",
        "x_position": -3,
        "y_position": 10,
        "scroll_depth": 40,
        "metadata": {"trusted": True},
    }


def test_null_counts_as_absent() -> None:
    sent = click(page_url=None, x_position=None, metadata=None, session_id=None, visitor_id=None)
    assert one(sent) == {"event_type": "click", "id": ID, "timestamp": RECEIVED - 5}


def test_unknown_fields_go_to_metadata() -> None:
    assert one(click(cart=3, restamped=True, metadata={"a": 1}))["metadata"] == {"a": 1, "cart": 3, "restamped": True}


def test_an_unknown_field_that_metadata_holds_too_keeps_both() -> None:
    assert one(click(cart=3, metadata={"cart": 1}))["metadata"] == {"cart": 1, "event.cart": 3}


def test_empty_metadata_is_left_out() -> None:
    assert "metadata" not in one(click(metadata={}))


@pytest.mark.parametrize(("name", "limit"), TEXT_LIMITS.items())
def test_a_text_is_cut_at_its_limit_in_bytes_without_cutting_a_character(name: str, limit: int) -> None:
    assert one(click(**{name: "a" * limit}))[name] == "a" * limit
    assert one(click(**{name: "a" * (limit + 1)}))[name] == "a" * limit
    cut = one(click(**{name: "a" + "é" * limit}))[name]
    assert len(cut.encode()) == limit - 1 + limit % 2
    assert cut == "a" + "é" * ((limit - 1) // 2)
    assert one(click(**{name: "a" * (limit - 1) + "\U0001f600"}))[name] == "a" * (limit - 1)


def test_coordinates_reach_to_the_ends_of_int4() -> None:
    event = one(click(x_position=-(2**31), y_position=2**31 - 1))
    assert (event["x_position"], event["y_position"]) == (-(2**31), 2**31 - 1)


def test_an_id_is_kept_in_lower_case() -> None:
    assert one(click(id=ID.upper()))["id"] == ID


def test_a_nul_and_a_lone_surrogate_are_replaced_everywhere() -> None:
    event = '{"event_type":"click","page_title":"a\\u0000b","metadata":{"k\\ud800":"\\u0000"}}'
    body = f'{{"session_id":"s","events":[{event}]}}'.encode()
    accepted = judged(body).sessions[0].events[0]
    assert accepted["page_title"] == "a\ufffdb"
    assert accepted["metadata"] == {"k\ufffd": "\ufffd"}


# Ids and time


def test_an_event_without_id_gets_one_from_project_session_events_and_place() -> None:
    events = [{"event_type": "click", "timestamp": RECEIVED}, {"event_type": "click", "timestamp": RECEIVED}]
    body = json.dumps({"session_id": "s", "sent_at": RECEIVED, "events": events}).encode()
    seed = event_seed(project_id=PROJECT, session_id="s", events=canonical(events))
    assert [e["id"] for e in judged(body).sessions[0].events] == [
        EventIds(seed=seed, count=1).make(0, RECEIVED),
        EventIds(seed=seed, count=2).make(1, RECEIVED),
    ]


def test_a_repeated_request_gives_the_same_ids_whatever_else_in_it_changed() -> None:
    first = judged(
        b'{"session_id":"s","sent_at":1764057600000,"events":[{"event_type":"a","timestamp":1764057600000}]}'
    )
    again = judged(b'{"events": [{"timestamp": 1764057600000, "event_type": "a"}], "session_id": "s"}')
    assert first.sessions[0].events == again.sessions[0].events


def test_an_id_depends_on_the_place_in_the_request_not_among_the_accepted() -> None:
    both = judged({"session_id": "s", "events": [{"event_type": ""}, click(id=None)]})
    seed = event_seed(project_id=PROJECT, session_id="s", events=canonical([{"event_type": ""}, click(id=None)]))
    assert both.sessions[0].events[0]["id"] == EventIds(seed=seed, count=2).make(1, RECEIVED - 5)


@pytest.mark.parametrize("timestamp", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 0, -5, 1_764_057_600])
def test_a_time_that_cannot_be_believed_is_replaced_and_kept_in_metadata(timestamp: Any) -> None:
    assert one(click(timestamp=timestamp, metadata={"a": 1})) == {
        "event_type": "click",
        "id": ID,
        "timestamp": RECEIVED,
        "restamped": True,
        "metadata": {"a": 1, "client_timestamp": timestamp},
    }


def test_accepted_events_whose_time_was_sent_and_not_believed_are_counted() -> None:
    in_seconds = click(id=None, timestamp=RECEIVED // 1_000)
    sent = [in_seconds, in_seconds, click(), click(id=None, timestamp=None), in_seconds | {"x_position": "left"}]
    admission = judged({"session_id": "s", "events": sent})
    assert (admission.accepted, admission.disbelieved) == (4, 2)


def test_an_event_without_time_happened_when_it_was_received() -> None:
    assert one(click(timestamp=None)) == {
        "event_type": "click",
        "id": ID,
        "timestamp": RECEIVED,
        "restamped": True,
    }


@pytest.mark.parametrize("sent", [RECEIVED + 600_001, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 10**15, None])
def test_an_id_is_made_of_what_the_client_sent_whether_it_is_believed_or_not(sent: Any) -> None:
    body = {"session_id": "s", "events": [{"event_type": "click", "timestamp": sent}]}
    made = {
        admit(decode(json.dumps(body).encode()), project_id=PROJECT, received_at=at, max_events=1)
        .sessions[0]
        .events[0]["id"]
        for at in (RECEIVED, RECEIVED + 1, RECEIVED + 86_400_000)
    }
    assert [uuid.UUID(each).version for each in made] == [8]


def test_the_id_made_for_an_event_without_time_holds_none() -> None:
    assert one({"event_type": "click"})["id"].startswith("00000000-0000-8")


# Sessions and what a request says about itself


def test_an_event_may_name_its_own_session_and_visitor() -> None:
    body = {
        "session_id": "s",
        "visitor_id": "v",
        "events": [
            click(event_name="1"),
            click(event_name="2", session_id="t", visitor_id="w"),
            click(event_name="3", session_id="s"),
        ],
    }
    admission = judged(body)
    assert [(s.session_id, s.visitor_id, [e["event_name"] for e in s.events]) for s in admission.sessions] == [
        ("s", "v", ["1", "3"]),
        ("t", "w", ["2"]),
    ]
    assert all("session_id" not in e and "visitor_id" not in e for s in admission.sessions for e in s.events)
    assert admission.accepted == 3


def test_without_a_session_of_the_request_only_the_events_that_name_one_are_accepted() -> None:
    admission = judged({"events": [click(session_id="t"), click()]})
    assert [s.session_id for s in admission.sessions] == ["t"]
    assert admission.rejected == [
        Rejected(
            1,
            Reason.SESSION_ID_INVALID,
            "session_id is missing in the event and in the request",
            None,
            click(),
        )
    ]


def test_context_is_kept_within_bounds_and_what_it_adds_is_custom() -> None:
    context = {
        "screen_resolution": "1920x1080",
        "referrer": "https://a.example/" + "x" * 3_000,
        "device_fingerprint": None,
        "plan": "pro",
        "custom_properties": {"tenant": "t"},
    }
    admission = judged({"session_id": "s", "sent_at": "2025-11-25T08:00:00Z", "context": context, "events": []})
    assert admission.sent_at == RECEIVED
    assert admission.context == {
        "screen_resolution": "1920x1080",
        "referrer": ("https://a.example/" + "x" * 3_000)[:2_048],
        "custom_properties": {"tenant": "t", "plan": "pro"},
    }


def test_a_clock_before_1970_or_after_2100_says_nothing_about_skew() -> None:
    assert judged({"session_id": "s", "sent_at": "9999-01-01T00:00:00Z", "events": []}).sent_at is None
    assert judged({"session_id": "s", "sent_at": "0001-01-01T00:00:00Z", "events": []}).sent_at is None


def test_no_events_are_no_error() -> None:
    assert judged({"session_id": "s", "events": []}) == Admission([], [], None, None)


# One event is refused, its neighbours are not


@pytest.mark.parametrize(
    ("event", "reason", "message"),
    [
        (7, Reason.EVENT_SHAPE_WRONG, "an event is an object, not a number"),
        ([], Reason.EVENT_SHAPE_WRONG, "an event is an object, not an array"),
        ({}, Reason.EVENT_TYPE_MISSING, "event_type is missing"),
        ({"event_type": None}, Reason.EVENT_TYPE_MISSING, "event_type is missing"),
        ({"event_type": " "}, Reason.EVENT_TYPE_MISSING, "event_type is empty"),
        ({"event_type": 5}, Reason.EVENT_FIELD_INVALID, "event_type must be a string, not a number"),
        ({"event_type": "é" * 33}, Reason.EVENT_FIELD_INVALID, "event_type is longer than 64 bytes"),
        (click(page_url=5), Reason.EVENT_FIELD_INVALID, "page_url must be a string, not a number"),
        (click(x_position="12"), Reason.EVENT_FIELD_INVALID, "x_position must be a number, not a string"),
        (click(x_position=True), Reason.EVENT_FIELD_INVALID, "x_position must be a number, not a boolean"),
        (
            click(y_position=2**31),
            Reason.EVENT_FIELD_INVALID,
            "y_position is not between -2147483648 and 2147483647",
        ),
        (
            click(y_position=1e30),
            Reason.EVENT_FIELD_INVALID,
            "y_position is not between -2147483648 and 2147483647",
        ),
        (click(id="12"), Reason.EVENT_FIELD_INVALID, "id must be a UUID like 0190163d-8694-739b-aea5-966c26f8ad91"),
        (click(id=12), Reason.EVENT_FIELD_INVALID, "id must be a UUID, not a number"),
        (
            click(timestamp="now"),
            Reason.EVENT_FIELD_INVALID,
            "timestamp must be ISO 8601 or epoch milliseconds, not a string that is neither ISO 8601 nor digits",
        ),
        (click(metadata=[1]), Reason.EVENT_FIELD_INVALID, "metadata must be an object, not an array"),
        (click(session_id=""), Reason.SESSION_ID_INVALID, "session_id is empty"),
        (click(session_id=5), Reason.SESSION_ID_INVALID, "session_id must be a string, not a number"),
        (click(visitor_id="a\nb"), Reason.EVENT_FIELD_INVALID, "visitor_id holds control characters or damaged text"),
    ],
)
def test_an_event_that_cannot_be_stored_is_refused_with_the_name_of_its_field(
    event: Any, reason: Reason, message: str
) -> None:
    admission = judged({"session_id": "s", "events": [click(), event, click()]})
    assert [(r.index, r.reason, r.message, r.event) for r in admission.rejected] == [(1, reason, message, event)]
    assert admission.accepted == 2


@pytest.mark.parametrize("kind", sorted(RESERVED_EVENT_TYPES))
def test_only_traceflow_makes_findings(kind: str) -> None:
    assert one({"event_type": kind}).reason is Reason.EVENT_TYPE_RESERVED


def test_an_error_is_a_clients_to_send() -> None:
    assert one(click(event_type="error"))["event_type"] == "error"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_know_refuses_its_event_only(number: str) -> None:
    body = f'{{"session_id":"s","events":[{{"event_type":"a"}},{{"event_type":"b","x_position":{number}}}]}}'
    admission = judged(body.encode())
    assert [e["event_type"] for e in admission.sessions[0].events] == ["a"]
    assert (admission.rejected[0].reason, admission.rejected[0].message) == (
        Reason.EVENT_FIELD_INVALID,
        "x_position holds NaN or an infinite number, which is no JSON",
    )


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_metadata_may_nest_to_its_limit_and_no_deeper() -> None:
    assert one(click(metadata={"a": nested(DEPTH_LIMIT - 1)}))["id"] == ID
    refusal = one(click(metadata={"a": nested(DEPTH_LIMIT)}))
    assert refusal.message == f"metadata nests deeper than {DEPTH_LIMIT} levels"
    assert one(click(a=nested(DEPTH_LIMIT))).reason is Reason.EVENT_FIELD_INVALID


def test_an_event_nested_beyond_the_encoder_does_not_spoil_its_neighbours_ids() -> None:
    body = {"session_id": "s", "events": [click(id=None), click(id=None, metadata={"a": nested(500)})]}
    admission = judged(body)
    assert (admission.accepted, [r.reason for r in admission.rejected]) == (1, [Reason.EVENT_FIELD_INVALID])


def test_metadata_may_be_as_large_as_its_limit_and_no_larger() -> None:
    fits = "x" * (METADATA_LIMIT - len('{"a":""}'))
    assert one(click(metadata={"a": fits}))["id"] == ID
    refusal = one(click(metadata={"a": fits + "x"}))
    assert refusal.reason is Reason.EVENT_TOO_LARGE
    assert refusal.message == f"metadata is {METADATA_LIMIT + 1} bytes, at most {METADATA_LIMIT}"


# The request as a whole is refused


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        ([], Reason.SHAPE_WRONG, "the body is an object with session_id and events, not an array"),
        (None, Reason.SHAPE_WRONG, "the body is an object with session_id and events, not null"),
        ({"session_id": "s"}, Reason.SHAPE_WRONG, "events must be an array, and is missing"),
        ({"session_id": "s", "events": {}}, Reason.SHAPE_WRONG, "events must be an array, and is an object"),
        ({"events": [{"event_type": "a"}]}, Reason.SESSION_ID_INVALID, "session_id is missing"),
        ({"session_id": "", "events": []}, Reason.SESSION_ID_INVALID, "session_id is empty"),
        ({"session_id": 5, "events": []}, Reason.SESSION_ID_INVALID, "session_id must be a string, not a number"),
        ({"session_id": "a" * 257, "events": []}, Reason.SESSION_ID_INVALID, "session_id is longer than 256 bytes"),
        ({"session_id": "é" * 129, "events": []}, Reason.SESSION_ID_INVALID, "session_id is longer than 256 bytes"),
        (
            {"session_id": "a\u0000b", "events": []},
            Reason.SESSION_ID_INVALID,
            "session_id holds control characters or damaged text",
        ),
        (
            {"session_id": "a\ud800", "events": []},
            Reason.SESSION_ID_INVALID,
            "session_id holds control characters or damaged text",
        ),
        (
            {"session_id": "s", "visitor_id": {}, "events": []},
            Reason.SHAPE_WRONG,
            "visitor_id must be a string, not an object",
        ),
        (
            {"session_id": "s", "sent_at": "soon", "events": []},
            Reason.SHAPE_WRONG,
            "sent_at must be ISO 8601 or epoch milliseconds, not a string that is neither ISO 8601 nor digits",
        ),
        (
            {"session_id": "s", "context": [], "events": []},
            Reason.SHAPE_WRONG,
            "context must be an object, not an array",
        ),
        (
            {"session_id": "s", "context": {"referrer": 1}, "events": []},
            Reason.SHAPE_WRONG,
            "context.referrer must be a string, not a number",
        ),
        (
            {"session_id": "s", "context": {"custom_properties": "x"}, "events": []},
            Reason.SHAPE_WRONG,
            "context.custom_properties must be an object, not a string",
        ),
        (
            {"session_id": "s", "context": {"custom_properties": {"a": "x" * 17_000}}, "events": []},
            Reason.SHAPE_WRONG,
            "context.custom_properties is 17008 bytes, at most 16384",
        ),
        (
            {"session_id": "s", "context": {"custom_properties": {"a": nested(32)}}, "events": []},
            Reason.SHAPE_WRONG,
            "context.custom_properties nests deeper than 32 levels",
        ),
    ],
)
def test_a_request_of_the_wrong_shape_is_refused_with_the_name_of_the_field(
    body: Any, reason: Reason, message: str
) -> None:
    assert refused(body) == (reason, message)


def test_more_events_than_the_limit_are_refused() -> None:
    body = {"session_id": "s", "events": [click()] * 4}
    assert refused(body, max_events=3) == (Reason.TOO_MANY_EVENTS, "4 events, at most 3 in one request")
    assert judged(body, max_events=4).accepted == 4
