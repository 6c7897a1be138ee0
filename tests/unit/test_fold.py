"""The rules of the fold, one by one: literals in, whole values out."""

from typing import Any

import orjson
import pytest

from schemas.reasons import Reason
from stream_processors.fold.batch import Batch
from stream_processors.fold.facts import NOTHING, PartitionRecord, Recovered, SessionHead, recover
from stream_processors.fold.logic import LogRecord, NewerStateFormat
from stream_processors.fold.partition import PartitionFold
from stream_processors.fold.sessions import UnencodableState
from tests.stage_toy import GAP_MS, RESIDUE_MS, State, ToyDigest, ToyLogic

END = GAP_MS + RESIDUE_MS


def record(offset: int, when: int, *, key: bytes = b"a", kind: str = "events", **data: Any) -> LogRecord:
    value = {"x": 1, **data} if kind == "events" else data
    return LogRecord(offset, when, kind, key, orjson.dumps(value))


def clock(offset: int, moment: int, **data: Any) -> LogRecord:
    return record(offset, moment, key=b"", kind="digest_tick", at=moment, **data)


def tick(offset: int, when: int, **data: Any) -> LogRecord:
    return record(offset, when, key=b"", kind="tick", **data)


def sent(batch: Batch, *topics: str) -> list[dict[str, Any]]:
    return [orjson.loads(output.value) for output in batch.outputs if output.topic in topics]


def versions(batch: Batch) -> list[tuple[bytes | None, int, bool]]:
    """Return the snapshots: key, version, closed."""
    snapshots = [(o.key, orjson.loads(o.value)) for o in batch.outputs if o.topic == "sessions"]
    return [(key, value["version"], value.get("closed", False)) for key, value in snapshots]


def head(fold: PartitionFold[State], key: bytes = b"a") -> SessionHead:
    return SessionHead.unpack(fold.facts[key])


def state(fold: PartitionFold[State], key: bytes = b"a") -> State:
    return ToyLogic().decode(fold.facts[key][42:])


def recovered(batch: Batch) -> Recovered:
    return recover(dict([*batch.facts, batch.record]))


def test_a_record_gives_its_outputs_a_fact_and_the_partition_record() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, 5_000)])
    assert [(o.topic, o.key) for o in batch.outputs] == [("signals", b"a")]
    assert batch.facts == ((b"a|0", fold.facts[b"a"]),)
    assert batch.record == (b"\0p|0", PartitionRecord(offset=0).pack())
    assert (batch.deletions, batch.parked, batch.records, batch.offset) == ((), (), 1, 0)
    assert head(fold) == SessionHead(
        is_closed=False, last_activity=5_000, offset=0, closes=5_000 + GAP_MS, expires=5_000 + END, wake=0
    )


def test_a_batch_deletes_what_the_batch_before_it_superseded() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0)])
    assert fold.apply([record(1, 0)]).deletions == ()
    assert fold.apply([record(2, 0)]).deletions == (b"a|0", b"\0p|0")
    assert fold.obsolete == (b"a|1", b"\0p|1")


def test_a_record_that_was_folded_before_is_skipped() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0), record(1, 0)])
    again = fold.apply([record(0, 0), record(1, 0)])
    assert (again.records, again.outputs, again.facts) == (0, (), ())
    assert again.record[0] == b"\0p|1"
    assert b"\0p|1" not in fold.obsolete


def test_a_session_closes_only_when_the_clock_is_beyond_its_gap() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, 0), clock(1, GAP_MS), clock(2, GAP_MS + 1)])
    assert versions(batch) == [(b"a", 0, False), (b"a", 2, True)]
    assert sent(batch, "ai_jobs")[1:] == [{"life": 0, "close": 1, "at": GAP_MS + 1}, {"tick": 2}]
    assert head(fold).is_closed
    assert fold.open_sessions == 0


def test_closing_emits_the_final_snapshot_and_no_report_besides() -> None:
    batch = PartitionFold(ToyLogic()).apply([record(0, 0), clock(1, END)])
    assert versions(batch) == [(b"a", 1, True)]


