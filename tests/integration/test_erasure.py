"""What is erased is gone from every table, and stays away, whatever is under way and whatever comes late."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from adapters.erasures import Subject
from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import connect
from deploy.erasure.run import Erased, Erasure, LocksHeld, Step
from schemas.connections import DatabaseSettings
from schemas.ids import session_row_id
from schemas.messages import AiJob, Finding, RecordingSummary, SessionSnapshot
from sinks.commit.writer import Step as SinkStep
from tests.integration.sink_bench import (
    NOW_MS,
    OTHER_PROJECT,
    PROJECT,
    SinkBench,
    add_project,
    assert_counters_equal_rows,
    contents,
    copied_database,
    emptied,
    event,
    execute,
    query,
)
from tests.integration.sink_system import until

SINKS = ("events", "recordings", "signals", "sessions", "ai_jobs")
HOUR_MS = 3_600_000
BEFORE_MS, AFTER_MS = NOW_MS - HOUR_MS, NOW_MS + HOUR_MS
VISITOR = Subject(PROJECT, "visitor", "ada")

NAMING_COLUMNS = """
SELECT c.relname::text, a.attname::text
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname ~ '(session|visitor)_id$'
ORDER BY 1, 2
"""
"""Every column of a table that says by its name that it holds a session or a visitor."""

WRONG_ISSUES = """
SELECT i.element_selector, i.occurrence_count, i.affected_sessions, i.affected_users
FROM traceflow_ux_issues i
WHERE (occurrence_count, affected_sessions, affected_users, first_detected_at, last_detected_at) IS DISTINCT FROM (
  (SELECT count(*) FROM traceflow_ux_issue_findings l WHERE l.issue_id = i.id),
  (SELECT count(*) FROM traceflow_ux_issue_sessions l WHERE l.issue_id = i.id),
  (SELECT count(*) FROM traceflow_ux_issue_visitors l WHERE l.issue_id = i.id),
  (SELECT min(detected_at) FROM traceflow_ux_issue_findings l WHERE l.issue_id = i.id),
  (SELECT max(detected_at) FROM traceflow_ux_issue_findings l WHERE l.issue_id = i.id))
"""


class KilledHere(BaseException):
    """Ends a command as a kill does: nothing after it happens, and what is open is rolled back."""


class Sinks:
    """All sinks on one database, fed by hand."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.benches = {name: SinkBench(url, name) for name in SINKS}

    def write(self, records: Mapping[str, ConsumedRecord]) -> dict[str, int]:
        """Write a record by each sink; return how many rows each left out as erased."""
        return {name: self.benches[name].write([record]).erased for name, record in records.items()}

    def visit(
        self, session: str, number: int, *, visitor: str | None, project: str = PROJECT, at: int = BEFORE_MS
    ) -> dict[str, ConsumedRecord]:
        """Return what each sink reads of a session: received, and appended by the broker, at the same moment."""
        found, job = f"0199b2f0-0000-8000-8000-{number:012d}", f"0199b2f0-0000-8000-9000-{number:012d}"
        issue: Any = {"page_url": "/a", "element_selector": "#pay", "visitor_id": visitor}
        summary = RecordingSummary(start_time=at, end_time=at, duration_ms=0, event_count=1, page_count=1)
        messages: dict[str, Finding | SessionSnapshot | AiJob] = {
            "signals": Finding(found, project, session, "rage_click", at + number, **issue),
            "sessions": SessionSnapshot(
                id=session_row_id(project, session),
                project_id=project,
                session_id=session,
                version=number,
                life=0,
                started_at=at,
                ended_at=at,
                duration_ms=0,
                closed=True,
                visitor_id=visitor,
                recording=summary,
            ),
            "ai_jobs": AiJob(job, project, session, "root_cause", 1, {"session": session}),
        }
        events = [event(number * 10 + n, timestamp=at + n) for n in range(2)]
        named = {"visitor_id": visitor} if visitor else {}
        records = {
            "events": self.benches["events"].events(events, session=session, project=project, received_at=at, **named),
            "recordings": self._chunk(session, project, at, named),
            **{name: self.benches[name].message(message) for name, message in messages.items()},
        }
        return {name: replace(record, timestamp=at) for name, record in records.items()}

    def _chunk(self, session: str, project: str, at: int, named: Mapping[str, str]) -> ConsumedRecord:
        meta = {"v": 1, "project_id": project, "session_id": session, "window_id": "w", "seq": 0, "codec": "json"}
        more = {"received_at": at, "encoding": "identity", "settings": {"version": 1}, **named}
        return self.benches["recordings"].record(
            orjson.dumps([{"type": 3, "timestamp": at, "data": {}}]),
            key=f"{project}/{session}".encode(),
            kind="chunk",
            meta=orjson.dumps(meta | more),
        )

    def erase(self, subject: Subject = VISITOR, **options: Any) -> Erased:
        """Run the erasure that the command runs."""
        settings = DatabaseSettings(url=SecretStr(self.url))
        with closing(connect(settings, application_name="test erase")) as connection:
            return Erasure(connection, subject, **options).run()

    def naming(self, *names: str) -> dict[str, int]:
        """Count by column the rows that name one of these sessions or visitors."""
        count = "SELECT count(*) FROM {} WHERE {} = ANY(%s)"
        return {
            f"{table}.{column}": query(self.url, count.format(table, column), [*names])[0][0]
            for table, column in query(self.url, NAMING_COLUMNS)
        }

    def letters(self) -> int:
        """Count the dead letters of all sinks."""
        return sum(len(bench.letters.letters) for bench in self.benches.values())


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def sinks(module_database: str) -> Iterator[Sinks]:
    url = emptied(module_database)
    add_project(url, OTHER_PROJECT)
    with ExitStack() as stack:
        made = Sinks(url)
        for bench in made.benches.values():
            stack.callback(bench.close)
        yield made


