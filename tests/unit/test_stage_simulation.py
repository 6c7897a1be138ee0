"""One partition, several owners at once: is what they leave in the changelog always the exact fold?

Each world is made from a seed: a log, a compacted changelog, and owners that take steps at random. An owner recovers,
folds while it writes, and writes its flights record by record. At any step it may freeze (and wake up long after
another took over), or be killed (then any part of what is in flight lands). Records of a flight may be lost while later
ones land. The log cleaner runs whenever it likes, within `min.compaction.lag`. Fold and facts are the real ones.

Every recovered state is compared with the offline fold. At the end all zombies wake up and speak, and a last owner
recovers. Nothing may be missing, doubled or different. Owners say up to where everything was acknowledged, at random
and late: nothing that still comes may be called lost. The planted faults show that the simulation would see it.

TRACEFLOW_SIMULATION_SECONDS=3600 looks for longer, from other seeds.
"""

import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from stream_processors.fold.chain import CHAIN_HEADERS, Statement, write_statement
from stream_processors.fold.facts import HEAD_BYTES, Recovered, SessionHead, Write, changelog_flight, recover
from stream_processors.fold.logic import LogRecord, Output
from stream_processors.fold.partition import UNBOUNDED, PartitionFold
from tests.stage_toy import ToyDigest, ToyLogic

GAP, RESIDUE = 12, 25
COMPACTION_LAG = 400
PATIENCE = 20_000

SECONDS = float(os.environ.get("TRACEFLOW_SIMULATION_SECONDS", "3"))
FIRST_SEED = int(os.environ.get("TRACEFLOW_SIMULATION_SEED", "0" if SECONDS == 3 else str(time.time_ns() % 10**9)))

Steps = Iterator[None]
Fold = PartitionFold[dict[str, Any]]


class Broken(Exception):
    """What was promised does not hold."""


@dataclass(frozen=True)
class Rules:
    """The rules of a stage; each one can be left out."""

    deletes_one_batch_later: bool = True
    writes_three_flights: bool = True
    seeks_back: bool = True
    outruns_the_cleaner: bool = True
    """The cleaner leaves alone what is younger than a lag, and whoever recovers for longer ends itself."""
    sends_the_first_record_alone: bool = True
    says_what_was_acknowledged: bool = True
    """And not what it has only folded."""
    ignores_what_comes_too_early: bool = True


def toy() -> ToyLogic:
    return ToyLogic(gap_ms=GAP, residue_ms=RESIDUE)


def digest() -> ToyLogic:
    return ToyDigest(gap_ms=GAP, residue_ms=RESIDUE)


def make_log(rng: random.Random) -> list[LogRecord]:
    log, now, keys = [], 1_000, rng.randint(2, 6)
    for offset in range(rng.randint(60, 260)):
        now += rng.choice((0, 0, 1, 1, 2, 3)) if rng.random() < 0.93 else rng.randint(10, 50)
        if rng.random() < 0.3:
            value = orjson.dumps({"at": now + rng.choice((0, 0, 0, -3, 4))})
            kind = "tick" if rng.random() < 0.2 else "digest_tick"
            log.append(LogRecord(offset, now, kind, b"", value))
            continue
        data: dict[str, Any] = {"x": rng.randint(1, 9)}
        if rng.random() < 0.3:
            data["wake"] = rng.randint(1, 15)
        if rng.random() < 0.05:
            data["bad"] = rng.choice(("apply", "on_time", ""))
        late = 0 if rng.random() < 0.85 else rng.randint(1, 45)
        log.append(LogRecord(offset, now - late, "events", b"k%d" % rng.randrange(keys), orjson.dumps(data)))
    return log


def as_recordings(log: list[LogRecord]) -> list[LogRecord]:
    """Return a log for the first stage."""
    return [replace(record, kind="chunk" if record.kind == "events" else "tick") for record in log]


class Offline:
    """The fold without faults, one record a batch."""

    def __init__(self, log: list[LogRecord], logic: ToyLogic) -> None:
        fold = PartitionFold(logic)
        self.at: list[dict[bytes, bytes]] = []
        self.facts: dict[bytes, bytes] = {}
        self.outputs: dict[Output, None] = {}
        for record in log:
            batch = fold.apply([record])
            self.at.append(dict(fold.facts))
            self.facts.update(batch.facts)
            self.outputs |= dict.fromkeys(batch.outputs)

    def check(self, recovered: Recovered) -> None:
        offset = recovered.record.offset
        true = self.at[offset] if offset >= 0 else {}
        for key in sorted(set(true) | set(recovered.sessions)):
            fact = recovered.sessions.get(key)
            ahead = fact is not None and SessionHead.unpack(fact).offset > offset
            expected = (
                self.facts.get(key + b"|%d" % SessionHead.unpack(fact).offset) if fact and ahead else true.get(key)
            )
            if fact != expected:
                what = "lost" if fact is None else "risen" if expected is None else "stale"
                raise Broken(f"{what}: {key!r} at record {offset}")


