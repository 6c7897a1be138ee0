"""Dead letters that are put back have one effect each, wherever the command is ended, however often it is repeated."""

import os
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.dead_letters import DeadLetterWriter, ParkedRecord, dead_letter_producer
from deploy.command.application import run
from deploy.redrive.run import LogStep
from schemas import topics as declared
from schemas.ids import session_key
from schemas.reasons import Reason
from sinks.app import Environment
from sinks.commit.writer import Step
from stream_processors.fold.partition import PartitionFold
from tests.integration.redrive_process import AnyStep, redrive_all
from tests.integration.sink_bench import (
    NOW_MS,
    OTHER_PROJECT,
    PROJECT,
    add_project,
    assert_counters_equal_rows,
    event,
    execute,
    query,
)
from tests.integration.sink_system import environment, row_count
from tests.integration.stage_process import ROOT, Stages
from tests.stage_toy import ToyLogic

MARKS = "SELECT stage, record_offset, event_index, state FROM traceflow_dead_letter_marks ORDER BY 1, 2, 3"
DONE = [("analyze", 3, -1, "redriven"), ("analyze", 5, -1, "redriven"), ("analyze", 7, -1, "redriven")] + [
    ("sink-events", offset, index, "redriven") for offset, index in ((11, -1), (12, 1), (13, -1))
]


class KilledHere(BaseException):
    """Ends a command as a kill does: nothing after it happens, and what is open is rolled back."""


@pytest.fixture
def settings(kafka: str, topics: str, database: str) -> Environment:
    add_project(database)
    add_project(database, OTHER_PROJECT)
    execute(
        database,
        "INSERT INTO traceflow_sessions (session_id, project_id, started_at) VALUES ('taken', %s, now())",
        OTHER_PROJECT,
    )
    return environment(kafka=kafka, prefix=topics, database=database)


def parked(offset: int, value: dict[str, Any], *, key: bytes, partition: int = 0, index: int = -1) -> ParkedRecord:
    return ParkedRecord(
        reason=Reason.ENGINE_ERROR,
        topic="events",
        partition=partition,
        offset=offset,
        key=key,
        value=orjson.dumps(value),
        headers=[("kind", b"events")],
        index=index,
        detail="as a test says",
    )


def events(offset: int, numbers: range, *, session: str, index: int = -1, broken: int = -1) -> ParkedRecord:
    """Return a record of events as the sink parked it; the event `broken` has lost its id."""
    made = [event(number) for number in numbers]
    if broken >= 0:
        del made[broken]["id"]
    value = {"v": 1, "project_id": PROJECT, "session_id": session, "received_at": NOW_MS, "settings": {"version": 1}}
    return parked(offset, value | {"events": made}, key=session_key(PROJECT, session), index=index)


def park(settings: Environment, stage: str, *letters: ParkedRecord) -> None:
    writer = DeadLetterWriter(
        lambda: dead_letter_producer(settings.kafka), prefix=settings.log.topic_prefix, stage=stage
    )
    for letter in letters:
        writer.park([letter])


def park_some(settings: Environment) -> None:
    """Park three letters of a stage, out of order and one of them twice, and four of a sink."""
    later = parked(5, {"x": 2}, key=b"p/a")
    park(settings, "analyze", later, parked(3, {"x": 1}, key=b"p/a"), later)
    park(settings, "analyze", parked(7, {"x": 3}, key=b"p/b", partition=1))
    park(settings, "sink-events", events(11, range(6, 9), session="s", broken=1))
    park(settings, "sink-events", events(12, range(3, 6), session="s", index=1), events(13, range(3), session="whole"))
    park(settings, "sink-events", events(14, range(9, 12), session="taken"))


def folded(settings: Environment) -> dict[bytes, dict[str, int]]:
    """Fold the log as the stage does: how many records each session has had, and a hash of them in order."""
    log = Stages(settings.kafka.bootstrap, settings.log.topic_prefix, 2, Path()).read(declared.EVENTS)
    states = {}
    for partition in range(2):
        fold = PartitionFold(ToyLogic())
        fold.apply(record.as_log_record() for record in log if record.partition == partition)
        for key, fact in fold.facts.items():
            state = ToyLogic().decode(fact[42:])
            states[key] = {"n": state["n"], "h": state["h"]}
    return states


def once(*values: int) -> dict[str, int]:
    state = 0
    for value in values:
        state = zlib.crc32(b"%d" % value, state)
    return {"n": len(values), "h": state}