def call_model(url: str, session: str) -> None:
    """Log a call of a model, as the AI worker does."""
    execute(
        url,
        "INSERT INTO neurorouter_logs (task_type, model_selected, provider, session_id, project_id, total_tokens)"
        " VALUES ('t', 'm', 'p', %s, %s, 7)",
        session,
        PROJECT,
    )


def waits_for_a_lock(url: str) -> bool:
    return query(url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == [(1,)]


def rows_of(url: str, kind: str) -> list[tuple[Any, ...]]:
    return query(url, "SELECT project_id::text, removed FROM traceflow_erasures WHERE kind = %s ORDER BY 1", kind)


def test_an_erased_visitor_is_gone_from_every_column_that_names_one_and_nobody_else_is(sinks: Sinks) -> None:
    bystanders = [sinks.visit("w1", 3, visitor="bob"), sinks.visit("o1", 4, visitor="ada", project=OTHER_PROJECT)]
    for records in bystanders:
        sinks.write(records)
    call_model(sinks.url, "w1")
    others = contents(sinks.url)
    # found first by what goes, so that the issue that stays has to forget it
    for records in (sinks.visit("a1", 1, visitor="ada"), sinks.visit("a2", 2, visitor="ada")):
        sinks.write(records)
    call_model(sinks.url, "a1")
    execute(sinks.url, "UPDATE traceflow_ux_issues SET session_id = 'a1' WHERE project_id = %s", PROJECT)
    before = sinks.naming("a1", "a2", "ada")
    assert min(before.values()) > 0, "a column that names sessions or visitors is not part of this test"
    erased = sinks.erase()
    assert sinks.naming("a1", "a2") == dict.fromkeys(before, 0)
    # the other project's visitor of the same name
    assert sinks.naming("ada") == {column: int(column.endswith("visitor_id")) for column in before}
    assert erased.removed == {
        **{"traceflow_sessions": 2, "traceflow_events": 6, "session_recordings": 2, "session_recording_chunks": 2},
        **{"traceflow_ux_issue_findings": 2, "traceflow_ux_issue_sessions": 2, "traceflow_ux_issue_visitors": 1},
        **{"traceflow_ai_queue": 2, "neurorouter_logs": 1, "traceflow_ux_issues": 0},
    }
    assert set(erased.left.values()) == {0}
    left = contents(sinks.url)
    for table in others.keys() - {"traceflow_ux_issues", "traceflow_sink_offsets"}:
        assert left[table] == others[table], table
    assert query(sinks.url, WRONG_ISSUES) == []
    assert query(sinks.url, "SELECT count(*), sum(total_tokens) FROM neurorouter_logs") == [(2, 14)]
    assert query(sinks.url, "SELECT * FROM traceflow_event_hour_differences()") == []
    assert_counters_equal_rows(sinks.url)


def test_an_issue_that_nothing_shows_any_more_goes_with_it(sinks: Sinks) -> None:
    sinks.write(sinks.visit("a1", 1, visitor="ada"))
    execute(
        sinks.url,
        "INSERT INTO traceflow_ux_issues (project_id, session_id, issue_type, component)"
        " VALUES (%s, 'a1', 'x', 'by hand')",
        PROJECT,
    )
    assert sinks.erase(Subject(PROJECT, "session", "a1")).removed["traceflow_ux_issues"] == 1
    assert query(sinks.url, "SELECT component, session_id FROM traceflow_ux_issues") == [("by hand", None)]


def test_what_was_received_before_never_comes_back_and_is_no_dead_letter(sinks: Sinks) -> None:
    visit = sinks.visit("a1", 1, visitor="ada")
    sinks.write(visit)
    sinks.erase()
    empty = contents(sinks.url)
    late = sinks.visit("a1", 2, visitor=None, at=AFTER_MS)
    for records in (sinks.visit("a1", 1, visitor="ada"), late):
        assert sinks.write(records) == {"events": 2, "recordings": 1, "signals": 1, "sessions": 1, "ai_jobs": 1}
    broken = sinks.benches["events"].record({"v": 1, "project_id": PROJECT, "session_id": "a1"}, kind="events")
    assert sinks.write({"events": broken}) == {"events": 1}
    assert contents(sinks.url) == empty
    assert sinks.letters() == 0
    # nor does it hold up or take along its neighbours in a batch
    bench = sinks.benches["events"]
    written = bench.write([bench.events([event(1)], session="a1"), bench.events([event(2)], session="b1")])
    assert (written.inserted, written.erased) == (1, 1)


def test_what_the_visitor_does_later_is_kept(sinks: Sinks) -> None:
    sinks.write(sinks.visit("a1", 1, visitor="ada"))
    sinks.erase()
    assert set(sinks.write(sinks.visit("a2", 2, visitor="ada", at=AFTER_MS)).values()) == {0}
    assert query(sinks.url, "SELECT session_id, visitor_id FROM traceflow_sessions") == [("a2", "ada")]
    sinks.erase()
    assert query(sinks.url, "SELECT session_id FROM traceflow_sessions") == []


@pytest.mark.parametrize("first", SINKS)
@pytest.mark.parametrize("naming", ["events", "recordings", "signals", "sessions"])
def test_a_session_that_was_in_the_log_alone_goes_whichever_sink_meets_it_first(
    sinks: Sinks, first: str, naming: str
) -> None:
    sinks.erase()
    nameless = sinks.visit("a1", 1, visitor=None, at=AFTER_MS)
    sinks.write({first: nameless[first]})
    # the record that names the visitor was received before; those that do not may be of any time
    sinks.write({naming: sinks.visit("a1", 2, visitor="ada", at=BEFORE_MS)[naming]})
    sinks.write(sinks.visit("a1", 3, visitor=None, at=AFTER_MS))
    assert sinks.naming("a1", "ada") == dict.fromkeys(sinks.naming("a1"), 0)
    assert sinks.letters() == 0


def test_a_session_that_is_said_to_be_the_visitor_s_only_later_goes_if_it_was_there_before(sinks: Sinks) -> None:
    sinks.write(sinks.visit("a1", 1, visitor=None))
    sinks.erase()
    assert query(sinks.url, "SELECT session_id FROM traceflow_sessions") == [("a1",)]
    late = sinks.visit("a1", 2, visitor="ada", at=AFTER_MS)
    assert sinks.write({"sessions": late["sessions"]}) == {"sessions": 1}
    assert sinks.naming("a1", "ada") == dict.fromkeys(sinks.naming("a1"), 0)


def test_a_name_that_a_session_had_once_is_taken_from_its_findings(sinks: Sinks) -> None:
    sinks.write(sinks.visit("s1", 1, visitor="ada"))
    sinks.write({"sessions": sinks.visit("s1", 2, visitor="bob")["sessions"]})
    execute(sinks.url, "UPDATE session_recordings SET visitor_id = 'bob'")
    sinks.erase()
    assert sinks.naming("ada") == dict.fromkeys(sinks.naming("ada"), 0)
    assert query(sinks.url, "SELECT occurrence_count, affected_users FROM traceflow_ux_issues") == [(1, 0)]


def test_a_transaction_that_began_before_leaves_nothing_behind(sinks: Sinks) -> None:
    for name, record in sinks.visit("a1", 1, visitor="ada").items():
        reached, go_on, erased = threading.Event(), threading.Event(), threading.Event()

        def freeze(step: SinkStep, reached: threading.Event = reached, go_on: threading.Event = go_on) -> None:
            if step is SinkStep.ROWS_STORED:
                reached.set()
                assert go_on.wait(30)

        def erase(erased: threading.Event = erased) -> None:
            sinks.erase(Subject(PROJECT, "session", "a1"))
            erased.set()

        bench = sinks.benches[name]
        bench.on_step = freeze
        writing = threading.Thread(target=bench.write, args=([record],))
        writing.start()
        assert reached.wait(30)
        erasing = threading.Thread(target=erase)
        erasing.start()
        until(partial(waits_for_a_lock, sinks.url))
        assert not erased.is_set()
        go_on.set()
        writing.join()
        erasing.join()
        bench.on_step = lambda _step: None
        assert sinks.naming("a1") == dict.fromkeys(sinks.naming("a1"), 0), name
        execute(sinks.url, "DELETE FROM traceflow_erasures")


def test_a_sink_that_is_frozen_holds_up_the_erasure_and_not_the_other_sinks(sinks: Sinks) -> None:
    def while_frozen(step: SinkStep) -> None:
        if step is SinkStep.ROWS_STORED:
            with pytest.raises(LocksHeld):
                sinks.erase(patience_s=0.1)
            sinks.write({"recordings": sinks.visit("b1", 2, visitor="bob")["recordings"]})

    sinks.benches["events"].on_step = while_frozen
    sinks.write({"events": sinks.visit("a1", 1, visitor="ada")["events"]})
    assert query(sinks.url, "SELECT session_id FROM traceflow_sessions ORDER BY 1") == [("a1",), ("b1",)]
    assert rows_of(sinks.url, "visitor") == []


def test_an_erasure_that_is_killed_at_each_step_and_repeated_is_the_same(sinks: Sinks) -> None:
    def stored() -> None:
        for number in range(1, 6):
            sinks.write(sinks.visit(f"a{number}", number, visitor="ada"))

    def killed_at(ending: Step) -> Erased:
        def on_step(step: Step) -> None:
            # sinks go on while sessions are being removed
            assert sinks.write(sinks.visit("b1", 9, visitor="bob"))
            if step is ending:
                raise KilledHere

        with pytest.raises(KilledHere):
            sinks.erase(on_step=on_step, batch_sessions=2)
        return sinks.erase(batch_sessions=2)

    sinks.write(sinks.visit("b1", 9, visitor="bob"))
    stored()
    wanted = sinks.erase(batch_sessions=2).removed
    assert wanted["traceflow_sessions"] == 5
    for ending in Step:
        execute(sinks.url, "DELETE FROM traceflow_erasures")
        stored()
        assert killed_at(ending).removed == wanted, ending
        assert query(sinks.url, "SELECT session_id FROM traceflow_sessions") == [("b1",)]
        assert rows_of(sinks.url, "visitor") == [(PROJECT, wanted)]
        assert len(rows_of(sinks.url, "session")) == 5
    assert query(sinks.url, WRONG_ISSUES) == []


def test_the_audit_log_tells_of_it_without_saying_who(sinks: Sinks) -> None:
    sinks.write(sinks.visit("a1", 1, visitor="ada"))
    since = query(sinks.url, "SELECT clock_timestamp()")[0][0]
    sinks.erase()
    told = query(
        sinks.url,
        "SELECT action, target_id, project_id::text, details FROM traceflow_audit_logs"
        " WHERE created_at > %s AND target_table = 'traceflow_erasures' ORDER BY created_at",
        since,
    )
    (hashed,) = query(sinks.url, "SELECT encode(sha256(%s::bytea), 'hex')", f"{PROJECT}/visitor/ada")[0]
    assert [row[:3] for row in told] == [("erase", hashed, PROJECT), ("erased", hashed, PROJECT)]
    assert told[0][3] == {"kind": "visitor", "sessions": 1}
    assert told[1][3]["removed"]["traceflow_sessions"] == 1
    listed = query(sinks.url, "SELECT to_jsonb(e)::text FROM traceflow_erasures e")
    assert len(listed) == 2
    assert VISITOR.id not in str([told, listed])
