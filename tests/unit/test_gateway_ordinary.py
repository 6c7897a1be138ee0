"""The quick way gives what the full way gives, or nothing."""

import json
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_gateway.admission.event_fields import COMMON_EVENT_TYPES, INTEGERS, METADATA_LIMIT, TEXT_LIMITS
from ingest_gateway.admission.events import admit
from ingest_gateway.admission.json_body import NotJson, decode
from ingest_gateway.admission.ordinary import OrdinaryReader
from ingest_gateway.admission.records import Origin, event_records
from ingest_gateway.admission.refusal import Refusal

RECEIVED = 1_764_057_600_000
ID = "0190163d-8694-739b-aea5-966c26f8ad92"
ORIGIN = Origin(
    project_id="0190163d-8694-739b-aea5-966c26f8ad91",
    settings={"version": 3},
    received_at=RECEIVED,
    ip="192.0.2.0",
    user_agent="agent",
)
CLICK = {"event_type": "click", "timestamp": RECEIVED}
READER = OrdinaryReader()


def quick(body: bytes) -> Any:
    """Return the key, the decoded record and the count of the quick way, or None."""
    read = READER.read(body, ORIGIN, max_events=1_000)
    return read and (read[0].key, orjson.loads(read[0].value), read[0].headers, read[1])


def full(body: bytes) -> Any:
    """Return the same of the full way, or None if it refuses anything or needs several records."""
    try:
        admission = admit(decode(body), project_id=ORIGIN.project_id, received_at=RECEIVED, max_events=1_000)
    except (Refusal, NotJson):
        return None
    records = list(event_records(admission, ORIGIN))
    if admission.rejected or len(records) != 1:
        return None
    return records[0].key, orjson.loads(records[0].value), records[0].headers, admission.accepted


def body_of(*events: Any, **envelope: Any) -> bytes:
    return json.dumps({"session_id": "s", **envelope, "events": list(events)}).encode()


EVERY_FIELD = {
    **CLICK,
    "id": ID.upper(),
    **{name: f"{name} é" for name in TEXT_LIMITS},
    **dict.fromkeys(INTEGERS, -7),
    "metadata": {"a": "b", "n": 1, "f": 1.5, "t": True, "z": None},
}


@pytest.mark.parametrize(
    "body",
    [
        body_of(CLICK),
        body_of(CLICK, CLICK, EVERY_FIELD),
        body_of({**CLICK, "timestamp": "2025-11-25T08:00:00.250Z"}),
        body_of({**CLICK, "timestamp": str(RECEIVED)}),
        body_of({**CLICK, "metadata": {}}),
        body_of({**CLICK, "page_title": 'a "quoted" \\ line\nbreak'}),
        body_of(
            CLICK,
            visitor_id="v",
            sent_at=RECEIVED,
            key="tfk_1",
            context={"referrer": "r", "plan": "pro", "custom_properties": {"a": [1]}},
        ),
        body_of(CLICK, sent_at=None, context=None, visitor_id=None),
        b' {"events" : [ {"timestamp":1764057600000, "event_type":"a", "event_type":"click"} ], "session_id":"s"} ',
        body_of({**CLICK, "page_title": "\U0001f600"}),
    ],
)
def test_an_ordinary_request_gives_the_same_record(body: bytes) -> None:
    assert quick(body) is not None
    assert quick(body) == full(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        body_of(),
        body_of(CLICK, session_id=""),
        body_of(CLICK, session_id="a\nb"),
        body_of(CLICK, visitor_id="x" * 300),
        body_of(CLICK, sent_at="2025-11-25T08:00:00Z"),
        body_of(CLICK, sent_at=-1),
        body_of(CLICK, sent_at=10**30),
        body_of(CLICK, context={"referrer": 5}),
        body_of(CLICK, context="x"),
        body_of(CLICK, unknown=1),
        body_of(CLICK, 7),
        body_of({**CLICK, "session_id": "t"}),
        body_of({**CLICK, "cart": 3}),
        body_of({**CLICK, "page_url": None}),
        body_of({**CLICK, "page_url": 5}),
        body_of({**CLICK, "page_url": "x" * 2_048}),
        body_of({**CLICK, "x_position": 1.5}),
        body_of({**CLICK, "x_position": 2**31}),
        body_of({**CLICK, "metadata": {"a": {"b": 1}}}),
        body_of({**CLICK, "metadata": []}),
        body_of({**CLICK, "metadata": {"a": 2**63}}),
        body_of({**CLICK, "metadata": {"a": 1e16}}),
        body_of({**CLICK, "id": "1"}),
        body_of({**CLICK, "timestamp": 5}),
        body_of({**CLICK, "timestamp": None}),
        body_of({**CLICK, "timestamp": "soon"}),
        body_of({"event_type": "click"}),
        body_of({**CLICK, "event_type": "my_own"}),
        body_of({**CLICK, "event_type": "rage_click"}),
        body_of({**CLICK, "event_name": "\u0000"}),
        body_of({**CLICK, "event_name": "\ud800"}),
        body_of({**CLICK, "metadata": {"\udc00": "\ud800\ud800"}}),
        body_of(CLICK)[:-1] + b"\xff}",
        body_of({**CLICK, "event_name": "@"}).replace(b"@", b"\xff"),
        b'{"session_id":"s","events":[{"event_type":"click","timestamp":1764057600000,"metadata":{"a":NaN}}]}',
        b'{"session_id":"s","events":[{"event_type":"click","timestamp":1764057600000,"metadata":{"a":1e999}}]}',
        body_of({**CLICK, "metadata": {"a": "x" * METADATA_LIMIT}}),
        body_of(*[CLICK] * 1_001),
    ],
)
def test_whatever_is_out_of_the_ordinary_goes_the_full_way(body: bytes) -> None:
    assert quick(body) is None


