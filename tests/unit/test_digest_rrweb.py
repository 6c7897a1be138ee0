"""rrweb's events: packed, in order, and what is passed over."""

import gzip
import json
import zlib
from typing import Any

import orjson
import pytest

from schemas import chunks
from schemas.chunks import ChunkRefused, Event, Inflater, read_events
from schemas.reasons import Reason
from stream_processors.digest.rrweb import in_order


def events_of(chunk: Any) -> list[Event]:
    return in_order(read_events(chunk, Inflater()))


def packed(event: Any) -> str:
    return zlib.compress(json.dumps(event).encode()).decode("latin-1")


def squeezed(value: Any) -> str:
    return gzip.compress(json.dumps(value).encode()).decode("latin-1")


def test_events_come_in_order_of_time_and_those_of_one_instant_in_order_of_writing() -> None:
    chunk = [{"type": t, "timestamp": at, "data": {}} for t, at in [(3, 20), (4, 10), (2, 10), (3, 15)]]
    assert [(e.t, e.type) for e in events_of(chunk)] == [(10, 4), (10, 2), (15, 3), (20, 3)]


def test_an_event_of_pack_fn_is_unpacked() -> None:
    chunk = [packed({"type": 4, "timestamp": 5, "data": {"href": "/"}, "v": "v1"})]
    assert events_of(chunk) == [Event(5, 4, {"href": "/"})]


def test_a_full_snapshot_of_posthog_is_inflated() -> None:
    data = {"node": {"id": 1}}
    assert events_of([{"type": 2, "timestamp": 5, "cv": "2024-10", "data": squeezed(data)}]) == [Event(5, 2, data)]


def test_the_lists_of_a_mutation_of_posthog_are_inflated() -> None:
    data = {"source": 0, "texts": squeezed([1]), "attributes": [], "removes": squeezed([2]), "adds": squeezed([3])}
    (event,) = events_of([{"type": 3, "timestamp": 5, "cv": "2024-10", "data": data}])
    assert event.data == {"source": 0, "texts": [1], "attributes": [], "removes": [2], "adds": [3]}


@pytest.mark.parametrize(
    "bad",
    [
        None,
        7,
        [],
        {},
        {"type": "4", "timestamp": 5},
        {"type": 4, "timestamp": "5"},
        {"type": 4, "timestamp": 0},
        {"type": 4, "timestamp": -1},
        {"type": 4, "timestamp": 1e300},
        {"type": 4},
        "no packed event",
        "snow \u2603 is no byte",
        packed([1]),
    ],
    ids=repr,
)
def test_what_is_no_event_or_has_no_time_is_passed_over(bad: Any) -> None:
    good = {"type": 4, "timestamp": 5, "data": {}}
    assert events_of([bad, good]) == [Event(5, 4, {})]


def test_damaged_fields_leave_an_event_without_them() -> None:
    broken = {"type": 3, "timestamp": 5, "cv": "2024-10", "data": {"source": 0, "adds": "\x1f\x8b damaged"}}
    assert events_of([broken]) == [Event(5, 3, {"source": 0, "adds": None})]
    assert events_of([{"type": 2, "timestamp": 5, "cv": "2024-10", "data": "?"}]) == [Event(5, 2, {})]


def test_a_time_with_a_fraction_is_cut() -> None:
    assert events_of([{"type": 4, "timestamp": 5.9, "data": {}}]) == [Event(5, 4, {})]


def test_an_empty_array_is_a_chunk_without_events() -> None:
    assert events_of([]) == []


@pytest.mark.parametrize("chunk", [{}, {"events": []}, 5, None, "text", [1, 2], [{"a": 1}]], ids=repr)
def test_what_holds_no_event_at_all_is_no_recording(chunk: Any) -> None:
    with pytest.raises(ChunkRefused) as refused:
        events_of(chunk)
    assert refused.value.reason is Reason.CHUNK_NOT_RRWEB


def test_events_packed_into_one_chunk_share_its_budget() -> None:
    event = packed({"type": 2, "timestamp": 5, "data": {"x": "a" * 50_000}})
    with pytest.raises(ChunkRefused) as refused:
        read_events([event] * 3, Inflater(120_000))
    assert refused.value.reason is Reason.CHUNK_TOO_LARGE


def test_a_chunk_with_too_many_events_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_EVENTS", 3)
    with pytest.raises(ChunkRefused) as refused:
        events_of(orjson.loads(b'[{"type":4,"timestamp":5},{},{},{}]'))
    assert refused.value.reason is Reason.CHUNK_TOO_LARGE