def test_a_session_is_forgotten_when_the_clock_is_beyond_its_residue() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0), clock(1, GAP_MS + 1), clock(2, END)])
    assert b"a" in fold.facts
    fold.apply([clock(3, END + 1)])
    assert fold.facts == {}
    assert fold.obsolete == (b"a|1", b"\0p|2")


def test_the_tick_that_closes_a_session_never_forgets_it() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0), clock(1, 10 * END)])
    assert head(fold).is_closed
    fold.apply([clock(2, 10 * END + 1)])
    assert fold.facts == {}


def test_a_tick_that_does_not_move_the_clock_settles_nothing_and_reports_what_changed() -> None:
    fold = PartitionFold(ToyLogic())
    first = fold.apply([clock(0, 5_000), record(1, 10, wake=5)])
    late = fold.apply([clock(2, 5_000), clock(3, 4_000), tick(4, 9_000)])
    assert versions(first) == []
    assert versions(late) == [(b"a", 1, False)]
    assert sent(late, "ai_jobs") == [{"tick": 2}, {"tick": 3}, {"tick": 4}]
    assert fold.position == PartitionRecord(offset=4, watermark=5_000, clock_tick=0, last_tick=4, logged_at=9_000)


def test_a_session_is_reported_once_after_it_changed_in_order_of_the_log() -> None:
    fold = PartitionFold(ToyLogic())
    log = [record(0, 0, key=b"b"), record(1, 0, key=b"c"), record(2, 0, key=b"a"), record(3, 0, key=b"b")]
    assert versions(fold.apply([*log, tick(4, 0)])) == [(b"c", 1, False), (b"a", 2, False), (b"b", 3, False)]
    assert versions(fold.apply([tick(5, 0)])) == []


def test_a_recovered_fold_reports_what_changed_since_the_last_tick_and_nothing_else() -> None:
    before = PartitionFold(ToyLogic()).apply([record(0, 0), tick(1, 0), record(2, 0, key=b"b")])
    after = PartitionFold(ToyLogic(), recovered(before)).apply([tick(3, 0)])
    assert versions(after) == [(b"b", 2, False)]


def test_waking_settles_in_order_of_what_is_due() -> None:
    fold = PartitionFold(ToyLogic())
    log = [record(0, 0, wake=300), record(1, 0, key=b"b", wake=200), record(2, 0, key=b"c", wake=400), tick(3, 0)]
    fold.apply(log)
    batch = fold.apply([clock(4, 301)])
    assert sent(batch, "signals") == [{"id": 4, "woken": [200]}, {"id": 4, "woken": [300]}]
    assert head(fold).wake == 0
    assert head(fold, b"c").wake == 400


def test_a_session_that_is_only_woken_is_not_reported() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0, wake=300), record(1, 0, key=b"b", wake=300), tick(2, 0), record(3, 0, key=b"b")])
    assert versions(fold.apply([clock(4, 301)])) == [(b"b", 4, False)]


def test_a_recovered_fold_does_not_report_a_session_whose_waking_is_in_its_facts_already() -> None:
    log = [record(0, 0, wake=300), tick(1, 0)]
    before, ahead = PartitionFold(ToyLogic()), PartitionFold(ToyLogic())
    batch = before.apply(log)
    facts = dict([*batch.facts, batch.record, *ahead.apply([*log, clock(2, 301)]).facts])
    after = PartitionFold(ToyLogic(), recover(facts))
    assert [output.topic for output in after.apply([clock(2, 301)]).outputs] == ["ai_jobs"]


def test_waking_is_no_activity() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0, wake=300), clock(1, 400), clock(2, GAP_MS + 1)])
    assert head(fold).is_closed


def test_a_session_that_is_due_for_both_is_woken_before_it_is_closed() -> None:
    batch = PartitionFold(ToyLogic()).apply([record(0, 0, wake=300), clock(1, END)])
    assert [o.topic for o in batch.outputs] == ["signals", "signals", "ai_jobs", "sessions", "ai_jobs"]


