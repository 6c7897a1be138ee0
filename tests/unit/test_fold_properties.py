"""Replay: a log cut anywhere, cached as little as may be, cut off after any write and read again: the same result."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reasons import Reason
from stream_processors.fold.batch import Batch
from stream_processors.fold.facts import SessionHead, changelog_flight, recover
from stream_processors.fold.logic import LogRecord, Output, Parked
from stream_processors.fold.partition import UNBOUNDED, PartitionFold
from tests.stage_toy import GAP_MS, RESIDUE_MS, State, ToyLogic

STEPS_MS = (-80, 0, 1, 1, 50, 50, 300, 900, GAP_MS + 1, RESIDUE_MS + GAP_MS)


def random_log(size: int, seed: int) -> list[LogRecord]:
    """Make a log in which time passes and most digests continue their chain.

    It is drawn from a seed, which is far quicker than letting Hypothesis draw each record, and lets it shrink the size.
    """
    rng = random.Random(seed)
    log, now, source = [], 1_000_000, 6
    for offset in range(size):
        now += rng.choice(STEPS_MS)
        kind, key, data = "events", rng.choice([b"a", b"b", b"c"]), dict[str, Any](x=rng.randint(1, 9))
        draw = rng.random()
        if draw < 0.55:
            if rng.random() < 0.4:
                data["wake"] = rng.randint(1, 1_500)
            if rng.random() < 0.1:
                data["refuse"] = True
            if rng.random() < 0.1:
                data["bad"] = rng.choice(("", "apply", "on_time", "on_close", "on_report"))
        elif draw < 0.65:
            kind, key, source = "digest", rng.choice([b"a", b"d"]), source + rng.choice((0, 1, 1, 1, -3))
            data["src"] = source if rng.random() < 0.9 else source + 2
        elif draw < 0.96:
            kind, key, source = "digest_tick", b"", source + 1
            data = {"at": now + rng.choice((0, 0, 0, -700)), "src": source}
            if rng.random() < 0.1:
                kind, data, source = "tick", {"bad": rng.choice(("", "on_tick"))}, source - 1
        else:
            kind = rng.choice(("events", "digest", "?"))
        value = orjson.dumps(data) if draw < 0.96 else rng.choice((b"", b"{"))
        log.append(LogRecord(offset, now, kind, key, value))
    return log


logs = st.builds(random_log, st.integers(1, 100), st.integers(0, 1 << 30))


class Oracle:
    """The fold of a log, one record a batch."""

    def __init__(self, log: Sequence[LogRecord]) -> None:
        fold = PartitionFold(ToyLogic())
        self.batches: list[Batch] = []
        self.at: list[dict[bytes, bytes]] = []
        for record in log:
            self.batches.append(fold.apply([record]))
            self.at.append(dict(fold.facts))
        self.outputs = [output for batch in self.batches for output in batch.outputs]
        self.parked = [parked for batch in self.batches for parked in batch.parked]
        self.facts = {key: fact for batch in self.batches for key, fact in batch.facts}
        self.records = {batch.record[0]: batch.record[1] for batch in self.batches}


def outcome(batches: Iterable[Batch]) -> tuple[list[Output], list[tuple[int, Reason, int]], int, int]:
    """Return what is independent of how a log was cut; tracebacks name lines, so a detail is not compared."""
    batches = list(batches)
    outputs = [output for batch in batches for output in batch.outputs]
    parked = [(p.record.offset, p.reason, p.index) for batch in batches for p in batch.parked]
    return outputs, parked, sum(b.records for b in batches), sum(b.ignored_sources for b in batches)


def cut_at_random(log: Sequence[LogRecord], rng: random.Random) -> list[list[LogRecord]]:
    batches: list[list[LogRecord]] = [[]]
    for record in log:
        if batches[-1] and rng.random() < 0.3:
            batches.append([])
        batches[-1].append(record)
    return batches


@given(log=logs, seed=st.integers(0, 1 << 30), cache_weight=st.sampled_from([0, 2, 5, UNBOUNDED]))
@settings(max_examples=120, deadline=None)
def test_borders_of_batches_and_the_size_of_the_cache_change_nothing(
    log: list[LogRecord], seed: int, cache_weight: int
) -> None:
    oracle = Oracle(log)
    fold = PartitionFold(ToyLogic(), cache_weight=cache_weight)
    batches = [fold.apply(part) for part in cut_at_random(log, random.Random(seed))]
    assert outcome(batches) == outcome(oracle.batches)
    assert fold.facts == oracle.at[-1]
    for batch in batches:
        assert batch.record[1] == oracle.records[batch.record[0]]
        for key, fact in batch.facts:
            assert fact == oracle.facts[key]


@given(log=logs, seed=st.integers(0, 1 << 30))
@settings(max_examples=120, deadline=None)
def test_a_fold_cut_off_after_any_write_goes_on_exactly(log: list[LogRecord], seed: int) -> None:
    oracle, rng = Oracle(log), random.Random(seed)
    changelog: dict[bytes, bytes] = {}
    sent: list[Output] = []
    parked: set[tuple[int, Reason, int]] = set()
    for last in (False, False, False, True):
        recovered = recover(changelog)
        check_recovered(oracle, recovered.record.offset, recovered.sessions)
        fold = PartitionFold(ToyLogic(), recovered, cache_weight=rng.choice([0, 3, UNBOUNDED]))
        # what precedes the state is read again, as after a rebalance
        rest = log[max(0, fold.position.offset - 3) :]
        for part in cut_at_random(rest, rng):
            batch = fold.apply(part)
            sent += batch.outputs
            parked |= {(p.record.offset, p.reason, p.index) for p in batch.parked}
            writes = changelog_flight(batch.facts, batch.deletions)
            rng.shuffle(writes)  # of a flight, any part may have landed
            writes.append(batch.record)
            cut_off = not last and rng.random() < 0.3
            for key, value in writes[: rng.randint(0, len(writes)) if cut_off else None]:
                if value is None:
                    changelog.pop(key, None)
                else:
                    changelog[key] = value
            if cut_off:
                break
    assert recover(changelog).sessions == oracle.at[-1]
    assert {repr(o) for o in sent} == {repr(o) for o in oracle.outputs}
    assert parked == {(p.record.offset, p.reason, p.index) for p in oracle.parked}


@given(log=logs, seed=st.integers(0, 1 << 30))
@settings(max_examples=120, deadline=None)
def test_a_new_owner_gives_the_same_outputs_in_the_same_order(log: list[LogRecord], seed: int) -> None:
    oracle, rng = Oracle(log), random.Random(seed)
    changelog: dict[bytes, bytes] = {}
    batches = []
    for part in cut_at_random(log, rng):
        batch = PartitionFold(ToyLogic(), recover(changelog)).apply(part)
        changelog.update([*batch.facts, batch.record])
        batches.append(batch)
    assert outcome(batches) == outcome(oracle.batches)


def check_recovered(oracle: Oracle, offset: int, sessions: Any) -> None:
    """Hold that recovered sessions are the fold's, and those ahead are what the fold will make of them."""
    true = oracle.at[offset] if offset >= 0 else {}
    for key in set(true) | set(sessions):
        fact = sessions.get(key)
        ahead = fact is not None and SessionHead.unpack(fact).offset > offset
        if ahead:
            assert oracle.facts[key + b"|%d" % SessionHead.unpack(fact).offset] == fact
        else:
            assert fact == true.get(key)


