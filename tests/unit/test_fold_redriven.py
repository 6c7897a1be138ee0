"""Redriven records in the fold: each has one effect, however often it is sent and wherever a fold is cut or resumed."""

import zlib
from typing import Any

import orjson
import pytest

from schemas.messages import Kind, redriven_headers
from schemas.reasons import Reason
from stream_processors.digest.logic import DigestLogic, DigestSettings
from stream_processors.fold.batch import Batch
from stream_processors.fold.facts import PartitionRecord, recover
from stream_processors.fold.logic import LogRecord
from stream_processors.fold.partition import PartitionFold
from tests.stage_toy import ToyDigest, ToyLogic


def record(offset: int, *, x: int = 1, key: bytes = b"a", kind: str = "events", **data: Any) -> LogRecord:
    headers = [("kind", kind.encode())]
    return LogRecord(offset, 1_000 + offset, kind, key, orjson.dumps({"x": x, **data}), headers)


def redriven(offset: int, number: int, **data: Any) -> LogRecord:
    inner = record(offset, **data)
    return LogRecord(
        offset, inner.timestamp, Kind.REDRIVEN, inner.key, inner.value, redriven_headers(number, inner.headers)
    )


def values(batch: Batch) -> list[dict[str, Any]]:
    return [orjson.loads(output.value) for output in batch.outputs]


def folded(*numbers: int) -> dict[str, int]:
    """Return what is left in the state after these values were folded once each."""
    state = 0
    for number in numbers:
        state = zlib.crc32(b"%d" % number, state)
    return {"n": len(numbers), "h": state}


def state_of(fold: PartitionFold[Any], key: bytes = b"a") -> dict[str, int]:
    state = ToyLogic().decode(fold.facts[key][42:])
    return {"n": state["n"], "h": state["h"]}


def test_a_redriven_record_is_folded_as_if_it_came_now() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, x=1), redriven(1, 7, x=2)])
    assert state_of(fold) == folded(1, 2)
    assert [value["id"] for value in values(batch)] == [0, 1]
    assert fold.position == PartitionRecord(offset=1, redriven=7, logged_at=1_001)


def test_one_that_is_sent_again_has_no_second_effect() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([redriven(0, 7, x=2), redriven(1, 8, x=3)])
    again = fold.apply([redriven(2, 7, x=2), redriven(3, 8, x=3), redriven(4, 9, x=4)])
    assert state_of(fold) == folded(2, 3, 4)
    assert values(again)[:2] == [{"id": 2, "refused": True}, {"id": 3, "refused": True}]


def test_a_number_that_was_never_sent_leaves_no_hole_that_blocks() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([redriven(0, 7, x=2), redriven(1, 9_000, x=3)])
    assert state_of(fold) == folded(2, 3)


@pytest.mark.parametrize("cut", range(6))
def test_the_number_survives_a_new_owner_wherever_the_old_one_ended(cut: int) -> None:
    log = [redriven(0, 1, x=2), record(1, x=3), redriven(2, 1, x=2), redriven(3, 2, x=4), redriven(4, 2, x=4)]
    first = PartitionFold(ToyLogic())
    facts: dict[bytes, bytes] = {}
    if cut:
        batch = first.apply(log[:cut])
        facts = dict([*batch.facts, batch.record])
    second = PartitionFold(ToyLogic(), recover(facts))
    second.apply(log)
    assert state_of(second) == folded(2, 3, 4)
    assert second.position._replace(logged_at=0) == PartitionRecord(offset=4, redriven=2)


def test_a_fact_that_is_ahead_of_the_partition_record_is_not_counted_twice() -> None:
    first = PartitionFold(ToyLogic())
    before = first.apply([record(0, x=1)])
    ahead = first.apply([redriven(1, 1, x=2)])
    second = PartitionFold(ToyLogic(), recover(dict([*before.facts, before.record, *ahead.facts])))
    second.apply([redriven(1, 1, x=2), redriven(2, 1, x=2)])
    assert state_of(second) == folded(1, 2)


def test_a_digest_is_redriven_though_its_chain_has_passed_it() -> None:
    fold = PartitionFold(ToyLogic())
    digests = [record(0, kind="digest", src=0, x=1, bad="apply"), record(1, kind="digest", src=1, x=2)]
    assert [parked.reason for parked in fold.apply(digests).parked] == [Reason.ENGINE_ERROR]
    fold.apply([redriven(2, 1, kind="digest", src=0, x=3), record(3, kind="digest", src=2, x=4)])
    assert state_of(fold) == folded(2, 3, 4)
    assert fold.position.source == 2


def test_one_that_fails_again_is_parked_as_it_was_under_its_new_place() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([redriven(5, 1, x=2, bad="apply")])
    parked = batch.parked[0]
    assert (parked.reason, parked.record.offset, parked.record.kind) == (Reason.ENGINE_ERROR, 5, "events")
    assert parked.record.headers == [("kind", b"events")]
    assert fold.apply([redriven(6, 1, x=2, bad="apply")]).parked == ()


@pytest.mark.parametrize("kind", ["tick", "digest_tick", "redriven", "", "other"])
def test_only_what_belongs_to_a_session_is_redriven(kind: str) -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([redriven(0, 1, kind=kind, at=9_000)])
    assert [parked.reason for parked in batch.parked] == [Reason.RECORD_MALFORMED]
    assert (fold.position.watermark, fold.position.redriven) == (0, 0)


def test_a_redriven_record_without_its_number_is_parked() -> None:
    bare = LogRecord(0, 0, Kind.REDRIVEN, b"a", b"{}", [("kind", b"redriven"), ("kind", b"events")])
    batch = PartitionFold(ToyLogic()).apply([bare])
    assert [parked.reason for parked in batch.parked] == [Reason.RECORD_MALFORMED]


def test_the_first_stage_gives_one_record_for_each_so_that_the_chain_has_no_hole() -> None:
    log = [
        record(0, kind="chunk", x=1),
        redriven(1, 1, kind="chunk", x=2),
        redriven(2, 1, kind="chunk", x=2),
        record(3, kind="chunk", x=3),
    ]
    batch = PartitionFold(ToyDigest()).apply(log)
    assert [value["src"] for value in values(batch)] == [0, 1, 2, 3]


def test_a_chunk_that_is_sent_again_gives_a_tick_which_touches_no_session() -> None:
    meta = {
        **{"v": 1, "project_id": "p", "session_id": "s", "window_id": "w", "seq": 0, "received_at": 1_000},
        **{"encoding": "identity", "codec": "json", "settings": {"version": 1}},
    }
    headers = [("kind", b"chunk"), ("meta", orjson.dumps(meta))]
    log = [
        LogRecord(offset, 5_000 + offset, Kind.REDRIVEN, b"p/s", b"[]", redriven_headers(3, headers))
        for offset in range(2)
    ]
    batch = PartitionFold(DigestLogic(DigestSettings())).apply(log)
    assert [(dict(output.headers)["kind"], output.key) for output in batch.outputs] == [
        (b"digest", b"p/s"),
        (b"digest_tick", None),
    ]
    assert values(batch)[1] == {"v": 1, "src": 1, "at": 5_001}