def test_late_data_reopens_the_same_life_and_its_activity_never_moves_back() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 5_000), clock(1, 5_001 + GAP_MS), record(2, 4_000)])
    assert head(fold) == SessionHead(
        is_closed=False, last_activity=5_000, offset=2, closes=5_000 + GAP_MS, expires=5_000 + END, wake=0
    )
    assert (state(fold)["life"], state(fold)["n"]) == (0, 2)
    assert fold.open_sessions == 1
    again = fold.apply([clock(3, 5_002 + GAP_MS)])
    assert sent(again, "ai_jobs")[:1] == [{"life": 0, "close": 2, "at": 5_002 + GAP_MS}]


def test_a_session_that_returns_after_its_residue_is_a_new_life() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0), clock(1, 2 * END), clock(2, 3 * END), record(3, 3 * END)])
    assert (state(fold)["life"], state(fold)["n"]) == (3, 1)


def test_the_chain_skips_what_came_before_and_ignores_what_comes_too_early() -> None:
    fold = PartitionFold(ToyLogic())
    sources = [7, 8, 8, 7, 10, 11, 9, 10, 11]
    log = [record(n, 0, kind="digest", src=src, x=src) for n, src in enumerate(sources)]
    batch = fold.apply(log)
    assert batch.ignored_sources == 2
    assert [s["id"] for s in sent(batch, "signals")] == [0, 1, 6, 7, 8]
    assert fold.position.source == 11


def digests(*sources: int, offset: int = 0) -> list[LogRecord]:
    return [record(offset + n, 0, kind="digest", src=src, x=src) for n, src in enumerate(sources)]


def chain(offset: int, src: int, log: str = "") -> LogRecord:
    return record(offset, 0, key=b"", kind="chain", v=1, src=src, log=log)


def test_a_gap_below_what_was_acknowledged_never_closes_so_it_is_parked_and_the_chain_goes_on() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([*digests(7, 8), *digests(12, 13, offset=2), chain(4, 13), *digests(14, offset=5)])
    assert (batch.ignored_sources, batch.lost_sources, fold.position.source) == (2, 5, 14)
    assert [(p.record.offset, p.reason, p.detail) for p in batch.parked] == [
        (4, Reason.SOURCES_LOST, "nothing stands for offsets 9 to 13 of the upstream log")
    ]


def test_a_gap_above_what_was_acknowledged_waits_for_its_sender() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([*digests(7, 8, 11), chain(3, 8), *digests(9, offset=4)])
    assert (batch.lost_sources, batch.parked, fold.position.source) == (0, (), 9)


def test_a_statement_before_the_first_of_a_chain_says_where_it_begins() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([chain(0, 6), *digests(8, 7, offset=1)])
    assert (batch.lost_sources, batch.parked, fold.position.source) == (0, (), 7)


def test_a_statement_about_an_upstream_log_that_was_made_anew_begins_a_new_chain() -> None:
    fold = PartitionFold(ToyLogic())
    log = [*digests(7, 8), chain(2, 8, "one"), chain(3, -1, "two"), *digests(0, 1, offset=4), chain(6, 1, "two")]
    batch = fold.apply(log)
    assert (fold.position.source, fold.position.source_id) == (1, "two")
    assert [p.detail for p in batch.parked if p.reason is Reason.SOURCES_LOST] == [
        "the upstream log was made anew: its id was one and is two"
    ]


@pytest.mark.parametrize("value", [b"", b"{", b'{"v":1}', b'{"v":1,"src":"7"}', b'{"v":99,"src":7}'])
def test_a_statement_that_cannot_be_read_is_parked(value: bytes) -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([*digests(3), LogRecord(1, 0, "chain", b"", value)])
    assert [p.record.offset for p in batch.parked] == [1]
    assert fold.position.source == 3


def test_a_record_without_a_source_has_no_part_in_the_chain() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0), tick(1, 0)])
    assert fold.position.source == -1


