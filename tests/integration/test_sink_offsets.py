"""A log that lost what the sinks stand at: told at once for all of them, and passed by one command."""

import json
from collections.abc import Callable

import pytest

from adapters.kafka_consumer import describe_topic
from deploy.command.application import run
from sinks.app import Environment
from sinks.contract.verdicts import SinkHalted
from tests.integration.sink_bench import add_project, assert_counters_equal_rows, execute, query
from tests.integration.sink_system import Log, RunningSink, environment, row_count, running, until

Traceflow = Callable[..., tuple[int, str]]


@pytest.fixture
def settings(kafka: str, topics: str, database: str) -> Environment:
    add_project(database)
    return environment(kafka=kafka, prefix=topics, database=database)


@pytest.fixture
def traceflow(settings: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Traceflow:
    """Run a command on the test's services and give its exit code and output."""
    monkeypatch.setenv("TRACEFLOW_KAFKA_BOOTSTRAP", settings.kafka.bootstrap)
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", settings.database.url.get_secret_value())
    monkeypatch.setenv("TRACEFLOW_TOPIC_PREFIX", settings.log.topic_prefix)

    def run_it(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(arguments)
        return code, capsys.readouterr().out

    return run_it


def test_after_a_power_loss_one_command_lets_every_sink_go_on_and_nothing_new_is_passed_over(
    settings: Environment, database: str, traceflow: Traceflow
) -> None:
    log = Log(settings)
    expected = log.load(0, 40)
    with running("events", settings):
        until(lambda: row_count(database) == expected)
    assert traceflow("offsets", "list")[0] == 0
    # The broker lost its end: what stands in Postgres lies beyond it, and new records get offsets below that.
    execute(database, "UPDATE traceflow_sink_offsets SET next_offset = next_offset + 1000")
    name = f"{settings.log.topic_prefix}signals"
    topic_id = describe_topic(settings.kafka, name).topic_id
    execute(database, "INSERT INTO traceflow_sink_offsets VALUES ('signals', %s, %s, 1, 5)", name, topic_id)
    expected += log.load(40, 20)

    halted = RunningSink("events", settings)
    until(halted.ended)
    with pytest.raises(SinkHalted, match=r"partition 0: the log ends.*partition 1: the log ends"):
        halted.stop()
    assert traceflow("offsets", "list")[0] == 1
    before = query(database, "SELECT sink, part, next_offset FROM traceflow_sink_offsets ORDER BY 1, 2")
    code, told = traceflow("offsets", "accept-loss")
    assert code == 1
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        f"sink events, {settings.log.topic_prefix}events partition 0",
        f"sink events, {settings.log.topic_prefix}events partition 1",
        f"sink signals, {name} partition 1",
    ]
    assert "5 offsets are lost, their rows are in Postgres; it goes on at 0" in told.splitlines()[-1]
    assert query(database, "SELECT sink, part, next_offset FROM traceflow_sink_offsets ORDER BY 1, 2") == before

    code, told = traceflow("offsets", "accept-loss", "--yes", "--json")
    assert code == 0
    assert [(loss["sink"], loss["part"]) for loss in json.loads(told)] == [("events", 0), ("events", 1), ("signals", 1)]
    with running("events", settings):
        until(lambda: row_count(database) == expected)
    assert_counters_equal_rows(database)
    assert traceflow("offsets", "list")[0] == 0
    audit = "SELECT target_id, details -> 'lost' FROM traceflow_audit_logs WHERE action = 'accept_loss' ORDER BY 1"
    assert query(database, audit)[-1] == (f"signals/{name}/1", 5)
    assert len(query(database, audit)) == 3


def test_what_was_deleted_before_it_was_stored_is_counted_and_passed(
    settings: Environment, database: str, traceflow: Traceflow
) -> None:
    name = f"{settings.log.topic_prefix}events"
    topic_id = describe_topic(settings.kafka, name).topic_id
    log = Log(settings)
    expected = log.load(0, 40)
    execute(database, "INSERT INTO traceflow_sink_offsets VALUES ('events', %s, %s, 0, -3)", name, topic_id)
    code, told = traceflow("offsets", "accept-loss", "--yes")
    assert code == 0
    assert "records -3 to -1 were deleted before they were stored: 3 offsets are lost, their rows are missing" in told
    with running("events", settings):
        until(lambda: row_count(database) == expected)
