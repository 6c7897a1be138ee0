"""What holds whatever fails: a batch is in with its offset, once, or not at all."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from adapters.dead_letters import DeadLetterLimit
from sinks.commit.offsets import Fenced
from sinks.commit.writer import Abandoned, Step
from sinks.contract.verdicts import SinkHalted
from tests.integration.sink_bench import (
    CapturedLetters,
    SinkBench,
    add_project,
    assert_counters_equal_rows,
    copied_database,
    emptied,
    event,
    execute,
    query,
)

ROWS = "SELECT count(*) FROM traceflow_events"
OFFSET = "SELECT next_offset, epoch FROM traceflow_sink_offsets"


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def bench(module_database: str) -> Iterator[SinkBench]:
    bench = SinkBench(emptied(module_database), "events")
    yield bench
    bench.close()


def until(condition: Callable[[], bool], *, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.02)


def at_step(wanted: Step, action: Callable[[], None]) -> Callable[[Step], None]:
    """Return a hook that acts once, when a batch reaches the step."""
    pending = [action]

    def hook(step: Step) -> None:
        if step is wanted and pending:
            pending.pop()()

    return hook


def end_connection(bench: SinkBench) -> None:
    query(bench.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", bench.owner)


def test_rows_and_offset_are_one_transaction(bench: SinkBench) -> None:
    seen: list[tuple[int, int]] = []

    def look(step: Step) -> None:
        if step is not Step.OFFSETS_MOVED:
            seen.append((query(bench.url, ROWS)[0][0], query(bench.url, OFFSET)[0][0]))

    bench.on_step = look
    bench.write([bench.events([event(1), event(2)])])
    assert seen == [(0, 0), (0, 0), (2, 1)]


@pytest.mark.parametrize("step", [Step.OFFSETS_MOVED, Step.ROWS_STORED, Step.LETTERS_WRITTEN])
def test_a_connection_lost_at_any_step_loses_and_doubles_nothing(bench: SinkBench, step: Step) -> None:
    bench.on_step = at_step(step, lambda: end_connection(bench))
    written = bench.write([bench.events([event(n) for n in range(50)])])
    assert written.inserted == 50
    assert query(bench.url, ROWS) == [(50,)]
    assert_counters_equal_rows(bench.url)


def test_a_commit_in_doubt_that_was_done_is_not_done_again(bench: SinkBench) -> None:
    def lose_the_answer() -> None:
        raise psycopg.OperationalError("the connection is lost")

    bench.on_step = at_step(Step.COMMITTED, lose_the_answer)
    written = bench.write([bench.events([event(n) for n in range(5)])])
    assert written.inserted == 5
    assert query(bench.url, OFFSET)[0][0] == 1
    assert bench.write([bench.events([event(9)])]).inserted == 1
    assert_counters_equal_rows(bench.url)


def test_a_batch_with_duplicates_whose_answer_was_lost_is_told_the_same(bench: SinkBench) -> None:
    bench.write([bench.events([event(n) for n in range(5)])])

    def lose_the_answer() -> None:
        raise psycopg.OperationalError("the connection is lost")

    bench.on_step = at_step(Step.COMMITTED, lose_the_answer)
    written = bench.write([bench.events([event(n) for n in range(8)])])
    assert (written.inserted, written.duplicates) == (3, 5)
    assert_counters_equal_rows(bench.url)


def test_records_that_are_read_again_are_refused_by_their_offset(bench: SinkBench) -> None:
    batch = bench.batch([bench.events([event(1)])])
    bench.writer.write(batch, bench.epochs)
    later = bench.batch([bench.events([event(2)])])
    bench.writer.write(later, bench.epochs)
    with pytest.raises(Fenced):
        bench.writer.write(batch, bench.epochs)
    assert query(bench.url, ROWS) == [(2,)]
    assert_counters_equal_rows(bench.url)


def test_a_zombie_with_an_old_epoch_stores_nothing(bench: SinkBench) -> None:
    zombie = bench
    zombie.write([zombie.events([event(1)])])
    stale = zombie.batch([zombie.events([event(2), event(3)])])
    heir = SinkBench(zombie.url, "events")
    with pytest.raises(Fenced):
        zombie.writer.write(stale, zombie.epochs)
    assert query(heir.url, ROWS) == [(1,)]
    assert heir.write([heir.events([event(2), event(3)])]).inserted == 2
    heir.close()
    assert_counters_equal_rows(bench.url)


def test_an_heir_waits_for_the_batch_in_flight_and_goes_on_after_it(bench: SinkBench) -> None:
    heirs: list[SinkBench] = []
    thread = threading.Thread(target=lambda: heirs.append(SinkBench(bench.url, "events")))

    def begin_to_inherit() -> None:
        thread.start()
        until(lambda: query(bench.url, "SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] > 0)

    bench.on_step = at_step(Step.ROWS_STORED, begin_to_inherit)
    assert bench.write([bench.events([event(1)]), bench.events([event(2)])]).inserted == 2
    thread.join()
    assert heirs[0].collector.positions == {0: 2}
    with pytest.raises(Fenced):
        bench.write([bench.events([event(3)])])
    assert heirs[0].write([heirs[0].events([event(3)])]).inserted == 1
    heirs[0].close()
    assert_counters_equal_rows(bench.url)


def test_an_heir_ends_the_connection_of_a_frozen_owner(bench: SinkBench) -> None:
    frozen, thawed = threading.Event(), threading.Event()

    def freeze() -> None:
        frozen.set()
        thawed.wait(30)

    bench.on_step = at_step(Step.ROWS_STORED, freeze)
    outcome: list[BaseException] = []

    def write() -> None:
        try:
            bench.write([bench.events([event(1), event(2)])])
        except Fenced as error:
            outcome.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    assert frozen.wait(10)
    heir = SinkBench(bench.url, "events")
    assert heir.write([heir.events([event(1), event(2), event(3)])]).inserted == 3
    thawed.set()
    thread.join()
    heir.close()
    assert len(outcome) == 1
    assert_counters_equal_rows(bench.url)


def test_two_owners_that_take_over_from_each_other_store_everything_once(bench: SinkBench) -> None:
    """Both believe that they own the partition: each claims it anew when it is fenced, and reads on from there."""
    log = [[event(10 * n + k, event_type="error" if k == 3 else "click") for k in range(10)] for n in range(30)]
    stop = time.monotonic() + 30

    def own(owner: SinkBench) -> None:
        while time.monotonic() < stop:
            position = owner.collector.positions[0]
            if position >= len(log):
                return
            try:
                owner.write([owner.events(events) for events in log[position : position + 3]])
            except Fenced:
                owner.take_over()

    rival = SinkBench(bench.url, "events")
    bench.take_over()
    threads = [threading.Thread(target=own, args=(owner,)) for owner in (bench, rival)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rival.close()
    assert query(bench.url, ROWS) == [(300,)]
    assert query(bench.url, OFFSET)[0][0] == 30
    assert_counters_equal_rows(bench.url)


KILLED = """
import os, signal, sys
from sinks.commit.writer import Step
from tests.integration.sink_bench import SinkBench, event
bench = SinkBench(sys.argv[1], "events")
def die(step):
    if step.name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