def test_a_refused_record_of_the_chain_counts_as_seen() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, 0, kind="digest", src=0, x=1, refuse=True), clock(1, 10, src=1)])
    assert [p.reason for p in batch.parked] == [Reason.CHUNK_MALFORMED]
    assert (fold.position.source, fold.position.watermark) == (1, 10)


def test_what_is_no_session_key_or_no_known_kind_is_parked() -> None:
    log = [record(0, 0, key=b""), record(1, 0, key=b"\0p"), record(2, 0, kind="novel")]
    batch = PartitionFold(ToyLogic()).apply(log)
    assert [(p.record.offset, p.reason, p.detail) for p in batch.parked] == [
        (0, Reason.RECORD_MALFORMED, "the key names no session"),
        (1, Reason.RECORD_MALFORMED, "the key names no session"),
        (2, Reason.RECORD_MALFORMED, "unknown kind 'novel'"),
    ]
    assert [s["refused"] for s in sent(batch, "signals")] == [True, True, True]


def test_a_refused_record_is_parked_with_its_reason_and_what_must_be_sent_is_sent() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, 0, x=2), record(1, 0, x=3, refuse=True), record(2, 0, x=4)])
    assert [(p.record.offset, p.reason, p.detail) for p in batch.parked] == [(1, Reason.CHUNK_MALFORMED, "as it says")]
    assert [s["id"] for s in sent(batch, "signals")] == [0, 1, 2]
    without = PartitionFold(ToyLogic())
    without.apply([record(0, 0, x=2), record(2, 0, x=4)])
    assert fold.facts == without.facts


def test_an_error_in_a_session_s_first_record_leaves_no_session() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, 0, bad="apply")])
    assert [p.reason for p in batch.parked] == [Reason.ENGINE_ERROR]
    assert (fold.facts, fold.open_sessions) == ({}, 0)


def test_an_error_in_late_data_leaves_the_session_closed() -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0), clock(1, END), record(2, 0, refuse=True)])
    assert head(fold).is_closed
    assert head(fold).offset == 1


def test_a_parked_event_within_a_record_is_kept_apart_from_the_record() -> None:
    (parked,) = PartitionFold(ToyLogic()).apply([record(0, 0, x=5)]).parked
    assert (parked.index, parked.reason) == (0, Reason.EVENT_FIELD_INVALID)


@pytest.mark.parametrize(("bad", "moment"), [("on_time", 301), ("on_close", END)])
def test_a_session_whose_settling_raises_is_closed_without_outputs(bad: str, moment: int) -> None:
    fold = PartitionFold(ToyLogic())
    fold.apply([record(0, 0, bad=bad, wake=300 if bad == "on_time" else 5_000), tick(1, 0)])
    before = state(fold)
    batch = fold.apply([clock(2, moment)])
    (parked,) = batch.parked
    assert (parked.record.offset, parked.reason) == (2, Reason.ENGINE_ERROR)
    assert parked.detail.startswith("session a: Traceback")
    assert [o.topic for o in batch.outputs] == ["ai_jobs"]
    assert (head(fold).is_closed, head(fold).offset, state(fold)) == (True, 2, before)
    assert fold.open_sessions == 0


def test_a_session_that_cannot_be_reported_is_parked_in_the_tick_s_name() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, 0, bad="on_report"), tick(1, 0), tick(2, 0)])
    assert [(p.record.offset, p.detail[:10]) for p in batch.parked] == [(1, "session a:")]


def test_a_tick_that_cannot_be_read_moves_nothing() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([record(0, 0), LogRecord(1, 0, "digest_tick", b"", b'{"src": 1}')])
    assert [p.reason for p in batch.parked] == [Reason.ENGINE_ERROR]
    assert (fold.position.watermark, fold.position.last_tick) == (0, -1)


