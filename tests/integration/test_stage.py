"""Both stages on a real broker: whatever happens to their workers, what they leave is the offline fold's."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import topics as declared
from schemas.messages import parse_dead_letter_headers
from schemas.topics import Topic
from stream_processors.facts import Recovered, SessionHead
from stream_processors.fold import PartitionFold
from tests.integration.stage_process import GAP_MS, RESIDUE_MS, Stages, Stored, stages, until
from tests.stage_toy import ToyDigest, ToyLogic


@pytest.fixture
def system(kafka: str, topics: str, topic_partitions: int, tmp_path: Path) -> Iterator[Stages]:
    with stages(kafka, topics, topic_partitions, tmp_path) as running:
        yield running


class Load:
    """Sends events and chunks at a steady rate, poison included, for the time of a block."""

    def __init__(self, system: Stages, *, per_second: int) -> None:
        self._system = system
        self._pause_s = 1 / per_second
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.sent = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(10 * self._pause_s):
            self._system.produce(declared.EVENTS, [self._event(n) for n in range(self.sent, self.sent + 10)])
            self._system.produce(declared.RECORDINGS, [self._chunk(n) for n in range(self.sent, self.sent + 10)])
            self.sent += 10

    def _event(self, number: int) -> tuple[int, bytes, str, Any]:
        data: dict[str, Any] = {"x": number}
        if number % 3 == 0:
            data["wake"] = number % 700
        if number % 20 == 3:
            data["refuse"] = True
        # our own fault stays below one in a hundred, or the stage would stop
        if number % 450 == 7:
            data["bad"] = "apply"
        value = b"no JSON" if number % 450 == 9 else data
        return number % 2, self._session(number), "events", value

    def _chunk(self, number: int) -> tuple[int, bytes, str, Any]:
        data = {"x": number, "bad": "apply"} if number % 250 == 11 else {"x": number}
        return number % 2, self._session(number), "chunk", data

    @staticmethod
    def _session(number: int) -> bytes:
        # a new set of sessions each 200 records, so that some close
        return b"p/s%d-%d" % (number // 200, number % 11)


def by_partition(records: list[Stored]) -> dict[int, list[Stored]]:
    found: dict[int, list[Stored]] = defaultdict(list)
    for record in records:
        found[record.partition].append(record)
    return found


def check_stage(system: Stages, logic: ToyLogic, *, source: Topic, changelog: Topic, name: str) -> None:
    """Hold that facts, outputs and dead letters are those of the offline fold of the log."""
    log, recovered = by_partition(system.read(source)), system.recovered(changelog)
    sent = {topic: system.read(topic) for topic in declared.ALL if name in topic.producers}
    for partition in range(system.partitions):
        check_partition(
            log[partition],
            recovered[partition],
            {t.name: [r for r in records if r.partition == partition] for t, records in sent.items()},
            logic=logic,
            name=name,
        )


def check_partition(
    log: list[Stored], recovered: Recovered, sent: dict[str, list[Stored]], *, logic: ToyLogic, name: str
) -> None:
    fold = PartitionFold(logic)
    due: set[tuple[str, bytes, bytes]] = set()
    parked: set[tuple[str, int, int]] = set()
    ahead: dict[tuple[bytes, int], bytes] = {}
    assert [record.offset for record in log] == list(range(len(log)))
    for record in log:
        batch = fold.apply([record.as_log_record()])
        outputs = {(output.topic, output.key or b"", output.value) for output in batch.outputs}
        if record.offset <= recovered.record.offset:
            due |= outputs
            parked |= {(p.reason.value, p.record.offset, p.index) for p in batch.parked}
        if record.offset == recovered.record.offset:
            assert fold.position == recovered.record
            at_record = dict(fold.facts)
        ahead |= {(key, SessionHead.unpack(fact).offset): fact for key, fact in fold.facts.items()}
    for key in set(at_record) | set(recovered.sessions):
        fact = recovered.sessions.get(key)
        if fact is not None and SessionHead.unpack(fact).offset > recovered.record.offset:
            assert ahead[key, SessionHead.unpack(fact).offset] == fact
        else:
            assert fact == at_record.get(key), f"{name}: {key!r}"
    check_sent(sent, due, parked, name=name)


def check_sent(
    sent: dict[str, list[Stored]], due: set[tuple[str, bytes, bytes]], parked: set[tuple[str, int, int]], *, name: str
) -> None:
    letters = [parse_dead_letter_headers(r.headers)[0] for r in sent[declared.DEAD_LETTERS.name]]
    ours = {(letter.reason, letter.offset, letter.index) for letter in letters if letter.stage == name}
    assert parked <= ours
    for topic in {topic for topic, _, _ in due}:
        found = {(topic, record.key, record.value) for record in sent[topic]}
        assert {output for output in due if output[0] == topic} <= found, f"{name}: {topic} lacks outputs"


def folded(system: Stages, changelog: Topic, until_offset: dict[int, int]) -> bool:
    """Tell whether the facts include a log up to its records at these offsets."""
    recovered = system.recovered(changelog)
    return all(recovered[p].record.offset >= offset for p, offset in until_offset.items())


def ends(system: Stages, topic: Topic) -> dict[int, int]:
    return {partition: records[-1].offset for partition, records in by_partition(system.read(topic)).items()}


def test_what_the_stages_leave_is_the_offline_fold_s_whatever_happens_to_their_workers(system: Stages) -> None:
    digest, first, second = system.start("digest"), system.start("analyze"), system.start("analyze")
    until(lambda: first.is_ready() and second.is_ready() and digest.is_ready(), deadline_s=40, what="start")
    with Load(system, per_second=150):
        time.sleep(1.5)
        second.kill()
        third = system.start("analyze")
        time.sleep(1)
        digest.kill()
        digest = system.start("digest")
        until(lambda: third.is_ready() and digest.is_ready(), deadline_s=40, what="takeover")
        assert first.terminate(deadline_s=15) == 0
        time.sleep(1)
    settle(system)
    assert [worker.terminate(deadline_s=15) for worker in (digest, third)] == [0, 0]

    analyze, toy_digest = (
        ToyLogic(gap_ms=GAP_MS, residue_ms=RESIDUE_MS),
        ToyDigest(gap_ms=GAP_MS, residue_ms=RESIDUE_MS),
    )
    check_stage(system, toy_digest, source=declared.RECORDINGS, changelog=declared.DIGEST_CHANGELOG, name="digest")
    check_stage(system, analyze, source=declared.EVENTS, changelog=declared.ANALYZE_CHANGELOG, name="analyze")
    recordings = ends(system, declared.RECORDINGS)
    recovered = system.recovered(declared.ANALYZE_CHANGELOG)
    assert all(recovered[p].record.source >= 0 for p in recordings)


def settle(system: Stages) -> None:
    """Wait until both stages have folded all that was there when this was called."""
    stages = ((declared.RECORDINGS, declared.DIGEST_CHANGELOG), (declared.EVENTS, declared.ANALYZE_CHANGELOG))
    for source, changelog in stages:
        wanted = ends(system, source)
        until(lambda: folded(system, changelog, wanted), deadline_s=30, what=changelog.name)  # noqa: B023


def test_a_worker_stops_within_seconds_of_sigterm(system: Stages) -> None:
    worker = system.start("analyze")
    until(worker.is_ready, deadline_s=30, what="start")
    began = time.monotonic()
    assert worker.terminate(deadline_s=15) == 0
    assert time.monotonic() - began < 10