bench.on_step = die
bench.write([bench.events([event(n) for n in range(100)])])
"""


@pytest.mark.parametrize("step", [Step.ROWS_STORED, Step.COMMITTED], ids=lambda step: step.name)
def test_a_process_killed_before_or_after_its_commit_loses_and_doubles_nothing(bench: SinkBench, step: Step) -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, bench.url, step.name],
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
        cwd=root,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    heir = SinkBench(bench.url, "events")
    if heir.collector.positions == {0: 0}:
        heir.write([heir.events([event(n) for n in range(100)])])
    heir.close()
    assert query(bench.url, ROWS) == [(100,)]
    assert query(bench.url, OFFSET)[0][0] == 1
    assert_counters_equal_rows(bench.url)


def test_dead_letters_are_written_before_the_commit_and_again_if_they_could_not_be(bench: SinkBench) -> None:
    bench.letters = CapturedLetters(failures=2)
    written = bench.write([bench.events([event(1), {}, event(2)])])
    assert (written.inserted, written.parked) == (2, 1)
    assert bench.reasons() == [("record_malformed", 0, 1)]
    assert query(bench.url, ROWS) == [(2,)]


def test_the_limit_of_dead_letters_stops_the_sink_before_anything_is_parked(module_database: str) -> None:
    database = emptied(module_database)
    bench = SinkBench(database, "events", limit=DeadLetterLimit(max_in_a_row=3))
    with pytest.raises(SinkHalted, match="3 records in a row had to be parked as record_malformed"):
        bench.write([bench.events([event(1)]), *[bench.record(b"?", key=b"p/s", kind="events") for _ in range(3)]])
    assert (query(database, ROWS), bench.reasons()) == ([(0,)], [])
    bench.close()


def test_what_a_retry_cannot_mend_halts_with_one_line(database: str) -> None:
    add_project(database)
    bench = SinkBench(database, "events")
    execute(bench.url, "ALTER TABLE traceflow_events RENAME COLUMN page_url TO page")
    with pytest.raises(SinkHalted) as halted:
        bench.write([bench.events([event(1)])])
    assert "column" in str(halted.value)
    assert "\n" not in str(halted.value)
    bench.close()


def test_a_batch_that_cannot_be_written_is_given_up_when_its_partitions_are(bench: SinkBench) -> None:
    bench.writer.connect = _refused
    bench.writer.close()
    timer = threading.Timer(0.3, bench.writer.abandoned.set)
    timer.start()
    with pytest.raises(Abandoned):
        bench.write([bench.events([event(1)])])
    timer.join()


def _refused() -> psycopg.Connection[tuple[object, ...]]:
    raise psycopg.OperationalError("connection refused")


def test_a_topic_made_anew_stops_the_sink(bench: SinkBench) -> None:
    execute(bench.url, "UPDATE traceflow_sink_offsets SET topic_id = 'the-old-one'")
    with pytest.raises(SinkHalted, match="deleted and made anew"):
        bench.take_over()


def test_sinks_do_not_share_offsets_and_a_partition_begins_where_its_log_does(module_database: str) -> None:
    database = emptied(module_database)
    benches = [SinkBench(database, name) for name in ("events", "signals")]
    benches[0].write([benches[0].events([event(1)])])
    assert query(
        database, "SELECT sink, topic, topic_id, part, next_offset FROM traceflow_sink_offsets ORDER BY 1"
    ) == [
        ("events", "t", "topic-id", 0, 1),
        ("signals", "t", "topic-id", 0, 0),
    ]
    assert benches[0].writer.claim({1: 70})[1].next_offset == 70
    for bench in benches:
        bench.close()


def test_sinks_of_one_session_do_not_deadlock(module_database: str) -> None:
    database = emptied(module_database)
    benches = [SinkBench(database, "events", partition=part) for part in range(2)]
    failures: list[BaseException] = []

    def write(bench: SinkBench, base: int) -> None:
        try:
            for round_number in range(10):
                sessions = [f"s{n}" for n in range(40)]
                if base:
                    sessions.reverse()
                number = base + round_number * 100
                bench.write([bench.events([event(number + n)], session=name) for n, name in enumerate(sessions)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(bench, 100_000 * n)) for n, bench in enumerate(benches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert query(database, ROWS) == [(800,)]
    retries = [
        bench.registry.get_sample_value("traceflow_sink_retries_total", {"sink": "events", "cause": "40P01"})
        for bench in benches
    ]
    assert retries == [None, None]
    assert_counters_equal_rows(database)
    for bench in benches:
        bench.close()
