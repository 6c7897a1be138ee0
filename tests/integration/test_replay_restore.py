"""A replay writes what was lost by hand, once, as it was, and touches nothing else, wherever it is killed."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from deploy.command.application import run
from deploy.replay.tables import Difference
from schemas import topics as declared
from sinks.commit.writer import Step
from sinks.repair.restore import SinkRestore
from tests.integration.replay_system import System, running_system, store_three_sessions
from tests.integration.sink_bench import (
    PROJECT,
    add_project,
    assert_counters_equal_rows,
    contents,
    event,
    execute,
    query,
)
from tests.integration.sink_system import environment, row_count, until
from tests.integration.stage_process import ROOT

SEED = 11
KILLS = 3

OWNER = "99999999-9999-4999-8999-999999999999"

ID = {number: event(number)["id"] for number in range(7)}


class KilledHere(BaseException):
    """Ends a command as a kill does: nothing after it happens, and what is open is rolled back."""


@pytest.fixture
def stored(kafka: str, topics: str, database: str) -> Iterator[System]:
    add_project(database)
    execute(database, "INSERT INTO auth.users (id) VALUES (%s)", OWNER)
    execute(database, "UPDATE traceflow_projects SET owner_id = %s", OWNER)
    execute(database, "INSERT INTO traceflow_subscriptions (user_id, status) VALUES (%s, 'active')", OWNER)
    with running_system(environment(kafka=kafka, prefix=topics, database=database)) as system:
        store_three_sessions(system, database)
        system.check()  # waits until all is stored
        # as at the end of a session whose digest runs: the recording is put together in its row
        execute(database, "UPDATE session_recordings SET events = session_recording_events(session_id)")
        yield system


def lose(database: str) -> None:
    """Delete a row of each table: events, a finding, a session, a chunk, a job, a link."""
    execute(database, "DELETE FROM traceflow_events WHERE id = ANY(%s::uuid[])", [ID[1], ID[4]])
    execute(database, "DELETE FROM traceflow_events WHERE event_type = 'slow_load'")
    execute(database, "DELETE FROM traceflow_sessions WHERE session_id = 's2'")
    execute(database, "DELETE FROM session_recording_chunks WHERE seq = 1")
    execute(database, "DELETE FROM traceflow_ai_queue WHERE id = (SELECT min(id::text)::uuid FROM traceflow_ai_queue)")
    link = "SELECT min(finding_id::text)::uuid FROM traceflow_ux_issue_findings"
    execute(database, f"DELETE FROM traceflow_ux_issue_findings WHERE finding_id = ({link})")  # noqa: S608


def test_what_was_lost_is_written_as_it_was_wherever_the_replay_is_killed(stored: System, database: str) -> None:
    before = contents(database)
    for killed_at, nth in zip(Step, (1, 4, 2, 3), strict=True):
        lose(database)
        steps = iter(range(1, 100))

        def on_step(step: Step, killed_at: Step = killed_at, nth: int = nth, steps: Iterator[int] = steps) -> None:
            if step is killed_at and next(steps) == nth:
                raise KilledHere

        with pytest.raises(KilledHere):
            stored.restore(on_step)
        stored.restore()
        assert contents(database) == before
    assert stored.check().differences == []
    assert_counters_equal_rows(database)


@pytest.mark.usefixtures("stored")
def test_a_command_that_is_killed_again_and_again_has_lost_and_doubled_nothing(
    kafka: str, topics: str, database: str
) -> None:
    before, draw = contents(database), random.Random(SEED)
    environ = {"KAFKA_BOOTSTRAP": kafka, "TOPIC_PREFIX": topics, "DATABASE_URL": database}
    variables = os.environ | {f"TRACEFLOW_{name}": value for name, value in environ.items()}
    command = [sys.executable, "-m", "tests.integration.replay_process"]
    for _ in range(KILLS):
        lose(database)
        at = (draw.choice(list(Step)).name, str(draw.randint(1, 4)))
        killed = subprocess.run(
            [*command, *at, "replay", "--from", "0"], cwd=ROOT, env=variables, capture_output=True, check=False
        )
        assert killed.returncode == -signal.SIGKILL, (at, killed.stdout[-2_000:], killed.stderr[-2_000:])
        assert contents(database) != before
    ended = subprocess.run(
        [*command, Step.COMMITTED.name, "1000", "replay", "--from", "0"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout[-2_000:], ended.stderr[-2_000:])
    assert contents(database) == before
    assert_counters_equal_rows(database)


@pytest.mark.usefixtures("stored")
def test_what_is_there_and_otherwise_is_told_and_left_alone(
    kafka: str, topics: str, database: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    execute(database, "UPDATE traceflow_events SET x_position = 6 WHERE id = %s", ID[1])
    execute(database, "UPDATE traceflow_sessions SET landing_page = '/' WHERE session_id = 's1'")
    execute(database, "UPDATE session_recording_chunks SET events = '[]' WHERE seq = 0")
    changed = contents(database)
    lose_too = "DELETE FROM traceflow_events WHERE id = ANY(%s::uuid[])"
    execute(database, lose_too, [ID[2], ID[5]])
    for name, value in (("KAFKA_BOOTSTRAP", kafka), ("TOPIC_PREFIX", topics), ("DATABASE_URL", database)):
        monkeypatch.setenv(f"TRACEFLOW_{name}", value)
    monkeypatch.setattr("adapters.logs.configure", lambda *_args, **_more: None)

    def answer(*arguments: str) -> dict[str, Any]:
        assert run(["replay", "--json", *arguments]) == 1
        found: dict[str, Any] = orjson.loads(capsys.readouterr().out)
        return found

    told = answer("--from", "0", "--dry-run")
    assert row_count(database) == 5
    assert {each["name"] for each in told["differences"] if each["found"] == "missing"} == {ID[2], ID[5]}
    told = answer("--from", "0")
    assert told["written"] == {"traceflow_events": 2}
    left = [Difference(**each) for each in told["differences"]]
    assert sorted(left, key=repr) == [
        Difference("session_recording_chunks", "changed", PROJECT, "s1", "w/0"),
        Difference("traceflow_events", "changed", PROJECT, "s1", ID[1]),
        Difference("traceflow_sessions", "changed", PROJECT, "s1", ""),
    ]
    assert contents(database) == changed
    assert run(["replay", "--json"]) == 2


def test_what_is_not_meant_and_what_is_not_known_whole_is_not_written(stored: System, database: str) -> None:
    lose(database)
    assert stored.restore(session_id="s2").differences == []
    assert {each.session_id for each in stored.check().differences} == {"s1"}
    execute(database, "DELETE FROM traceflow_sessions WHERE session_id = 's3'")
    # whether it began in what is not read cannot be known without its row
    report = stored.restore(offset=1)
    assert report.began_before == 2
    assert "s3" not in {each.session_id for each in report.differences}
    assert query(database, "SELECT count(*) FROM traceflow_sessions WHERE session_id = 's3'") == [(0,)]


def test_replays_and_a_sink_write_the_same_session_at_once(stored: System, database: str) -> None:
    """Two replays put the same rows back again and again while they are lost and others come."""
    low, end = stored.log.bounds(declared.EVENTS)[0]
    records = [record for record in stored.log.read(declared.EVENTS, 0, start=low, end=end) if record.kind == "events"]
    failures: list[BaseException] = []
    over = threading.Event()

    def restore() -> None:
        sink = SinkRestore("events", stored.settings)
        try:
            while not over.is_set():
                assert sink.store(records) == []
            assert sink.store(records) == []
        except BaseException as error:
            failures.append(error)
        finally:
            sink.close()

    threads = [threading.Thread(target=restore) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(100, 140):
        kind = "error" if number % 3 == 0 else "click"
        stored.events("s1", [event(number, event_type=kind)])
        execute(database, "DELETE FROM traceflow_events WHERE session_id = 's1' AND id = %s", ID[number % 2 + 1])
    stored.flush()
    until(lambda: query(database, "SELECT count(*) FROM traceflow_events WHERE session_id = 's1'") == [(44,)])
    over.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert_counters_equal_rows(database)
