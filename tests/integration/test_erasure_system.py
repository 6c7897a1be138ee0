"""What was erased stays away from a running system: from a redrive, a replay and late records, through real sinks."""

import io
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr
from typing import Any

import orjson
import pytest

from adapters import logs
from adapters.dead_letters import DeadLetterWriter, ParkedRecord, dead_letter_producer
from adapters.postgres import connect
from deploy.accounts.count import Account, count_accounts
from deploy.command.application import run
from schemas import topics as declared
from schemas.ids import session_key
from schemas.messages import SessionSnapshot, encode
from schemas.reasons import Reason
from tests.integration.redrive_process import redrive_all
from tests.integration.replay_system import System, running_system, store_three_sessions
from tests.integration.sink_bench import NOW_MS, PROJECT, add_project, contents, event, query
from tests.integration.sink_system import environment, until

Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def system(kafka: str, topics: str, database: str) -> Iterator[System]:
    add_project(database)
    settings = environment(kafka=kafka, prefix=topics, database=database)
    # the sinks run in this process: without it they would write between the lines of the command
    logs.configure("sink", log_format=settings.log.log_format)
    with running_system(settings) as made:
        store_three_sessions(made, database)
        assert made.check().differences == []  # waits until all is stored
        yield made


@pytest.fixture
def command(
    system: System, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    for name, value in (
        ("KAFKA_BOOTSTRAP", system.settings.kafka.bootstrap),
        ("TOPIC_PREFIX", system.settings.log.topic_prefix),
        ("DATABASE_URL", database),
    ):
        monkeypatch.setenv(f"TRACEFLOW_{name}", value)

    def ask(*arguments: str) -> tuple[int, Any]:
        code = run([*arguments, "--json"])
        told = capsys.readouterr().out
        return code, orjson.loads(told) if told.startswith(("{", "[")) else told

    return ask


def parked_events(system: System, session: str, numbers: range, **more: Any) -> None:
    """Park a record of events, as the sink would have."""
    value = {"v": 1, "project_id": PROJECT, "session_id": session, "received_at": NOW_MS, "settings": {"version": 1}}
    writer = DeadLetterWriter(
        lambda: dead_letter_producer(system.settings.kafka),
        prefix=system.settings.log.topic_prefix,
        stage="sink-events",
    )
    letter = ParkedRecord(
        reason=Reason.ENGINE_ERROR,
        topic="events",
        partition=1,
        offset=1_000 + numbers.start,
        key=session_key(PROJECT, session),
        value=orjson.dumps(value | more | {"events": [event(number) for number in numbers]}),
        headers=[("kind", b"events")],
        index=-1,
        detail="as a test says",
    )
    writer.park([letter])


def accounts(system: System) -> dict[tuple[str, str], Account]:
    with closing(connect(system.settings.database, application_name="test")) as connection:
        return count_accounts(system.log, connection)


def sessions(database: str) -> list[str]:
    return [row[0] for row in query(database, "SELECT session_id FROM traceflow_sessions ORDER BY 1")]


def test_an_erased_session_stays_away_from_redrive_replay_and_late_records(
    system: System, database: str, command: Command
) -> None:
    parked_events(system, "s1", range(50, 53))
    code, planned = command("erase", "--project", PROJECT, "--session", "s1", "--dry-run")
    assert (code, planned["planned"]["traceflow_sessions"], sessions(database)) == (0, 1, ["s1", "s2", "s3"])
    code, erased = command("erase", "--project", PROJECT, "--session", "s1", "--yes")
    assert (code, set(erased["left"].values())) == (0, {0})
    assert erased["removed"] == {**planned["planned"], "traceflow_ux_issues": erased["removed"]["traceflow_ux_issues"]}
    left = contents(database)
    assert sessions(database) == ["s2", "s3"]

    redriven = redrive_all(system.settings)
    assert (redriven["redriven"], redriven["refused"]) == ({"sink-events": 1}, [])
    assert contents(database) == left

    code, checked = command("replay", "--check")
    assert (code, checked["differences"], checked["erased"] > 0) == (0, [], True)
    code, replayed = command("replay", "--from", "0")
    assert (code, replayed["written"], replayed["refused"]) == (0, {}, {})
    assert contents(database) == left

    system.events("s1", [event(60, event_type="error", error_message="oh")])
    system.chunk("s1", seq=2)
    system.events("s2", [event(61)], partition=1)
    system.pass_time(NOW_MS + 3_600_002, source=2)
    system.analyze()
    until(lambda: query(database, "SELECT event_count FROM traceflow_sessions WHERE session_id = 's2'") == [(3,)])
    assert system.check().differences == []  # waits until all is stored
    assert sessions(database) == ["s2", "s3"]
    found = accounts(system)
    # s1: three events, one of them sent twice, and one later; two chunks and one later
    assert (found[PROJECT, "events"].erased, found[PROJECT, "chunks"].erased) == (5, 3)
    assert {account.unexplained for account in found.values()} == {0}


def test_of_an_erased_visitor_nothing_comes_back_that_no_table_had_and_what_is_new_is_kept(
    system: System, database: str, command: Command
) -> None:
    parked_events(system, "parked", range(50, 53), visitor_id="ada")
    assert command("erase", "--project", PROJECT, "--visitor", "ada", "--yes")[0] == 0
    # analyze knows the session, for it read what the sink had parked; it speaks of it later than the erasure
    snapshot = SessionSnapshot(
        id="0199b2f0-0000-8000-8000-000000000001",
        project_id=PROJECT,
        session_id="parked",
        version=1,
        life=0,
        started_at=NOW_MS,
        ended_at=NOW_MS,
        duration_ms=0,
    )
    key = session_key(PROJECT, "parked")
    system.send(declared.SESSIONS, 0, key, encode(snapshot))
    system.flush()
    until(lambda: "parked" in sessions(database))
    assert redrive_all(system.settings)["redriven"] == {"sink-events": 1}
    assert sessions(database) == ["s1", "s2", "s3"]

    later = {"visitor_id": "ada", "received_at": NOW_MS + 3_600_000}
    parked_events(system, "later", range(60, 63), **later)
    assert redrive_all(system.settings)["redriven"] == {"sink-events": 1}
    assert sessions(database) == ["later", "s1", "s2", "s3"]


def test_the_command_asks_and_says_what_is_wrong(
    database: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with redirect_stderr(errors):
        assert command("erase", "--project", PROJECT, "--session", "s1")[0] == 1
    assert "nothing was erased: where nobody can be asked, say --yes" in errors.getvalue()
    assert sessions(database) == ["s1", "s2", "s3"]
    assert command("erase", "--project", PROJECT)[0] == 2
    assert command("erase", "--project", PROJECT, "--session", "s1", "--visitor", "v")[0] == 2
    assert command("erase", "--project", "shop", "--session", "s1")[0] == 2
    assert command("erase", "--project", PROJECT.replace("1", "3"), "--session", "s1", "--yes")[0] == 1
