import gzip
from typing import Any

import orjson
import pytest

from ingest_gateway.admission.chunk import Place, checked_encoding, chunk_record, place
from ingest_gateway.admission.records import Origin
from ingest_gateway.admission.refusal import Refusal
from schemas.reasons import Reason

QUERY = {"session_id": "s", "window_id": "w", "seq": "7"}


def test_a_chunk_is_placed_by_its_query() -> None:
    assert place(QUERY) == Place("s", "w", 7, None)
    assert place({**QUERY, "visitor_id": "v", "key": "k"}) == Place("s", "w", 7, "v")
    assert place({**QUERY, "visitor_id": ""}).visitor_id is None


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"session_id": None}, Reason.SESSION_ID_INVALID, "session_id is missing"),
        ({"session_id": ""}, Reason.SESSION_ID_INVALID, "session_id is empty"),
        (
            {"session_id": "a\ufffd"},
            Reason.SESSION_ID_INVALID,
            "session_id holds control characters or damaged text",
        ),
        ({"window_id": None}, Reason.PARAMETER_INVALID, "window_id is missing"),
        ({"window_id": "w" * 257}, Reason.PARAMETER_INVALID, "window_id is longer than 256 bytes"),
        ({"visitor_id": "\x00"}, Reason.PARAMETER_INVALID, "visitor_id holds control characters or damaged text"),
        *(
            ({"seq": seq}, Reason.PARAMETER_INVALID, "seq must count the chunks of a window: 0, 1, 2 …")
            for seq in (None, "", "-1", "1.0", "x", "٣", "2147483648", "99999999999")
        ),
    ],
)
def test_a_query_that_places_nothing_is_refused(change: dict[str, Any], reason: Reason, message: str) -> None:
    query = {name: value for name, value in {**QUERY, **change}.items() if value is not None}
    with pytest.raises(Refusal) as raised:
        place(query)
    assert (raised.value.reason, raised.value.message) == (reason, message)


@pytest.mark.parametrize("body", [b"[]", b' \r\n\t[{"type":4}]', b"\xef\xbb\xbf[]", b" " * 100 + b"[]", b"[broken"])
def test_a_chunk_that_can_be_an_array_passes(body: bytes) -> None:
    assert checked_encoding(body, "") == "identity"
    assert checked_encoding(gzip.compress(body), "") == "gzip"
    assert checked_encoding(gzip.compress(body), "gzip") == "gzip"


@pytest.mark.parametrize("body", [b'{"events":[]}', b"null", b"7", b'"["', b"garbage"])
def test_a_chunk_that_is_plainly_no_array_is_refused_also_inside_gzip(body: bytes) -> None:
    for sent in (body, gzip.compress(body)):
        with pytest.raises(Refusal) as raised:
            checked_encoding(sent, "")
        assert raised.value.reason is Reason.SHAPE_WRONG


def test_an_empty_chunk_is_refused() -> None:
    with pytest.raises(Refusal) as raised:
        checked_encoding(b"", "")
    assert raised.value.reason is Reason.SHAPE_WRONG


def test_a_chunk_that_is_not_what_it_says_is_broken() -> None:
    with pytest.raises(Refusal) as raised:
        checked_encoding(b"[]", "gzip")
    assert raised.value.reason is Reason.ENCODING_BROKEN


def test_a_chunk_is_a_record_with_its_bytes_as_they_came_and_the_rest_in_a_header() -> None:
    origin = Origin(project_id="p", settings={"version": 2}, received_at=9, ip="192.0.2.1", user_agent="agent")
    record = chunk_record(b"\x1f\x8b", encoding="gzip", codec="json", at=Place("s", "w", 7, "v"), origin=origin)
    assert (record.topic, record.key, record.value, record.headers[0]) == (
        "recordings",
        b"p/s",
        b"\x1f\x8b",
        ("kind", "chunk"),
    )
    name, meta = record.headers[1]
    assert isinstance(meta, bytes)
    assert (name, orjson.loads(meta)) == (
        "meta",
        {
            "v": 1,
            "project_id": "p",
            "session_id": "s",
            "window_id": "w",
            "seq": 7,
            "received_at": 9,
            "encoding": "gzip",
            "codec": "json",
            "settings": {"version": 2},
            "visitor_id": "v",
            "ip": "192.0.2.1",
            "user_agent": "agent",
        },
    )
