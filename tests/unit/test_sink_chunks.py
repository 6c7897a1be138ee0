import gzip
import zlib
from typing import Any

import orjson
import pytest
import zstandard

from schemas.chunks import Inflater
from schemas.reasons import Reason
from sinks.contract.verdicts import RecordRefused
from sinks.tables.chunks import ChunkBody, chunk_body

EVENTS = [{"type": 4, "timestamp": 1_000, "data": {"href": "/"}}, {"type": 3, "timestamp": 2_500.7, "data": {}}]
PLAIN = orjson.dumps(EVENTS)

ENCODED = {
    "identity": PLAIN,
    "gzip": gzip.compress(PLAIN),
    "zstd": zstandard.compress(PLAIN),
    "zlib": zlib.compress(PLAIN),
}


def test_codec_json_keeps_the_text_as_it_came() -> None:
    data = b' [ {"type": 4, "timestamp": 1000, "data": {"a": "\\u00fc\\n"}} ] '
    assert chunk_body(gzip.compress(data), encoding="gzip", codec="json") == ChunkBody(
        codec="json",
        events=data.decode(),
        payload=None,
        event_count=1,
        first_event_at=1_000,
        last_event_at=1_000,
        plain_bytes=len(data),
    )


@pytest.mark.parametrize(("codec", "encoding"), [("gzip", "gzip"), ("zstd", "zstd")])
def test_a_codec_that_is_the_encoding_keeps_the_bytes(codec: str, encoding: str) -> None:
    data = ENCODED[encoding]
    body = chunk_body(data, encoding=encoding, codec=codec)
    assert (body.codec, body.payload, body.events) == (codec, data, None)
    assert (body.event_count, body.first_event_at, body.last_event_at) == (2, 1_000, 2_500)
    assert (body.plain_bytes, body.stored_bytes) == (len(PLAIN), len(data))


@pytest.mark.parametrize(
    ("codec", "encoding"), [("gzip", "zstd"), ("zstd", "gzip"), ("gzip", "identity"), ("zstd", "zlib")]
)
def test_any_other_codec_compresses_anew(codec: str, encoding: str) -> None:
    body = chunk_body(ENCODED[encoding], encoding=encoding, codec=codec)
    assert body.codec == codec
    assert Inflater().inflate(body.payload or b"") == PLAIN


def chunk(text: str) -> bytes:
    return b'[{"type":3,"timestamp":5,"data":{"text":"' + text.encode() + b'"}}]'


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\\u0000b", "a\\ufffdb"),
        ("a\\ud800b", "a\\ufffdb"),
        ("\\udc00\\ud83d\\ude00", "\\ufffd\\ud83d\\ude00"),
        ("\\\\u0000", "\\\\u0000"),
        ("\\\\\\u0000", "\\\\\\ufffd"),
        ("\\ud83d\\ude00", "\\ud83d\\ude00"),
    ],
)
def test_what_breaks_json_functions_is_mended_and_nothing_else(text: str, stored: str) -> None:
    body = chunk_body(chunk(text), encoding="identity", codec="json")
    assert body.events == chunk(stored).decode()


def test_invalid_utf8_and_a_byte_order_mark_are_mended() -> None:
    body = chunk_body(b"\xef\xbb\xbf" + chunk("?").replace(b"?", b"\xff"), encoding="identity", codec="json")
    assert orjson.loads(body.events or "")[0]["data"]["text"] == "\ufffd"


def packed(text: bytes) -> str:
    return gzip.compress(text, mtime=0).decode("latin-1")


@pytest.mark.parametrize(
    "event",
    [
        packed(b'{"type":4,"timestamp":5}'),
        {"type": 2, "timestamp": 5, "cv": "2024-10", "data": packed(b'{"node":1}')},
    ],
)
def test_packed_events_are_never_mended_but_stored_as_bytes(event: Any) -> None:
    data = orjson.dumps([event, *EVENTS])
    body = chunk_body(data, encoding="identity", codec="json")
    assert (body.codec, body.events, body.event_count, body.first_event_at) == ("gzip", None, 3, 5)
    assert gzip.decompress(body.payload or b"") == data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x1f\x8bgarbage", Reason.CHUNK_MALFORMED),
        (b"not json", Reason.CHUNK_MALFORMED),
        (b"[1,2", Reason.CHUNK_MALFORMED),
        (b"[NaN]", Reason.CHUNK_MALFORMED),
        (b"", Reason.CHUNK_MALFORMED),
        (zstandard.compress(PLAIN * 1_000)[:60], Reason.CHUNK_MALFORMED),
        (b'{"type":4}', Reason.CHUNK_NOT_RRWEB),
        (b"[1,2]", Reason.CHUNK_NOT_RRWEB),
        (b'[{"type":4}]', Reason.CHUNK_NOT_RRWEB),
        (b'[{"type":4,"timestamp":-5}]', Reason.CHUNK_NOT_RRWEB),
        (gzip.compress(b"0" * 64_000_001), Reason.CHUNK_TOO_LARGE),
        (b"[" + b"[]," * 4_100_000 + b"[]]", Reason.CHUNK_TOO_LARGE),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else None,
)
def test_what_is_no_chunk_is_refused_with_its_reason(data: bytes, reason: Reason) -> None:
    with pytest.raises(RecordRefused) as refused:
        chunk_body(data, encoding="identity", codec="json")
    assert refused.value.reason is reason


def test_an_empty_chunk_is_a_chunk() -> None:
    body = chunk_body(b"[]", encoding="identity", codec="json")
    assert (body.event_count, body.first_event_at) == (0, None)


def test_an_event_without_a_time_costs_no_other() -> None:
    body = chunk_body(orjson.dumps([{"type": 1}, *EVENTS]), encoding="identity", codec="json")
    assert (body.event_count, body.first_event_at) == (2, 1_000)
