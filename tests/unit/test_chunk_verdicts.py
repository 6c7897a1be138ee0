"""Digest and sink say the same of a chunk: what one parks the other parks, for the same reason."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.kafka_consumer import ConsumedRecord
from schemas import chunks
from schemas.ids import session_key
from schemas.reasons import Reason
from schemas.topics import MAX_CHUNK_INFLATED_BYTES
from sinks.commit.loop import prepared
from sinks.topics.recordings import RecordingsSink
from stream_processors.digest import build_logic
from stream_processors.fold.logic import LogRecord
from stream_processors.fold.partition import PartitionFold

PROJECT = "11111111-1111-4111-8111-111111111111"
KEY = session_key(PROJECT, "s")
T0 = 1_765_000_000_000

Verdict = Reason | int
"""Why it was parked, or how many events it has."""


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": ("gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]) + b"\0"),
    "gzip undeclared": ("identity", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstandard.compress),
}


def verdict(data: bytes, *, encoding: str = "identity", codec: str = "json") -> Verdict:
    """Return what both say of a chunk."""
    meta = {
        **{"v": 1, "project_id": PROJECT, "session_id": "s", "window_id": "w", "seq": 0, "received_at": T0},
        **{"encoding": encoding, "codec": codec, "settings": {"version": 1}},
    }
    headers = [("kind", b"chunk"), ("meta", orjson.dumps(meta))]
    batch = PartitionFold(build_logic({})).apply([LogRecord(0, T0, "chunk", KEY, data, headers=headers)])
    (output,) = batch.outputs
    of_digest = batch.parked[0].reason if batch.parked else orjson.loads(output.value)["event_count"]
    item = prepared(RecordingsSink(), ConsumedRecord(0, 0, T0, "chunk", KEY, data, headers=tuple(headers)))
    assert item is not None
    of_sink = item.refusals[0].reason if item.content is None else item.content.body.event_count
    assert of_digest == of_sink
    return of_sink


def event(**data: Any) -> dict[str, Any]:
    return {"type": 5, "timestamp": T0, "data": data}


def packed(value: Any) -> str:
    return zlib.compress(orjson.dumps(value)).decode("latin-1")


def squeezed(**data: Any) -> dict[str, Any]:
    """Return a full snapshot as posthog-js sends it."""
    return {"type": 2, "timestamp": T0, "cv": "2024-10", "data": gzip.compress(orjson.dumps(data)).decode("latin-1")}


def padded(value: Any, size: int) -> bytes:
    """Return JSON of exactly so many bytes."""
    text = orjson.dumps(value)
    return text + b" " * (size - len(text))


@pytest.mark.parametrize("codec", ["json", "gzip", "zstd"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_the_limit_of_inflated_bytes_is_exact(name: str, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNK_INFLATED_BYTES", 5_000)
    encoding, pack = ENCODINGS[name]
    found = [verdict(pack(padded([event()], 5_000 + n)), encoding=encoding, codec=codec) for n in (-1, 0, 1)]
    assert found == [1, 1, Reason.CHUNK_TOO_LARGE]


def test_that_limit_as_it_is() -> None:
    limit = MAX_CHUNK_INFLATED_BYTES
    found = [verdict(gzip.compress(padded([event()], size), 1), encoding="gzip") for size in (limit, limit + 1)]
    assert found == [1, Reason.CHUNK_TOO_LARGE]


@pytest.mark.parametrize("pack", [packed, lambda value: squeezed(**value["data"])], ids=["packFn", "posthog-js"])
def test_what_is_packed_within_is_paid_from_the_same_budget(
    pack: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    chunk = orjson.dumps([pack(event(text="a" * 3_000)), event()])
    within = len(orjson.dumps(event(text="a" * 3_000) if pack is packed else {"text": "a" * 3_000}))
    for n in (-1, 0, 1):
        monkeypatch.setattr(chunks, "MAX_CHUNK_INFLATED_BYTES", len(chunk) + within - n)
        found.append(verdict(chunk))
    assert found == [2, 2, Reason.CHUNK_TOO_LARGE]


def test_the_limit_of_events_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_EVENTS", 50)
    found = [verdict(orjson.dumps([event()] * count)) for count in (49, 50, 51)]
    assert found == [49, 50, Reason.CHUNK_TOO_LARGE]


@pytest.mark.parametrize("pack", [None, packed, squeezed], ids=["plain", "packFn", "posthog-js"])
def test_the_limit_of_values_is_exact(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHECKED_FROM_BYTES", 100)
    monkeypatch.setattr(chunks, "MAX_VALUES", 1_000)

    def chunk(count: int) -> bytes:
        data = {"values": [0] * count}
        return orjson.dumps([squeezed(**data) if pack is squeezed else pack(event(**data)) if pack else event(**data)])

    # where it stands: commas and brackets around the list of so many values
    around = {None: 5, packed: 4, squeezed: 1}[pack]
    found = [verdict(chunk(1_000 - around + n)) for n in (-1, 0, 1)]
    assert found == [1, 1, Reason.CHUNK_TOO_LARGE]


def test_a_frame_that_asks_for_more_memory_than_decoders_have_to_give_is_malformed() -> None:
    def frame(window_log: int) -> bytes:
        parameters = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=False)
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return packer.compress(orjson.dumps([event()])) + packer.flush()

    found = [verdict(frame(window_log), encoding="zstd") for window_log in (23, 24)]
    assert found == [1, Reason.CHUNK_MALFORMED]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], 0),
        (["no packed event"], Reason.CHUNK_NOT_RRWEB),
        (["no packed event", packed(event())], 1),
        ([packed([1]), packed({"type": 4})], Reason.CHUNK_NOT_RRWEB),
        (["snow \u2603", event()], 1),
        ([squeezed() | {"data": "damaged"}], 1),
        ([event() | {"timestamp": chunks.LATEST_MS}], 1),
        ([event() | {"timestamp": chunks.LATEST_MS + 1}], Reason.CHUNK_NOT_RRWEB),
        ([event() | {"timestamp": 0}], Reason.CHUNK_NOT_RRWEB),
        ([event() | {"timestamp": 0.5}], 1),
        ({"events": []}, Reason.CHUNK_NOT_RRWEB),
    ],
)
def test_what_counts_as_an_event(items: Any, expected: Verdict) -> None:
    assert verdict(orjson.dumps(items)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'[{"type":4,"timestamp":5,"data":{"a":"\ud800"}}]', 1),
        (rb'[{"type":4,"timestamp":5,"data":{"a":"\u0000"}}]', 1),
        (b'\xef\xbb\xbf[{"type":4,"timestamp":5,"data":{"a":"\xff"}}]', 1),
        (b'[{"type":4,"timestamp":5}', Reason.CHUNK_MALFORMED),
        (b'[{"type":4,"timestamp":NaN}]', Reason.CHUNK_MALFORMED),
        (b"[" * 1_025 + b"]" * 1_025, Reason.CHUNK_MALFORMED),
        (gzip.compress(b'[{"type":4,"timestamp":5}]')[:-9], Reason.CHUNK_MALFORMED),
        (b"", Reason.CHUNK_MALFORMED),
    ],
)
def test_what_counts_as_json(text: bytes, expected: Verdict) -> None:
    assert verdict(text) == expected


_ITEMS = st.one_of(
    st.just(event(a=1)),
    st.just(packed(event())),
    st.just(squeezed(node={"id": 1})),
    st.builds(
        lambda kind, t: {"type": kind, "timestamp": t}, st.sampled_from([4, "4", True, None]), st.integers(-1, 1 << 60)
    ),
    st.text(max_size=20),
    st.none() | st.booleans() | st.floats() | st.lists(st.integers(0, 9), max_size=2),
)


@given(st.lists(_ITEMS, max_size=5), st.sampled_from(sorted(ENCODINGS)), st.integers(0, 60), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_it_holds_and_wherever_it_is_cut_both_say_the_same(
    items: list[Any], name: str, cut: int, whole: bool
) -> None:
    encoding, pack = ENCODINGS[name]
    data = pack(orjson.dumps(items))
    verdict(data if whole else data[:-cut], encoding=encoding)