@dataclass
class Changelog:
    """One partition of a compacted topic: records with their position and the time of their writing."""

    records: list[tuple[int, int, bytes, bytes | None]] = field(default_factory=list)
    end: int = 0

    def append(self, key: bytes, value: bytes | None, *, now: int) -> None:
        self.records.append((self.end, now, key, value))
        self.end += 1

    def compact(self, rng: random.Random, *, now: int, lag: int, tombstones_kept: int) -> None:
        if len(self.records) < 4:
            return
        clean = rng.randint(1, len(self.records) - 1)  # the rest is the active segment
        while clean and self.records[clean - 1][1] > now - lag:
            clean -= 1
        last = {key: position for position, _, key, _ in self.records[:clean]}
        self.records[:clean] = [
            record
            for record in self.records[:clean]
            if last[record[2]] == record[0] and not (record[3] is None and record[1] < now - tombstones_kept)
        ]

    def read(self, start: int, end: int, count: int) -> list[tuple[int, int, bytes, bytes | None]]:
        return [record for record in self.records if start <= record[0] < end][:count]


class Owner:
    """A process that believes that it owns the partition."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.in_flight: list[Output | Write] = []
        self.frozen_until = 0
        self.dead = False
        self.failed = False
        self.steps = self.live()

    def deliver(self) -> None:
        item = self.in_flight.pop(0)
        if self.world.rng.random() < self.world.loss:
            self.failed = True
        elif isinstance(item, Output):
            self.world.output(item)
        else:
            self.world.changelog.append(*item, now=self.world.now)

    def write(self, flight: Iterable[Output | Write], fold: Fold) -> Steps:
        """Write a flight and wait for all of it; the fold goes on meanwhile."""
        self.in_flight.extend(flight)
        while self.in_flight:
            self.deliver()
            if self.world.rng.random() < 0.1 and not self.is_first(fold):
                self.feed(fold)
            yield
        if self.failed:
            self.dead = True
            yield

    def is_first(self, fold: Fold) -> bool:
        return self.world.rules.sends_the_first_record_alone and fold.position.offset <= 0

    def feed(self, fold: Fold) -> None:
        start = fold.position.offset + 1
        count = 1 if start == 0 and self.is_first(fold) else self.world.rng.randint(1, 12)
        fold.feed(self.world.log[start : min(start + count, self.world.head)])

    def recover(self) -> Steps:
        world = self.world
        began, position, end = world.now, 0, world.changelog.end
        self.facts: dict[bytes, bytes] = {}
        while position < end:
            if world.rng.random() < 0.05:
                self.frozen_until = world.now + world.rng.choice((50, 300, 800))
            found = world.changelog.read(position, end, world.rng.randint(1, 30))
            for _, _, key, value in found:
                if value is None:
                    self.facts.pop(key, None)
                else:
                    self.facts[key] = value
            position = found[-1][0] + 1 if found else end
            yield
        if world.rules.outruns_the_cleaner and world.now - began >= COMPACTION_LAG:
            self.dead = True
            yield

    def live(self) -> Steps:
        world, rules = self.world, self.world.rules
        yield from self.recover()
        recovered = recover(self.facts)
        world.recoveries += 1
        world.offline.check(recovered)
        fold = PartitionFold(world.logic, recovered, cache_weight=world.rng.choice((0, 3, UNBOUNDED)))
        if not rules.seeks_back and world.rng.random() < 0.1:
            fold.feed(world.log[fold.position.offset + 3 : world.head])
        self.written = recovered.record.offset
        while True:
            if world.rng.random() < 0.2 and self.written >= 0:
                said = self.written if rules.says_what_was_acknowledged else fold.position.offset
                # a frozen owner says it late
                yield
                world.sent.append(Output("events", None, write_statement(Statement(said)), CHAIN_HEADERS))
            self.feed(fold)
            if not fold.pending:
                world.idle = world.draining
                yield
                continue
            batch = fold.cut()
            deletions = batch.deletions if rules.deletes_one_batch_later else (*batch.deletions, *fold.obsolete)
            writes = changelog_flight(batch.facts, deletions)
            yield from self.write(batch.outputs, fold)
            if rules.writes_three_flights:
                yield from self.write(writes, fold)
                yield from self.write([batch.record], fold)
            else:
                yield from self.write([*writes, batch.record], fold)
            self.written = batch.offset


class World:
    """A log, a changelog and owners."""

    def __init__(self, seed: int, rules: Rules, *, is_digest: bool = False) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.logic = digest() if is_digest else toy()
        self.log = as_recordings(make_log(self.rng)) if is_digest else make_log(self.rng)
        self.offline = Offline(self.log, self.logic)
        self.changelog = Changelog()
        self.owners: list[Owner] = []
        self.sent: list[Output] = []
        self.now = self.recoveries = 0
        self.head = self.rng.choice((0, 20))
        self.draining = self.idle = False
        self.tombstones_kept = self.rng.choice((0, 50, 1_000))
        self.loss = self.rng.choice((0.001, 0.01, 0.04))

    def output(self, output: Output) -> None:
        if output not in self.offline.outputs:
            raise Broken(f"sent what the fold does not give: {output}")
        self.sent.append(output)

    def clean(self) -> None:
        lag = COMPACTION_LAG if self.rules.outruns_the_cleaner else 0
        self.changelog.compact(self.rng, now=self.now, lag=lag, tombstones_kept=self.tombstones_kept)

    def run(self) -> None:
        rng = self.rng
        freeze, kill = rng.choice((0.002, 0.01, 0.03)), rng.choice((0.0005, 0.003, 0.01))
        most, spawn, clean = rng.choice((2, 3, 4)), rng.choice((0.002, 0.01)), rng.choice((0.003, 0.02, 0.1))
        while not self.idle:
            self.now += 1
            if self.now > PATIENCE:
                raise Broken("no end")
            self.head += self.head < len(self.log) and rng.random() < 0.15
            self.draining |= self.head == len(self.log) and rng.random() < 0.01
            if rng.random() < clean:
                self.clean()
            awake = [owner for owner in self.owners if owner.frozen_until <= self.now]
            if (not awake or rng.random() < spawn) and len(self.owners) < most:
                self.owners.append(Owner(self))
            if awake:
                self.step(rng.choice(awake), freeze=freeze, kill=kill)
        self.end()

    def step(self, owner: Owner, *, freeze: float, kill: float) -> None:
        if not self.draining:
            if self.rng.random() < freeze:
                owner.frozen_until = self.now + self.rng.choice((5, 50, 300, 800))
                return
            owner.dead = self.rng.random() < kill
        if not owner.dead:
            next(owner.steps)
        if owner.dead:
            for _ in range(self.rng.randint(0, len(owner.in_flight))):
                owner.deliver()
            self.owners.remove(owner)

    def end(self) -> None:
        """Let all zombies wake up and speak, and recover once more."""
        for _ in range(400):
            self.now += 1
            if self.rng.random() < 0.1:
                self.clean()
            alive = [owner for owner in self.owners if not owner.dead]
            if alive:
                next(self.rng.choice(alive).steps)
        last, before = Owner(self), self.recoveries
        while self.recoveries == before and not last.dead:
            self.now += 1
            next(last.steps)
        if missing := set(self.offline.outputs) - set(self.sent):
            raise Broken(f"never sent: {min(missing, key=repr)}")


def read_by_second_stage(outputs: Iterable[Output]) -> tuple[int, int, dict[bytes, Any]]:
    """Fold what the first stage sent: the highest source, the clock, and what each session's records hash to."""
    logic = ToyLogic(gap_ms=1 << 60)
    fold = PartitionFold(logic)
    batch = fold.apply(
        LogRecord(offset, 0, output.headers[0][1].decode(), output.key or b"", output.value)
        for offset, output in enumerate(outputs)
    )
    if batch.lost_sources:
        raise Broken("what would have come is called lost")
    sessions = {key: logic.decode(fact[HEAD_BYTES:]) for key, fact in fold.facts.items()}
    return fold.position.source, fold.position.watermark, {key: (s["n"], s["h"]) for key, s in sessions.items()}