@given(log=logs)
@settings(max_examples=120, deadline=None)
def test_a_refused_record_leaves_every_state_as_if_it_had_not_been_there(log: list[LogRecord]) -> None:
    whole = PartitionFold(ToyLogic())
    batch = whole.apply(log)
    refused = {p.record.offset for p in batch.parked if p.index < 0 and p.record.kind in ToyLogic.session_kinds}
    without = PartitionFold(ToyLogic())
    without.apply([r for r in log if r.offset not in refused or r.kind == "digest"])
    assert whole.facts == without.facts


@given(log=logs, seed=st.integers(0, 1 << 30))
@settings(max_examples=120, deadline=None)
def test_what_is_deleted_is_never_what_recovery_needs(log: list[LogRecord], seed: int) -> None:
    fold = PartitionFold(ToyLogic())
    changelog: dict[bytes, bytes] = {}
    for part in cut_at_random(log, random.Random(seed)):
        batch = fold.apply(part)
        changelog.update(batch.facts)
        for key in batch.deletions:
            del changelog[key]
        changelog.update([batch.record])
        assert recover(changelog).sessions == fold.facts
        assert set(recover(changelog).leftovers) == set(fold.obsolete)


class MeteredLogic(ToyLogic):
    """Counts how often a state is changed by a record."""

    applied = 0

    def apply(self, state: State, key: bytes, record: LogRecord, out: Any) -> None:
        self.applied += 1
        super().apply(state, key, record, out)


@pytest.mark.parametrize("cache_weight", [0, UNBOUNDED])
def test_errors_cost_each_good_record_of_a_batch_at_most_one_more_application(cache_weight: int) -> None:
    logic = MeteredLogic()
    good, bad = {"x": 1}, {"x": 1, "refuse": True}
    values = [orjson.dumps(data) for data in (good, good, bad, bad)]
    log = [LogRecord(n, n, "events", b"ab"[n % 2 :][:1], values[n % 4]) for n in range(200)]
    batch = PartitionFold(logic, cache_weight=cache_weight).apply(log)
    assert len(batch.parked) == 100
    assert logic.applied <= 200 + 100


def test_a_parked_record_names_the_exception_within_2000_characters() -> None:
    log = [LogRecord(0, 0, "events", b"a", b'{"x": 1, "bad": "apply"}')]
    (parked,) = PartitionFold(ToyLogic()).apply(log).parked
    assert isinstance(parked, Parked)
    assert parked.reason is Reason.ENGINE_ERROR
    assert parked.detail.endswith("ValueError: apply is bad\n")
    assert len(parked.detail) <= 2_000