def assert_each_effect_is_there_once(settings: Environment, database: str) -> None:
    assert folded(settings) == {b"p/a": once(1, 2), b"p/b": once(3)}
    stored = query(database, "SELECT session_id, event_count FROM traceflow_sessions ORDER BY 1")
    assert stored == [("s", 3), ("taken", 0), ("whole", 3)]
    assert row_count(database) == 6
    assert_counters_equal_rows(database)
    assert query(database, MARKS) == DONE


def test_a_command_that_is_ended_at_each_of_its_steps_and_repeated_has_each_effect_once(
    settings: Environment, database: str
) -> None:
    park_some(settings)
    for ending in (*LogStep, *Step):

        def on_step(step: AnyStep, ending: AnyStep = ending) -> None:
            if step is ending:
                raise KilledHere

        with pytest.raises(KilledHere):
            redrive_all(settings, on_step)
    redrive_all(settings)
    assert_each_effect_is_there_once(settings, database)
    answer = redrive_all(settings)
    assert_each_effect_is_there_once(settings, database)
    # an event without an id became a letter of its own, and a session of another project is refused for good
    assert answer["redriven"] == {}
    assert [(refused["stage"], refused["reason"]) for refused in answer["refused"]] == [
        ("sink-events", "record_malformed"),
        ("sink-events", "session_id_taken"),
    ]


def test_a_process_that_is_killed_has_lost_and_doubled_nothing(
    settings: Environment, kafka: str, topics: str, database: str
) -> None:
    park_some(settings)
    environ = {
        "TRACEFLOW_KAFKA_BOOTSTRAP": kafka,
        "TRACEFLOW_TOPIC_PREFIX": topics,
        "TRACEFLOW_DATABASE_URL": database,
    }
    for step in (LogStep.SENT, Step.LETTERS_WRITTEN):
        command = [sys.executable, "-m", "tests.integration.redrive_process", step.name]
        ended = subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr[-2_000:]
    redrive_all(settings)
    assert_each_effect_is_there_once(settings, database)


def test_two_commands_at_once_have_each_effect_once(settings: Environment, database: str) -> None:
    park_some(settings)
    meeting = threading.Barrier(2, timeout=30)
    failures: list[BaseException] = []

    def command() -> None:
        met: list[AnyStep] = []

        def on_step(step: AnyStep) -> None:
            if not met:
                met.append(step)
                meeting.wait()

        try:
            redrive_all(settings, on_step)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=command) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert_each_effect_is_there_once(settings, database)


def test_the_commands_show_count_drop_and_put_back(
    settings: Environment,
    kafka: str,
    topics: str,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (("KAFKA_BOOTSTRAP", kafka), ("TOPIC_PREFIX", topics), ("DATABASE_URL", database)):
        monkeypatch.setenv(f"TRACEFLOW_{name}", value)
    park_some(settings)

    def command(*arguments: str) -> Any:
        code = run(["dead-letters", *arguments, "--json"])
        return code, orjson.loads(capsys.readouterr().out)

    _, dry = command("redrive", "--all", "--dry-run")
    assert (dry["planned"], query(database, MARKS)) == ({"analyze": 3, "sink-events": 4}, [])

    _, dropped = command("drop", "--stage", "sink-events")
    assert dropped == {"dropped": 4}
    _, back = command("drop", "--all", "--undo", "--project", PROJECT)
    assert back == {"taken_back": 4}
    assert command("drop", "--stage", "analyze")[1] == {"dropped": 3}

    _, listed = command("list", "--state", "waiting", "--stage", "sink-events")
    places = [row["place"] for row in listed if row["session_id"] == "whole"]
    assert command("redrive", *places)[1]["redriven"] == {"sink-events": 1}
    assert (row_count(database), folded(settings)) == (3, {})

    code, refused = command("redrive", "--all")
    assert (code, refused["redriven"], len(refused["refused"])) == (1, {"sink-events": 2}, 1)
    assert {row["stage"]: row for row in command("stats")[1]}["analyze"] == {
        **{"stage": "analyze", "reason": "engine_error", "project_id": "p", "letters": 3},
        **{"waiting": 0, "sending": 0, "redriven": 0, "dropped": 3},
    }
    assert run(["dead-letters", "redrive"]) == 2
    assert "say which" in capsys.readouterr().err
