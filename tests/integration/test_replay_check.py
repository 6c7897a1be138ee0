"""A replay finds no difference in what the system stored, and every row that was deleted or changed by hand."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from adapters.postgres import connect
from deploy.accounts.count import Account, count_accounts
from deploy.command.application import run
from deploy.replay.caught_up import NotCaughtUp
from deploy.replay.tables import Difference
from tests.integration.replay_system import System, running_system, store_three_sessions
from tests.integration.sink_bench import NOW_MS, PROJECT, add_project, event, execute, query
from tests.integration.sink_system import environment

COUNTED = {"traceflow_events", "traceflow_sessions", "traceflow_ai_queue", "session_recording_chunks"}


@pytest.fixture
def stored(kafka: str, topics: str, database: str) -> Iterator[System]:
    add_project(database)
    with running_system(environment(kafka=kafka, prefix=topics, database=database)) as system:
        store_three_sessions(system, database)
        yield system


def test_a_system_that_lives_is_as_its_log_says(stored: System, database: str) -> None:
    report = stored.check()
    assert report.differences == []
    assert set(report.compared) >= COUNTED
    # six events and the finding of the slow page
    assert (report.compared["traceflow_events"], report.compared["traceflow_sessions"]) == (7, 3)
    assert report.compared["session_recording_chunks"] == 2
    assert report.compared["traceflow_ai_queue"] == query(database, "SELECT count(*) FROM traceflow_ai_queue")[0][0] > 0
    assert report.compared["traceflow_ux_issue_findings"] == 2
    # read from its middle, what it says of a session that began before is not judged
    report = stored.check(offset=1)
    assert (report.differences, report.began_before) == ([], 1)


def test_tries_of_one_event_of_which_one_was_restamped_are_one_row_from_wherever_the_log_is_read(
    kafka: str, topics: str, database: str
) -> None:
    add_project(database)
    ahead_ms = NOW_MS + 700_000
    believed = {"event_type": "error", "error_message": "boom", "metadata": {"a": 1}, "timestamp": ahead_ms}
    restamped = believed | {
        **{"timestamp": NOW_MS, "restamped": True},
        "metadata": {"a": 1, "client_timestamp": ahead_ms},
    }
    with running_system(environment(kafka=kafka, prefix=topics, database=database)) as system:
        for number, tries in enumerate([(believed, restamped), (restamped, believed)]):
            for one in (*tries, *tries):
                system.events(f"s{number}", [event(number, **one), event(number + 10)])
        system.pass_time(NOW_MS, source=0)
        system.analyze()
        for offset in (0, 1, 5, 6):
            report = system.check(offset=offset)
            assert report.differences == []
            assert report.compared["traceflow_events"] == (2 if offset > 3 else 4)
        assert system.restore(offset=5).written == {}
        with connect(system.settings.database, application_name="test") as connection:
            accounts = count_accounts(system.log, connection)
        assert accounts == {(PROJECT, "events"): Account(accepted=16, stored=4, duplicates=12)}
        counters = "SELECT event_count, error_count FROM traceflow_sessions ORDER BY session_id"
        assert query(database, counters) == [(2, 1), (2, 1)]
        execute(database, "DELETE FROM traceflow_events WHERE id = %s", event(1)["id"])
        assert [(each.found, each.name) for each in system.check(offset=5).differences if each.is_lost] == [
            ("missing", event(1)["id"])
        ]


def test_what_was_deleted_or_changed_by_hand_is_found(
    stored: System, kafka: str, topics: str, database: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stored.check()  # waits until all is stored
    ids = {number: event(number)["id"] for number in range(7)}
    execute(database, "DELETE FROM traceflow_events WHERE id = %s", ids[4])
    execute(database, """UPDATE traceflow_events SET metadata = '{"a": "ü"}' WHERE id = %s""", ids[5])
    execute(database, "UPDATE traceflow_events SET x_position = NULL WHERE id = %s", ids[1])
    execute(
        database, "UPDATE traceflow_sessions SET landing_page = 'https://elsewhere.example/' WHERE session_id = 's1'"
    )
    execute(database, "UPDATE traceflow_sessions SET frustration_score = 99 WHERE session_id = 's3'")
    execute(database, "DELETE FROM session_recording_chunks WHERE seq = 1")
    execute(database, "UPDATE session_recording_chunks SET events = '[]' WHERE seq = 0")
    (job,) = query(database, "SELECT id FROM traceflow_ai_queue ORDER BY id LIMIT 1")
    execute(database, "DELETE FROM traceflow_ai_queue WHERE id = %s", *job)
    found = stored.check().differences
    expected = [
        Difference("traceflow_events", "missing", PROJECT, "s2", ids[4]),
        Difference("traceflow_events", "changed", PROJECT, "s2", ids[5]),
        Difference("traceflow_events", "changed", PROJECT, "s1", ids[1]),
        Difference("traceflow_sessions", "changed", PROJECT, "s1", ""),
        Difference("traceflow_sessions", "changed", PROJECT, "s2", "counters"),
        Difference("traceflow_sessions", "changed", PROJECT, "s3", "counters"),
        Difference("session_recording_chunks", "missing", PROJECT, "s1", "w/1"),
        Difference("session_recording_chunks", "changed", PROJECT, "s1", "w/0"),
        Difference("traceflow_ai_queue", "missing", PROJECT, "s1", str(job[0])),
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)

    for name, value in (("KAFKA_BOOTSTRAP", kafka), ("TOPIC_PREFIX", topics), ("DATABASE_URL", database)):
        monkeypatch.setenv(f"TRACEFLOW_{name}", value)
    assert run(["replay", "--check", "--json"]) == 1
    assert len(orjson.loads(capsys.readouterr().out)["differences"]) == len(expected)
    # a tenth of a second ago nothing of it was sent: nothing is judged, and nothing is wrong
    assert run(["replay", "--check", "--from", "0s"]) == 0

    # what is not folded yet is not judged
    stored.events("s4", [event(9)])
    stored.flush()
    with pytest.raises(NotCaughtUp, match=r"analyze is 1 records behind"):
        stored.check(patience_s=0.1)