def test_a_tick_that_raises_has_moved_the_clock_all_the_same() -> None:
    fold = PartitionFold(ToyLogic())
    batch = fold.apply([clock(0, 50, bad="on_tick")])
    assert [p.reason for p in batch.parked] == [Reason.ENGINE_ERROR]
    assert sent(batch, "signals") == [{"id": 0, "refused": True}]
    assert fold.position == PartitionRecord(offset=0, watermark=50, clock_tick=0, last_tick=0, logged_at=50)


def test_the_first_stage_gives_one_record_for_each_of_its_log_whatever_happens() -> None:
    kinds = ["chunk", "tick", "chunk", "chunk", "novel", "tick"]
    data: list[dict[str, Any]] = [{"x": 1}, {}, {"x": 2, "bad": "apply"}, {"x": 3}, {}, {}]
    log = [
        LogRecord(n, n, kind, b"a" if kind == "chunk" else b"", orjson.dumps(value))
        for n, (kind, value) in enumerate(zip(kinds, data, strict=True))
    ]
    batch = PartitionFold(ToyDigest()).apply(log)
    assert [s["src"] for s in sent(batch, "events")] == [0, 1, 2, 3, 4, 5]


def test_a_session_ahead_of_the_partition_record_is_left_alone_until_the_fold_is_there() -> None:
    log = [record(0, 0), record(1, 0, key=b"b"), record(2, 0), tick(3, 0), record(4, 0), clock(5, END), tick(6, 0)]
    whole = PartitionFold(ToyLogic())
    first, second = whole.apply(log[:2]), whole.apply(log[2:6])
    # of the second batch only a's fact has landed, its partition record has not
    (ahead,) = (fact for fact in second.facts if fact[0] == b"a|5")
    fold = PartitionFold(ToyLogic(), recover(dict([*first.facts, first.record, ahead])))
    batch = fold.apply(log[2:])
    assert versions(batch) == [(b"b", 1, False), (b"b", 5, True)]
    assert fold.facts == whole.facts
    whole.apply(log[6:])
    assert fold.position == whole.position


def test_leftovers_are_deleted_with_the_first_batch() -> None:
    fold = PartitionFold(ToyLogic(), Recovered(PartitionRecord(offset=4), {}, (b"a|1", b"\0p|3")))
    assert fold.apply([record(5, 0)]).deletions == (b"a|1", b"\0p|3")
    assert fold.obsolete == (b"\0p|4",)


def test_a_state_of_a_newer_format_ends_the_fold() -> None:
    class Old(ToyLogic):
        def decode(self, data: bytes) -> State:  # noqa: ARG002 (the contract's)
            raise NewerStateFormat("format 2, this version reads up to 1")

    facts = recovered(PartitionFold(ToyLogic()).apply([record(0, 0)]))
    with pytest.raises(NewerStateFormat):
        PartitionFold(Old(), facts).apply([record(1, 0)])
    with pytest.raises(NewerStateFormat):
        PartitionFold(Old(), facts).apply([clock(1, END)])


def test_a_state_that_cannot_be_decoded_is_kept_and_its_records_are_parked() -> None:
    class Damaged(ToyLogic):
        def decode(self, data: bytes) -> State:  # noqa: ARG002 (the contract's)
            raise ValueError("damaged")

    facts = recovered(PartitionFold(ToyLogic()).apply([record(0, 0)]))
    fold = PartitionFold(Damaged(), facts)
    batch = fold.apply([record(1, 0), tick(2, 0), clock(3, END)])
    assert [p.record.offset for p in batch.parked] == [1, 2, 3]
    assert fold.facts[b"a"][42:] == facts.sessions[b"a"][42:]
    assert head(fold).is_closed


def test_a_state_that_cannot_be_encoded_ends_the_fold() -> None:
    class Unencodable(ToyLogic):
        def encode(self, state: State) -> bytes:  # noqa: ARG002 (the contract's)
            raise TypeError("no JSON")

    fold = PartitionFold(Unencodable(), NOTHING)
    fold.feed([record(0, 0)])
    with pytest.raises(UnencodableState):
        fold.cut()