def read_hastily(outputs: Iterable[Output]) -> list[int]:
    """Return the sources that a reader would take who goes on after a gap."""
    taken = [-1]
    for output in outputs:
        source = orjson.loads(output.value)["src"]
        if output.headers != CHAIN_HEADERS and source > taken[-1]:
            taken.append(source)
    return taken


def broken(seed: int, rules: Rules, *, is_digest: bool = False) -> str | None:
    """Return what went wrong in a world; None if nothing did."""
    try:
        world = World(seed, rules, is_digest=is_digest)
        world.run()
        read = read_by_second_stage if rules.ignores_what_comes_too_early else read_hastily
        if is_digest and read(world.sent) != read(world.offline.outputs):
            return "the second stage lost a digest"
    except Broken as error:
        return str(error)
    return None


@pytest.mark.parametrize("is_digest", [False, True])
def test_every_recovered_state_and_every_output_is_the_offline_fold_s(is_digest: bool) -> None:
    ends, seed = time.monotonic() + SECONDS, FIRST_SEED
    while time.monotonic() < ends or seed < FIRST_SEED + 20:
        assert broken(seed, Rules(), is_digest=is_digest) is None, f"TRACEFLOW_SIMULATION_SEED={seed}"
        seed += 1


@pytest.mark.parametrize(
    ("fault", "is_digest"),
    [
        ("deletes_one_batch_later", False),
        ("writes_three_flights", False),
        ("seeks_back", False),
        ("outruns_the_cleaner", False),
        ("sends_the_first_record_alone", True),
        ("ignores_what_comes_too_early", True),
        ("says_what_was_acknowledged", True),
    ],
)
def test_a_planted_fault_is_found(fault: str, is_digest: bool) -> None:
    rules = Rules(**{fault: False})
    assert any(broken(seed, rules, is_digest=is_digest) for seed in range(300))
