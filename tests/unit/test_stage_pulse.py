"""What a worker does once a tick, and what is seen of a partition of which nothing has been delivered."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from stream_processors.fold.facts import PartitionRecord
from stream_processors.fold.partition import PartitionFold
from stream_processors.kinds import ANALYZE, DIGEST, StageKind
from stream_processors.metrics import declare_metrics
from stream_processors.runner import pulse as pulse_module
from stream_processors.runner.dispatch import Dispatch
from stream_processors.runner.flights import Acknowledged, Letter
from stream_processors.runner.pulse import Pulse
from stream_processors.runner.stage import Bounds, Partition, Stage
from stream_processors.runner.watchdog import Progress
from tests.stage_toy import ToyLogic

RECOVERED = PartitionRecord(offset=41, logged_at=5_000)


class Consumer:
    """Owns partition 3, and has fetched nothing of it."""

    def __init__(self, kind: StageKind) -> None:
        self.committed: dict[TP, int] = {}
        self.owned = {TP(kind.source.name, 3), TP(kind.changelog.name, 3)}

    def assignment(self) -> set[TP]:
        return self.owned

    def highwater(self, _tp: TP) -> None:
        return None

    async def _commit(self, offsets: dict[TP, int]) -> bool:
        self.committed = offsets
        return True


class App:
    consumer_generation_id, rebalancing, in_recovery = 1, False, False

    def __init__(self, kind: StageKind) -> None:
        self.consumer = Consumer(kind)


class Store:
    def position(self, _partition: int) -> PartitionRecord:
        return RECOVERED


class Broker:
    """Acknowledges each tick at once, at the end of its log."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.posted: list[Letter] = []

    def post(self, letter: Letter, acknowledged: Acknowledged) -> None:
        self.posted.append(letter)
        acknowledged(letter.partition, self.end)
        self.end += 1


class Worker:
    def __init__(self, *, end: int, kind: StageKind = ANALYZE) -> None:
        self.app: Any = App(kind)
        flights: Any = Broker(end)
        self.flights = flights
        store: Any = Store()
        self.registry = CollectorRegistry()
        metrics = declare_metrics(self.registry)
        self.stage = Stage(
            ToyLogic(),
            app=self.app,
            store=store,
            flights=flights,
            dispatch=Dispatch(kind, ""),
            look=lambda _partition, _offset: pytest.fail("nothing is delivered"),
            bounds=Bounds(records=10, size=10, cache_weight=10),
            metrics=metrics,
        )
        self.pulse = Pulse(self.stage, app=self.app, source=kind.source.name, flights=flights, metrics=metrics)

    def turn(self) -> None:
        asyncio.run(self.pulse.turn())

    def commit(self) -> None:
        asyncio.run(self.pulse._commit())

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"traceflow_stage_{name}", {"partition": "3"})


def test_the_watchdog_sees_a_partition_of_which_nothing_was_ever_delivered() -> None:
    worker = Worker(end=100)
    worker.turn()
    assert worker.pulse.vitals().progress == {3: Progress(written=41, end=101)}


def test_its_lag_counts_from_where_its_state_was_recovered() -> None:
    worker = Worker(end=100)
    worker.turn()
    assert worker.metric("lag_records") == 59
    assert (worker.metric("oldest_record_age_seconds") or 0) > 1_000_000


def test_only_what_was_compared_with_what_is_committed_and_lies_in_the_changelog_is_committed() -> None:
    worker = Worker(end=100)
    worker.commit()
    assert worker.app.consumer.committed == {}
    # retention took what is before 50, and nothing is written yet
    worker.stage.partitions[3] = Partition(PartitionFold(ToyLogic()), wanted=60, written=-1, gone=49)
    worker.commit()
    assert worker.app.consumer.committed == {}
    worker.stage.partitions[3].written = 59
    worker.commit()
    assert worker.app.consumer.committed == {TP("events", 3): 60}


def test_a_worker_is_not_ready_before_something_of_each_of_its_partitions_was_delivered() -> None:
    worker = Worker(end=100)
    worker.turn()
    assert worker.pulse.reasons_against_readiness() == ["nothing of partition 3 was delivered yet"]
    worker.stage.partitions[3] = Partition(PartitionFold(ToyLogic()), wanted=42, written=41)
    worker.turn()
    assert worker.pulse.reasons_against_readiness() == []


def test_a_tick_that_lands_before_what_was_folded_shows_that_the_log_lost_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(pulse_module, "fail_stop", lambda event, **fields: said.append((event, fields)))
    worker = Worker(end=42)
    worker.stage.partitions[3] = Partition(PartitionFold(ToyLogic()), wanted=42, written=41)
    worker.turn()
    assert said == []
    worker = Worker(end=41)
    worker.stage.partitions[3] = Partition(PartitionFold(ToyLogic()), wanted=42, written=41)
    worker.turn()
    reason = "the log ends at 41, before record 41, which the state includes"
    assert said == [("log_does_not_continue", {"code": 78, "partition": 3, "reason": reason})]


def test_digest_tells_analyze_up_to_where_everything_was_acknowledged() -> None:
    worker = Worker(end=100, kind=DIGEST)
    worker.stage.partitions[3] = Partition(PartitionFold(ToyLogic()), wanted=60, written=41)
    worker.turn()
    worker.turn()
    statements = [letter for letter in worker.flights.posted if letter.topic == "events"]
    assert statements == [Letter("events", 3, None, b'{"v":1,"src":41,"log":""}', (("kind", b"chain"),))]


@dataclass
class Run:
    """A record as it is delivered."""

    partition: int = 3
    generation_id: int = 1
    value: tuple[()] = ()


def test_a_partition_whose_changelog_was_assigned_to_another_is_not_folded() -> None:
    worker = Worker(end=100)
    worker.app.consumer.owned = {TP("events", 3), TP("analyze_changelog", 4)}
    asyncio.run(worker.stage.assigned())
    asyncio.run(worker.stage._read(Run()))
    assert worker.stage.partitions == {}
