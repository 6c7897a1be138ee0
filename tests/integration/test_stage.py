"""Both stages on a real broker: whatever happens to their workers, what they leave is the offline fold's."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.kafka_consumer import describe_topic
from deploy.command.failure import CommandFailure
from deploy.command.forget import forget_stage
from schemas import topics as declared
from schemas.connections import LogSettings
from schemas.messages import parse_dead_letter_headers
from schemas.topics import Topic
from stream_processors.fold.facts import HEAD_BYTES, PartitionRecord, Recovered, SessionHead, partition_record_key
from stream_processors.fold.partition import PartitionFold
from tests.integration.stage_process import GAP_MS, RESIDUE_MS, Stages, Stored, stages, until
from tests.stage_toy import ToyDigest, ToyLogic

OUTPUT_KINDS = {"analyze": (b"toy",), "digest": (b"digest", b"digest_tick")}


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
    assert [record.offset for record in log] == list(range(len(log)))
    fold = PartitionFold(logic)
    effects: dict[int, set[Effect]] = {}
    facts: dict[tuple[bytes, int], bytes] = {}
    at_record: dict[bytes, bytes] = {}
    for record in log:
        batch = fold.apply([record.as_log_record()])
        effects[record.offset] = {(o.topic, o.key or b"", o.value) for o in batch.outputs}
        effects[record.offset] |= {(p.reason.value, b"%d" % p.record.offset, b"%d" % p.index) for p in batch.parked}
        facts |= {(key, SessionHead.unpack(fact).offset): fact for key, fact in fold.facts.items()}
        if record.offset == recovered.record.offset:
            assert fold.position == recovered.record._replace(topic_id="")
            at_record = dict(fold.facts)
    for key in set(at_record) | set(recovered.sessions):
        fact = recovered.sessions.get(key)
        offset = -1 if fact is None else SessionHead.unpack(fact).offset
        expected = facts[key, offset] if offset > recovered.record.offset else at_record.get(key)
        assert fact == expected, f"{name}: {key!r}"
    found = effects_found(sent, name=name)
    due = set().union(*(e for offset, e in effects.items() if offset <= recovered.record.offset))
    assert due <= found, f"{name} has not sent {min(due - found)}"
    possible = set().union(*effects.values())
    assert found <= possible, f"{name} has sent {min(found - possible)}"


Effect = tuple[str, bytes, bytes]
"""An output (topic, key, value) or a dead letter (reason, offset, index)."""


def effects_found(sent: dict[str, list[Stored]], *, name: str) -> set[Effect]:
    found = set()
    for topic, records in sent.items():
        for record in records:
            if topic == declared.DEAD_LETTERS.name:
                letter, _ = parse_dead_letter_headers(record.headers)
                if letter.stage == name:
                    found.add((letter.reason, b"%d" % letter.offset, b"%d" % letter.index))
            elif dict(record.headers).get("kind") in OUTPUT_KINDS[name]:
                found.add((topic, record.key, record.value or b""))
    return found


def folded(system: Stages, changelog: Topic, until_offset: dict[int, int]) -> bool:
    """Tell whether the facts include a log up to its records at these offsets."""
    recovered = system.recovered(changelog)
    return all(recovered[p].record.offset >= offset for p, offset in until_offset.items())


def ends(system: Stages, topic: Topic) -> dict[int, int]:
    return {partition: records[-1].offset for partition, records in by_partition(system.read(topic)).items()}


def test_what_the_stages_leave_is_the_offline_fold_s_whatever_happens_to_their_workers(system: Stages) -> None:
    digest, first, second = system.start("digest"), system.start("analyze"), system.start("analyze")
    until(lambda: all(worker.is_ready() for worker in (digest, first, second)), deadline_s=40, what="start")
    with Load(system, per_second=150):
        time.sleep(1)
        second.freeze()
        digest.kill()
        digest, third = system.start("digest"), system.start("analyze")
        # takes longer than the frozen one's session: its partition gets another owner
        until(lambda: third.is_ready() and digest.is_ready(), deadline_s=40, what="takeover")
        second.thaw()
        time.sleep(1)
        assert first.terminate(deadline_s=15) == 0
        until(lambda: third.is_ready() and second.is_ready(), deadline_s=40, what="leave")
        time.sleep(1)
    recordings = settle(system)
    for worker in (digest, second, third):
        worker.process.terminate()
    assert [worker.process.wait(15) for worker in (digest, second, third)] == [0, 0, 0]

    logics = [logic(gap_ms=GAP_MS, residue_ms=RESIDUE_MS) for logic in (ToyDigest, ToyLogic)]
    check_stage(system, logics[0], source=declared.RECORDINGS, changelog=declared.DIGEST_CHANGELOG, name="digest")
    check_stage(system, logics[1], source=declared.EVENTS, changelog=declared.ANALYZE_CHANGELOG, name="analyze")
    # the chain is whole: each recording's digest has had its effect
    recovered = system.recovered(declared.ANALYZE_CHANGELOG)
    assert all(recovered[partition].record.source >= offset for partition, offset in recordings.items())


def settle(system: Stages) -> dict[int, int]:
    """Wait until both stages have folded all that is there now; return where the recordings ended."""
    recordings = ends(system, declared.RECORDINGS)
    until(lambda: folded(system, declared.DIGEST_CHANGELOG, recordings), deadline_s=30, what="digest")
    events = ends(system, declared.EVENTS)
    until(lambda: folded(system, declared.ANALYZE_CHANGELOG, events), deadline_s=30, what="analyze")
    return recordings


def events(count: int, *, value: Any = None) -> list[tuple[int, bytes, str, Any]]:
    return [(0, b"p/s%d" % (n % 3), "events", {"x": n} if value is None else value) for n in range(count)]


def test_a_worker_stops_within_seconds_of_sigterm_with_all_that_it_folded_written(system: Stages) -> None:
    worker = system.start("analyze")
    until(worker.is_ready, deadline_s=30, what="start")
    system.produce(declared.EVENTS, events(200))
    until(lambda: worker.metric("traceflow_stage_records_total") > 0, deadline_s=30, what="work")
    began = time.monotonic()
    assert worker.terminate(deadline_s=15) == 0
    assert time.monotonic() - began < 10
    recovered = system.recovered(declared.ANALYZE_CHANGELOG)[0]
    assert all(SessionHead.unpack(fact).offset <= recovered.record.offset for fact in recovered.sessions.values())


def test_a_stage_that_would_park_a_hundred_records_in_a_row_stops_for_a_person(system: Stages) -> None:
    system.produce(declared.EVENTS, events(150, value=b"no JSON"))
    worker = system.start("analyze")
    assert worker.process.wait(40) == 78
    assert "too_many_dead_letters" in worker.output.read_text()
    assert len(system.read(declared.DEAD_LETTERS)) < 100


def test_a_stage_that_starts_again_and_again_parks_no_more_than_one_that_starts_once(system: Stages) -> None:
    for round_ in (1, 2):
        system.produce(declared.EVENTS, events(6, value=b"no JSON"))
        worker = system.start("analyze")
        if round_ == 1:
            until(lambda: len(system.read(declared.DEAD_LETTERS)) == 6, deadline_s=30, what="letters")
            worker.kill()
    # six of the ten are left of the round before: four are fewer than what came
    assert worker.process.wait(40) == 78
    assert "dead_letters_remembered" in worker.output.read_text()
    assert len(system.read(declared.DEAD_LETTERS)) == 6


def test_a_new_fold_starts_where_retention_has_left_the_log_and_an_old_one_never_skips(system: Stages) -> None:
    system.produce(declared.EVENTS, events(30))
    system.delete_records_before(declared.EVENTS, 0, 10)
    worker = system.start("analyze")
    until(lambda: folded(system, declared.ANALYZE_CHANGELOG, {0: 29}), deadline_s=40, what="the rest of the log")
    assert worker.terminate(deadline_s=15) == 0
    recovered = system.recovered(declared.ANALYZE_CHANGELOG)[0]
    states = [ToyLogic().decode(fact[HEAD_BYTES:]) for fact in recovered.sessions.values()]
    assert sum(state["n"] for state in states) == 20

    system.produce(declared.EVENTS, events(30))
    system.delete_records_before(declared.EVENTS, 0, recovered.record.offset + 10)
    worker = system.start("analyze")
    assert worker.process.wait(40) == 78
    assert "retention_took_records" in worker.output.read_text()


def test_the_chain_goes_on_behind_what_the_log_lost_and_says_what(system: Stages) -> None:
    system.produce(declared.RECORDINGS, [(0, b"p/s", "chunk", {"x": n}) for n in range(30)])
    # digest had sent all of it, and a power loss took its tail
    digests = [(0, b"p/s", "digest", {"v": 1, "src": n, "x": n}) for n in range(10)]
    system.produce(declared.EVENTS, digests)
    sent = PartitionRecord(offset=29)
    system.write(declared.DIGEST_CHANGELOG, 0, partition_record_key(sent.offset), sent.pack())
    system.start("digest")
    system.start("analyze")

    def is_healed() -> bool:
        return system.recovered(declared.ANALYZE_CHANGELOG)[0].record.source > sent.offset + 1

    until(is_healed, deadline_s=120, what="the clock of analyze")
    letters = [parse_dead_letter_headers(record.headers)[0] for record in system.read(declared.DEAD_LETTERS)]
    lost = [letter.detail for letter in letters if letter.reason == "sources_lost"]
    assert lost[0].startswith("nothing stands for offsets 10 to ")


@pytest.mark.parametrize("what", ["lost_its_end", "was_made_anew"])
def test_a_stage_never_goes_on_in_a_log_that_does_not_continue_its_state(system: Stages, what: str) -> None:
    system.produce(declared.EVENTS, events(30))
    ours = PartitionRecord(offset=10, logged_at=system.read(declared.EVENTS)[10].timestamp)
    ours = ours._replace(topic_id=describe_topic(system.kafka, declared.EVENTS.full_name(system.prefix)).topic_id)
    if what == "lost_its_end":
        # and has grown beyond the state since, by other records
        ours = ours._replace(logged_at=ours.logged_at - 1)
    else:
        system.make_anew(declared.EVENTS)
        system.produce(declared.EVENTS, events(30))
    system.write(declared.ANALYZE_CHANGELOG, 0, partition_record_key(ours.offset), ours.pack())
    worker = system.start("analyze")
    assert worker.process.wait(120) == 78
    said = worker.output.read_text()
    assert "log_does_not_continue" in said
    assert ("the log lost its end" if what == "lost_its_end" else f"its id was {ours.topic_id}") in said


def test_a_state_that_the_changelog_and_the_log_have_lost_is_a_person_s_to_give_up(system: Stages) -> None:
    system.produce(declared.EVENTS, events(30))
    system.commit("analyze", declared.EVENTS, 0, 20)
    system.delete_records_before(declared.EVENTS, 0, 10)
    worker = system.start("analyze")
    assert worker.process.wait(40) == 78
    assert "changelog_lost_records" in worker.output.read_text()

    until(lambda: not system.members("analyze"), deadline_s=20, what="the group without the one that ended")
    forget_stage("analyze", system.kafka, LogSettings(topic_prefix=system.prefix))
    worker = system.start("analyze")
    until(lambda: folded(system, declared.ANALYZE_CHANGELOG, {0: 29}), deadline_s=40, what="what is left")


def test_a_running_stage_halts_when_its_log_ends_before_what_it_has_folded(system: Stages) -> None:
    system.produce(declared.EVENTS, events(30))
    worker = system.start("analyze")
    until(lambda: folded(system, declared.ANALYZE_CHANGELOG, {0: 29}), deadline_s=90, what="the log")
    with pytest.raises(CommandFailure, match="1 workers of analyze run"):
        forget_stage("analyze", system.kafka, LogSettings(topic_prefix=system.prefix))
    system.make_anew(declared.EVENTS)
    assert worker.process.wait(120) == 78
    assert "log_does_not_continue" in worker.output.read_text()


def test_a_stage_is_forgotten_by_emptying_its_changelog(system: Stages) -> None:
    system.write(declared.DIGEST_CHANGELOG, 0, b"p/s|1", b"a fact")
    name = forget_stage("digest", system.kafka, LogSettings(topic_prefix=system.prefix))
    assert name == declared.DIGEST_CHANGELOG.full_name(system.prefix)
    assert system.read(declared.DIGEST_CHANGELOG) == []


def test_a_worker_without_topics_says_so_and_stops(kafka: str, tmp_path: Path) -> None:
    with stages(kafka, "nowhere.", 2, tmp_path) as nowhere:
        worker = nowhere.start("digest", module="stream_processors")
        assert worker.process.wait(40) == 78
        assert "missing topics: nowhere.recordings, nowhere.digest_changelog" in worker.output.read_text()