texts = st.text(max_size=20) | st.sampled_from(["x" * 15, "x" * 17, "x" * 65, "é" * 200, "\U0001f600" * 300])
numbers = st.integers(-(2**33), 2**33) | st.floats(allow_nan=False, allow_infinity=False)
scalars = texts | numbers | st.booleans() | st.none() | st.just(2**70)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2))
times = st.integers(RECEIVED - 7 * 86_400_000 - 2, RECEIVED + 600_002) | st.sampled_from(
    ["2025-11-25T08:00:00Z", "9999-01-01", 5, None]
)
events = st.fixed_dictionaries(
    {"event_type": st.sampled_from([*sorted(COMMON_EVENT_TYPES), "own", ""]), "timestamp": times},
    optional={
        "id": st.uuids().map(str) | st.just("x"),
        "metadata": st.dictionaries(texts, scalars, max_size=3) | values,
        "session_id": st.just("t"),
        "unknown": values,
        **{name: texts | st.none() for name in TEXT_LIMITS},
        **dict.fromkeys(INTEGERS, numbers),
    },
)
envelopes = st.fixed_dictionaries(
    {"session_id": texts, "events": st.lists(events, max_size=3)},
    optional={
        "visitor_id": texts | st.none(),
        "sent_at": st.integers(-5, 2**62) | st.none(),
        "context": st.dictionaries(st.sampled_from(["referrer", "screen_resolution", "plan"]), values, max_size=3),
        "key": texts,
        "other": values,
    },
)


@settings(max_examples=300, deadline=None)
@given(envelopes, st.booleans())
def test_what_the_quick_way_gives_is_always_what_the_full_way_gives(envelope: dict[str, Any], escape: bool) -> None:
    body = json.dumps(envelope, ensure_ascii=escape).encode("utf-8", "surrogatepass")
    if (given_quickly := quick(body)) is not None:
        assert given_quickly == full(body)


@settings(max_examples=100, deadline=None)
@given(envelopes, st.randoms(use_true_random=False))
def test_white_space_and_the_order_of_an_events_fields_change_no_id(envelope: dict[str, Any], rng: Random) -> None:
    shuffled = [dict(rng.sample([*event.items()], len(event))) for event in envelope["events"]]
    compact = json.dumps(envelope, separators=(",", ":")).encode()
    spacious = json.dumps({**envelope, "events": shuffled}, indent=1).encode()
    one, other = (full(body) for body in (compact, spacious))
    assert (one and [event["id"] for event in one[1]["events"]]) == (
        other and [event["id"] for event in other[1]["events"]]
    )


NOT_QUITE_JSON = [
    *(
        b'"',
        b"\\",
        b"\\u0041",
        b"\\/",
        b"\\ud83d",
        b"\x01",
        b"\x7f",
        b"\xef\xbb\xbf",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\x0b",
    ),
    *(
        b"1e5",
        b"1.0",
        b"-0",
        b"-0.0",
        b"1E400",
        b"1e22",
        b"5e-324",
        b"01",
        b"+1",
        b"1.",
        b".5",
        b"NaN",
        b"9" * 20,
        b"9" * 30,
    ),
    *(b"true", b"null", b"{}", b"[]", b",", b":", b'"a":1,', b"//"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"event_type": st.just("click"), "timestamp": times},
            optional={"metadata": st.dictionaries(texts, scalars, max_size=3), **dict.fromkeys(TEXT_LIMITS, texts)},
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=2) | st.sampled_from(NOT_QUITE_JSON),
    st.integers(0, 4),
)
def test_damage_anywhere_never_makes_a_record_that_the_full_way_would_not_make(
    sent: list[dict[str, Any]], place: int, damage: bytes, lost: int
) -> None:
    body = json.dumps({"session_id": "s", "sent_at": RECEIVED, "events": sent}, ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
    place %= len(body)
    damaged = body[:place] + damage + body[place + lost :]
    if (given_quickly := quick(damaged)) is not None:
        assert given_quickly == full(damaged)
