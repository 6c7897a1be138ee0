"""Runs of records, and what recovery reads of a changelog by them."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from stream_processors.runner.changelog_store import ChangelogStore
from stream_processors.runner.runs import MAX_RUN_BYTES, MAX_RUN_RECORDS, Run, RunScheduler, split


@dataclass
class Fetched:
    """A record as aiokafka gives it."""

    offset: int
    key: bytes = b"k"
    value: bytes | None = b"v"
    timestamp: int = 5
    serialized_value_size: int = 1


def test_what_was_fetched_of_a_partition_becomes_one_run_in_the_clothes_of_its_last_record() -> None:
    tp = TP("t", 3)
    scheduler = RunScheduler()  # type: ignore[abstract]  # Faust declares `__init__` abstract and calls it all the same
    ((found, run),) = scheduler.iterate({tp: [Fetched(7), Fetched(8, serialized_value_size=4)]})
    assert found == tp
    assert (run.topic, run.partition, run.offset, run.timestamp) == ("t", 3, 8, 5)
    assert (run.serialized_value_size, [record.offset for record in run.value]) == (5, [7, 8])


def test_runs_are_bounded_by_records_and_by_bytes() -> None:
    records = [Fetched(offset) for offset in range(MAX_RUN_RECORDS + 2)]
    assert [len(run) for run in split(records)] == [MAX_RUN_RECORDS, 2]
    large = [Fetched(offset, serialized_value_size=MAX_RUN_BYTES // 2) for offset in range(5)]
    assert [len(run) for run in split(large)] == [2, 2, 1]
    assert list(split([])) == []


def read(store: ChangelogStore, partition: int, *records: Fetched) -> None:
    run: Any = Run(TP("c", partition), records)
    store.apply_changelog_batch([SimpleNamespace(message=run)])


def empty_store() -> ChangelogStore:
    app: Any = SimpleNamespace()
    return ChangelogStore("memory://", app, SimpleNamespace(name="facts"))


def test_a_fold_takes_what_recovery_has_read() -> None:
    store = empty_store()
    read(store, 1, Fetched(0, b"a", b"1"), Fetched(1, b"b", b"2"), Fetched(2, b"a", None))
    assert store.persisted_offset(TP("c", 1)) == 2
    assert store.take(1) == {b"b": b"2"}
    assert store.take(1) == {}


def test_a_partition_that_is_kept_is_not_read_again() -> None:
    store = empty_store()
    read(store, 1, Fetched(0))
    store.take(1)
    store.note_written(1, 9)
    store.restart_recovery()
    assert store.persisted_offset(TP("c", 1)) == 9
    read(store, 1, Fetched(10))
    assert store.take(1) == {}


def test_a_recovery_that_was_cut_short_starts_anew() -> None:
    store = empty_store()
    read(store, 1, Fetched(0))
    store.restart_recovery()
    assert store.persisted_offset(TP("c", 1)) == -1
    assert store.take(1) == {}


def test_a_write_to_a_dropped_partition_does_not_count_as_read() -> None:
    store = empty_store()
    store.take(1)
    store.drop(1)
    store.note_written(1, 9)
    assert store.persisted_offset(TP("c", 1)) == -1


def test_a_recovery_slower_than_the_log_cleaner_s_lag_is_told() -> None:
    store, told = empty_store(), list[float]()
    store.on_slow_recovery = told.append
    asyncio.run(store.on_recovery_completed())
    assert told == []
    store._began -= 121
    asyncio.run(store.on_recovery_completed())
    assert len(told) == 1
