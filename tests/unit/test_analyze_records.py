from typing import Any

import orjson
import pytest

from schemas import messages
from schemas.reasons import Reason
from stream_processors.analyze.records import (
    Context,
    Digest,
    Event,
    EventBatch,
    read_batch,
    read_digest,
    read_moment,
    read_source,
)
from stream_processors.fold.logic import LogRecord, RecordRefused

EVENT: dict[str, Any] = {"id": "e", "timestamp": 5, "event_type": "click"}
BATCH: dict[str, Any] = {"v": 1, "received_at": 9, "settings": {"version": 1}, "events": [EVENT]}
DIGEST: dict[str, Any] = {
    **{"v": 1, "src": 3, "received_at": 9, "settings": {"version": 1}, "at": 8, "window_id": "w"},
    **{"event_count": 2, "signals": []},
}


def record(value: Any, kind: str = "events") -> LogRecord:
    return LogRecord(0, 9, kind, b"p/s", value if isinstance(value, bytes) else orjson.dumps(value))


@pytest.mark.parametrize(
    ("read", "declared"),
    [
        (Event, messages.Event),
        (Context, messages.Context),
        (EventBatch, messages.EventBatch),
        (Digest, messages.Digest),
    ],
)
def test_only_what_the_contract_declares_is_read(read: Any, declared: Any) -> None:
    assert set(read.__struct_fields__) <= set(declared.__annotations__)


def test_what_is_missing_takes_its_default() -> None:
    batch = read_batch(record(BATCH))
    assert (batch.visitor_id, batch.sent_at, batch.context) == ("", None, None)
    assert batch.events == [Event("e", 5, "click")]
    digest = read_digest(record(DIGEST, "digest"))
    assert (digest.first, digest.last, digest.ip) == (None, None, "")


def test_fields_that_a_newer_writer_adds_are_passed_over() -> None:
    events = [{**EVENT, "pressure": 0.5, "metadata": {"form": "f", "release": [1, {"a": None}]}}]
    batch = read_batch(record({**BATCH, "shard": 4, "events": events}))
    assert batch.events[0].metadata.form == "f"
    assert batch.events[0].event_type == "click"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({**BATCH, "events": [EVENT, {**EVENT, "timestamp": "5"}]}, "$.events[1].timestamp"),
        ({**BATCH, "events": [{**EVENT, "page_url": 3}]}, "$.events[0].page_url"),
        ({**BATCH, "events": [{**EVENT, "x_position": 0.5}]}, "$.events[0].x_position"),
        ({**BATCH, "context": {"referrer": 3}}, "$.context.referrer"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(value: Any, named: str) -> None:
    with pytest.raises(RecordRefused, match="record_malformed") as refused:
        read_batch(record(value))
    assert named in refused.value.detail


@pytest.mark.parametrize("value", [b'{"v":1,"received_at":9,"settings":{},"events":[],"ip":"\xff"}', b"[" * 5_000, b""])
def test_what_is_no_json_is_refused(value: bytes) -> None:
    with pytest.raises(RecordRefused, match="record_malformed"):
        read_batch(record(value))


def test_a_newer_format_is_told_from_a_malformed_record() -> None:
    for value in ({**BATCH, "v": 2}, {"v": 2, "events": "another shape"}):
        with pytest.raises(RecordRefused) as refused:
            read_batch(record(value))
        assert refused.value.reason is Reason.SCHEMA_NEWER


def test_a_digest_and_its_tick_name_their_source_and_a_tick_its_moment() -> None:
    assert read_source(record(DIGEST, "digest")) == 3
    tick = record({"v": 1, "src": 4, "at": 8}, "digest_tick")
    assert (read_source(tick), read_moment(tick)) == (4, 8)
