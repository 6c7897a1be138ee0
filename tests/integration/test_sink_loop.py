import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import psycopg
import pytest
from confluent_kafka import Consumer

from adapters.dead_letter_reader import LetterFilter, read_dead_letters, show_dead_letter
from adapters.kafka_admin import Layout
from adapters.kafka_consumer import watermarks
from schemas import topics as declared
from sinks.app import EXIT_HALTED, Environment, watch
from sinks.commit import loop
from sinks.commit.loop import SinkLoop
from sinks.commit.watchdog import Patience
from sinks.contract.verdicts import SinkHalted
from tests.integration.sink_bench import add_project, assert_counters_equal_rows, event, execute, query
from tests.integration.sink_system import (
    DEADLINE_S,
    Log,
    RunningSink,
    environment,
    recreate_topic,
    row_count,
    running,
    until,
)

STANDING = "SELECT part, next_offset FROM traceflow_sink_offsets WHERE sink = 'events' ORDER BY 1"


@contextmanager
def database_away(database: str) -> Iterator[None]:
    """Refuse every connection for the time of a block."""
    name = database.rpartition("/")[2].partition("?")[0]
    server = database.replace(f"/{name}", "/postgres")
    execute(server, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    try:
        query(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)
        yield
    finally:
        execute(server, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")


def retried(sink: RunningSink) -> float:
    """Count the tries that failed because the database could not be reached."""
    labels = {"sink": "events", "cause": "connection"}
    return sink.registry.get_sample_value("traceflow_sink_retries_total", labels) or 0.0


@pytest.fixture
def settings(kafka: str, topics: str, database: str) -> Environment:
    add_project(database)
    return environment(kafka=kafka, prefix=topics, database=database)


def test_what_is_in_the_log_is_in_the_table_and_a_stop_loses_nothing(settings: Environment, database: str) -> None:
    log = Log(settings)
    expected = log.load(0, 50)
    with running("events", settings) as sink:
        until(lambda: row_count(database) == expected)
        expected += log.load(50, 50)
    expected += log.load(100, 50)
    with running("events", settings):
        until(lambda: row_count(database) == expected)
    assert sum(offset for _, offset in query(database, STANDING)) == 150
    assert sink.registry.get_sample_value("traceflow_sink_duplicates_total", {"sink": "events"}) in (None, 0.0)
    assert_counters_equal_rows(database)


def test_every_event_that_was_accepted_is_counted_as_stored_doubled_or_parked(
    settings: Environment, database: str
) -> None:
    log = Log(settings)
    accepted = log.load(0, 40)
    with running("events", settings) as sink:
        until(lambda: row_count(database) == 200)
        # a client's retries, an id that another session holds, and what no version writes
        accepted += log.load(0, 10)
        log.events([event(3), {"id": "x"}, event(1_000)], session="another")
        accepted += 3
        log.flush()
        until(lambda: sum(offset for _, offset in query(database, STANDING)) == 51)

    def counted(name: str) -> float:
        samples = [
            s for metric in sink.registry.collect() for s in metric.samples if s.name == f"traceflow_sink_{name}"
        ]
        return sum(sample.value for sample in samples)

    assert (counted("rows_total"), counted("duplicates_total"), counted("parked_total")) == (201, 50, 2)
    assert accepted == 201 + 50 + 2
    assert row_count(database) == 201


def test_an_idle_system_shows_a_row_at_once(settings: Environment, database: str) -> None:
    log = Log(settings)
    with running("events", settings) as sink:
        until(lambda: sink.loop.ready)
        delays = []
        for n in range(15):
            log.events([event(n)], session="s1")
            log.flush()
            acknowledged = time.monotonic()
            while row_count(database) <= n:
                assert time.monotonic() < acknowledged + DEADLINE_S
                time.sleep(0.005)
            delays.append(time.monotonic() - acknowledged)
    assert statistics.median(delays) < 0.3


def test_ticks_move_the_offset_without_a_transaction_each(settings: Environment, database: str) -> None:
    log = Log(settings)
    with running("events", settings) as sink:
        until(lambda: sink.loop.ready)
        for _ in range(30):
            log.send(declared.EVENTS, b"", b"", kind="tick", partition=0)
            log.flush()
        until(lambda: query(database, STANDING) == [(0, 30), (1, 0)])
    batches = sink.registry.get_sample_value("traceflow_sink_batches_total", {"sink": "events", "way": "fast"})
    assert batches is not None
    assert batches <= 3


def test_workers_that_come_and_go_store_everything_once(settings: Environment, database: str) -> None:
    log = Log(settings)
    expected = log.load(0, 100)
    first = RunningSink("events", settings)
    until(lambda: row_count(database) > 0)
    second = RunningSink("events", settings)
    expected += log.load(100, 100)
    until(lambda: second.loop.ready)
    expected += log.load(200, 100)
    first.stop()
    expected += log.load(300, 100)
    until(lambda: row_count(database) == expected)
    second.stop()
    assert sum(offset for _, offset in query(database, STANDING)) == 400
    assert_counters_equal_rows(database)


def test_a_worker_more_than_there_are_partitions_is_ready_to_take_over(settings: Environment, database: str) -> None:
    log = Log(settings)
    workers = [RunningSink("events", settings) for _ in range(3)]
    until(lambda: all(worker.loop.ready for worker in workers))
    owned = [
        worker.registry.get_sample_value("traceflow_sink_owned_partitions", {"sink": "events"}) for worker in workers
    ]
    assert sorted(count or 0 for count in owned) == [0, 1, 1]
    for worker, count in zip(workers, owned, strict=True):
        if count:
            worker.stop()
    expected = log.load(0, 20)
    until(lambda: row_count(database) == expected)
    workers[owned.index(min(owned, key=lambda count: count or 0))].stop()


def test_a_database_that_goes_away_under_load_is_waited_for(settings: Environment, database: str) -> None:
    log = Log(settings)
    with running("events", settings) as sink:
        expected = log.load(0, 100)
        until(lambda: row_count(database) > 0)
        with database_away(database):
            expected += log.load(100, 200)
            until(lambda: retried(sink) >= 3)
        until(lambda: row_count(database) == expected)
    assert_counters_equal_rows(database)


def test_the_reader_stays_in_the_group_while_the_writer_is_stuck(kafka: str, topics: str, database: str) -> None:
    add_project(database)
    settings = environment(kafka=kafka, prefix=topics, database=database, batch_rows=10)
    log, stuck, released = Log(settings), threading.Event(), threading.Event()

    def stick(_step: object) -> None:
        stuck.set()
        released.wait(DEADLINE_S)

    sink = RunningSink("events", settings, on_step=stick)
    expected = log.load(0, 200)
    assert stuck.wait(DEADLINE_S)
    time.sleep(1.5)  # time for the collector to fill up and the partitions to be paused
    assert not sink.ended()
    released.set()
    until(lambda: row_count(database) == expected)
    sink.stop()
    assert_counters_equal_rows(database)


def test_partitions_that_were_paused_when_another_process_came_are_read_on(
    kafka: str, topics: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REVOKE_PATIENCE_S", 0.5)  # the batch in flight waits for the database: it is given up
    add_project(database)
    settings = environment(kafka=kafka, prefix=topics, database=database, batch_rows=10)
    log = Log(settings)
    with running("events", settings) as first:
        expected = log.load(0, 20)
        until(lambda: row_count(database) == expected)
        with database_away(database):
            expected += log.load(20, 400)
            # the first batch is tried again and again, the next one is full: the partitions are paused
            until(lambda: retried(first) >= 5)
            second = RunningSink("events", settings)
            # another one waits for its partition, so the first one has given it back
            until(lambda: retried(second) >= 1)
        until(lambda: row_count(database) == expected)
        second.stop()
        expected += log.load(420, 20)
        until(lambda: row_count(database) == expected)
    assert_counters_equal_rows(database)


def test_a_sink_that_stands_still_is_told_and_ended_though_its_threads_live(
    settings: Environment, database: str
) -> None:
    log, stuck, released, ends = Log(settings), threading.Event(), threading.Event(), SimpleQueue[tuple[str, str]]()

    def stick(_step: object) -> None:
        stuck.set()
        released.wait(DEADLINE_S)

    sink = RunningSink("events", settings, on_step=stick)
    log.events([event(0)], session="s1")
    log.flush()
    assert stuck.wait(DEADLINE_S)
    patience = Patience(ready_s=0.5, alive_s=2.0)
    watchdog = watch({"events": sink.loop}, settings, end=lambda *why: ends.put(why), patience=patience, check_s=0.2)
    until(lambda: watchdog.reasons() != [])
    assert ends.empty()
    name, reason = ends.get(timeout=DEADLINE_S)
    assert name == "events"
    assert re.fullmatch("stands at 0 in partition [01] while records wait", reason)
    watchdog.close()
    released.set()
    until(lambda: row_count(database) == 1)
    sink.stop()


def test_a_sink_whose_database_is_at_work_does_not_stand_still(settings: Environment, database: str) -> None:
    log, ends = Log(settings), SimpleQueue[tuple[str, str]]()
    with running("events", settings) as sink:
        until(lambda: sink.loop.ready)
        watchdog = watch(
            {"events": sink.loop}, settings, end=lambda *why: ends.put(why), patience=Patience(1.0, 1.0), check_s=0.2
        )
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE traceflow_events")
            log.events([event(0)], session="s1")
            log.flush()
            began = time.monotonic()
            until(lambda: time.monotonic() > began + 4 or not ends.empty())
        until(lambda: row_count(database) == 1)
        watchdog.close()
    assert ends.empty()


def test_an_outage_of_the_database_is_waited_for_at_rest(
    settings: Environment, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    turn = SinkLoop._turn

    def counted(sink_loop: SinkLoop[object]) -> None:
        nonlocal turns
        turns += 1
        turn(sink_loop)

    monkeypatch.setattr(SinkLoop, "_turn", counted)
    with database_away(database):
        sink = RunningSink("events", settings)
        until(lambda: retried(sink) >= 6)  # it takes its partitions over, for longer than `STUCK_AFTER_S`
        began, before = time.monotonic(), turns
        until(lambda: retried(sink) >= 7)
        # one that does not rest turns thousands of times
        assert turns - before <= 10 + 2 * (time.monotonic() - began) / loop.IDLE_POLL_S
    sink.stop()


def test_a_log_that_lost_what_was_not_stored_stops_the_sink(settings: Environment, database: str) -> None:
    with running("events", settings) as sink:
        until(lambda: sink.loop.ready)
    execute(database, "UPDATE traceflow_sink_offsets SET next_offset = 7 WHERE part = 1")
    broken = RunningSink("events", settings)
    until(broken.ended)
    with pytest.raises(SinkHalted, match="before the 7 records that were stored"):
        broken.stop()


def test_a_sink_that_starts_again_and_again_parks_no_more_than_one_that_starts_once(
    settings: Environment, topics: str
) -> None:
    log, wanted = Log(settings), LetterFilter(stage="sink-events")

    def letters() -> int:
        return len(list(read_dead_letters(settings.kafka, prefix=topics, wanted=wanted)))

    parked: list[int] = []
    for _ in range(2):
        for _ in range(5):
            log.send(declared.EVENTS, b"p/s", b"no JSON", kind="events")
        log.flush()
        with running("events", settings):
            until(lambda: letters() == 5 + 5 * len(parked))
        parked.append(letters())
    log.send(declared.EVENTS, b"p/s", b"no JSON", kind="events")
    log.flush()
    third = RunningSink("events", settings)
    until(third.ended)
    with pytest.raises(SinkHalted, match="had to be parked"):
        third.stop()
    assert letters() == 10


def test_a_former_owner_that_went_on_while_the_log_was_looked_at_is_no_lost_log(
    settings: Environment, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(settings)
    expected = log.load(0, 50)
    with running("events", settings):
        until(lambda: row_count(database) == expected)
    looks = 0

    def look(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
        nonlocal looks
        looks += 1
        # as it was before the former owner's last batch came into the log and was stored
        return (0, 1) if looks <= 2 else watermarks(consumer, topic, partition)

    monkeypatch.setattr(loop, "watermarks", look)
    expected += log.load(50, 50)
    with running("events", settings):
        until(lambda: row_count(database) == expected)
    assert looks > 2


def test_a_recreated_topic_stops_the_sink(settings: Environment, kafka: str, topics: str, database: str) -> None:
    with running("events", settings) as sink:
        until(lambda: sink.loop.ready)
    recreate_topic(kafka, declared.EVENTS, Layout(prefix=topics, partitions=2))
    broken = RunningSink("events", settings)
    until(broken.ended)
    with pytest.raises(SinkHalted, match="deleted and made anew"):
        broken.stop()
    assert row_count(database) == 0


def test_dead_letters_are_found_by_stage_reason_and_project(settings: Environment, database: str, topics: str) -> None:
    log = Log(settings)
    log.events([event(1), {"id": "x"}, event(2)], session="s1")
    log.send(declared.EVENTS, b"p/s", b"not json", kind="events")
    log.flush()
    with running("events", settings):
        until(lambda: sum(offset for _, offset in query(database, STANDING)) == 2)
    letters = list(read_dead_letters(settings.kafka, prefix=topics, wanted=LetterFilter(stage="sink-events")))
    assert sorted((each.letter.reason, each.letter.index, each.session_id) for each in letters) == [
        ("record_malformed", -1, "s"),
        ("record_malformed", 1, "s1"),
    ]
    [whole] = [each for each in letters if each.letter.index == -1]
    assert (whole.value, whole.key, whole.headers) == (b"not json", b"p/s", [("kind", b"events")])
    assert show_dead_letter(settings.kafka, prefix=topics, partition=whole.partition, offset=whole.offset) == whole
    assert show_dead_letter(settings.kafka, prefix=topics, partition=0, offset=10_000) is None
    future = LetterFilter(since=whole.letter.at + 3_600_000)
    assert list(read_dead_letters(settings.kafka, prefix=topics, wanted=future)) == []
    nothing = LetterFilter(reason="engine_error")
    assert list(read_dead_letters(settings.kafka, prefix=topics, wanted=nothing)) == []


def process(settings: Environment, *names: str, **extra: str) -> "subprocess.Popen[str]":
    root = Path(__file__).parents[2]
    environ = {
        "TRACEFLOW_KAFKA_BOOTSTRAP": settings.kafka.bootstrap,
        "TRACEFLOW_DATABASE_URL": settings.database.url.get_secret_value(),
        "TRACEFLOW_TOPIC_PREFIX": settings.log.topic_prefix,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "sinks", *names],
        env=os.environ | environ | extra,
        cwd=root,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_of_all_sinks_drains_at_sigterm(settings: Environment, database: str) -> None:
    log = Log(settings)
    sinks = process(settings)
    expected = log.load(0, 100)
    until(lambda: row_count(database) == expected)
    sinks.send_signal(signal.SIGTERM)
    _, errors = sinks.communicate(timeout=DEADLINE_S)
    assert sinks.returncode == 0, errors
    secret = settings.database.url.get_secret_value().partition("@")[0].rpartition(":")[2]
    assert len(secret) < 8 or secret not in errors
    assert query(
        database, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'traceflow sink%' AND true"
    ) == [(0,)]


@pytest.mark.parametrize(
    ("names", "extra", "line"),
    [
        (["surprise"], {}, "no such sink: surprise"),
        ([], {"TRACEFLOW_SINK_BATCH_ROWS": "many"}, "TRACEFLOW_SINK_BATCH_ROWS"),
        ([], {"TRACEFLOW_TOPIC_PREFIX": "nothing.here."}, "does not exist; create it with: traceflow topics"),
    ],
)
def test_what_is_missing_ends_the_process_with_one_line(
    settings: Environment, names: list[str], extra: dict[str, str], line: str
) -> None:
    ended = process(settings, *names, **extra)
    _, errors = ended.communicate(timeout=DEADLINE_S)
    assert ended.returncode == EXIT_HALTED
    assert line in errors
    assert "Traceback" not in errors
