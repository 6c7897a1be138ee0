"""Small decisions of the sinks: whose turn it is, what an error asks for, when a gap stops everything."""

import psycopg
import pytest
from psycopg import errors

from adapters.dead_letters import DeadLetterCounts
from adapters.kafka_consumer import ConsumedRecord
from schemas.reasons import Reason
from sinks.commit.backoff import Backoff
from sinks.commit.gaps import Gap, LogRange, gap_of, goes_on_at
from sinks.commit.loop import prepared, refuse_gaps
from sinks.commit.writer import counts_after
from sinks.contract.failures import action_of
from sinks.contract.sink import Parking, Prepared
from sinks.contract.sqlstates import Action
from sinks.contract.verdicts import Refusal, SinkHalted
from sinks.tables.event_rows import refused_line
from sinks.tables.session_rows import SessionDelta, rounds
from sinks.topics.sessions import SessionsSink, SnapshotLine, newest


def delta(project: str, session: str) -> SessionDelta:
    return SessionDelta(session, project, None, 0)


def test_sessions_are_claimed_in_order_and_rivals_in_the_order_of_the_log() -> None:
    first = [delta("p", "b"), delta("q", "a"), delta("p", "a"), delta("r", "a"), delta("p", "c")]
    assert [[each.owner for each in each_round] for each_round in rounds(first)] == [
        [("q", "a"), ("p", "b"), ("p", "c")],
        [("p", "a")],
        [("r", "a")],
    ]


def snapshot(session: str, life: int, version: int, project: str = "p") -> Prepared[SnapshotLine]:
    line = SnapshotLine(project, session, life, version, started_at=0, recorded_at=None, closed=False, line=b"")
    return Prepared(ConsumedRecord(0, 0, 0, "", None, None), line, rows=1, size_bytes=1)


def test_of_each_life_the_newest_snapshot_counts_and_lives_come_in_order() -> None:
    items = [
        snapshot("a", 50, 60),
        snapshot("a", 0, 9),
        snapshot("b", 0, 5),
        snapshot("a", 0, 7),
        snapshot("a", 50, 61),
    ]
    assert [[(c.session_id, c.life, c.version) for _, c in each] for each in newest(items)] == [
        [("a", 0, 9), ("b", 0, 5)],
        [("a", 50, 61)],
    ]


def item(rows: int) -> Prepared[None]:
    return Prepared(ConsumedRecord(0, 0, 0, "", None, None), None, rows=rows, size_bytes=1)


def test_rows_in_a_row_are_counted_across_records() -> None:
    ours, theirs = Refusal(Reason.ROW_REFUSED, index=0), Refusal(Reason.EVENT_ID_TAKEN, index=0)
    whole = Refusal(Reason.RECORD_MALFORMED)
    items = [item(20), item(1), item(1), item(5), item(1)]
    parkings = [Parking(items[1], whole), Parking(items[2], whole), Parking(items[3], theirs), Parking(items[4], ours)]
    counts = counts_after(DeadLetterCounts(), items, parkings[:2])
    assert (counts.records, counts.ours, counts.ours_in_a_row) == (28, 2, 0)
    counts = counts_after(DeadLetterCounts(), items, parkings)
    assert (counts.records, counts.ours, counts.ours_in_a_row, counts.latest) == (28, 3, 1, Reason.ROW_REFUSED)
    assert counts_after(DeadLetterCounts(), items[1:3], parkings[:2]).ours_in_a_row == 2


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), Action.RETRY),
        (psycopg.InterfaceError("the connection is closed"), Action.RETRY),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), Action.ISOLATE),
        (psycopg.ProgrammingError("cannot adapt type 'object'"), Action.HALT),
        (errors.DeadlockDetected(), Action.RETRY),
        (errors.UniqueViolation(), Action.DEDUPLICATE),
        (errors.UndefinedTable(), Action.HALT),
    ],
)
def test_the_drivers_own_errors_are_told_apart(error: psycopg.Error, action: Action) -> None:
    assert action_of(error) is action


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ('COPY traceflow_event_stage, line 23, column metadata: "{}"', 23),
        ('JSON data, line 1: {"a":...\nCOPY traceflow_event_stage, line 7, column metadata: "x"', 7),
        ("COPY traceflow_event_stage, Zeile 6790, Spalte x", 6790),
        ("PL/pgSQL function f() line 3", None),
        (None, None),
    ],
)
def test_copy_names_the_line_in_whatever_language(context: str | None, line: int | None) -> None:
    assert refused_line(context) == line


@pytest.mark.parametrize("stored", [5, 7, 9])
def test_an_offset_within_the_log_is_where_it_goes_on(stored: int) -> None:
    assert gap_of("events", "t", 0, stored=stored, log=LogRange(5, 9)) is None


def test_what_was_deleted_before_it_was_stored_is_lost_and_the_rest_begins_where_the_log_does() -> None:
    gap = gap_of("events", "t", 0, stored=2, log=LogRange(5, 9))
    assert gap is not None
    assert (gap.lost, str(gap)) == (3, "records 2 to 4 were deleted before they were stored")
    assert goes_on_at(gap, first_since=None) == goes_on_at(gap, first_since=7) == 5


def test_beyond_the_end_of_the_log_a_sink_goes_on_at_what_came_since_and_else_at_the_end() -> None:
    gap = gap_of("events", "t", 0, stored=12, log=LogRange(5, 9))
    assert gap is not None
    assert (gap.lost, str(gap)) == (3, "the log ends at 9, before the 12 records that were stored of it")
    assert goes_on_at(gap, first_since=7) == 7
    assert goes_on_at(gap, first_since=None) == 9


def test_a_sink_halts_with_all_its_gaps_and_the_command_that_mends_them() -> None:
    gaps = [Gap("events", "t", part, 12, LogRange(5, 9)) for part in (1, 3)]
    refuse_gaps([])
    with pytest.raises(SinkHalted, match=r"partition 1: the log ends.*partition 3: .*: traceflow offsets accept-loss$"):
        refuse_gaps(gaps)


def test_delays_double_up_to_a_bound_between_half_and_whole() -> None:
    backoff = Backoff(first_s=0.1, longest_s=1.0)
    whole = [backoff.delay_s(attempt, uniform=lambda _low, high: high) for attempt in (0, 1, 2, 3, 4, 400)]
    assert whole == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.delay_s(0, uniform=lambda low, _high: low) == 0.05


class BrokenSink(SessionsSink):
    def prepare(self, record: ConsumedRecord) -> Prepared[SnapshotLine] | None:
        raise RuntimeError(f"a bug at {record.offset}")


def test_a_record_on_which_the_sink_raises_is_parked_with_its_traceback() -> None:
    found = prepared(BrokenSink(), ConsumedRecord(0, 7, 0, "", b"k", b"v"))
    assert found is not None
    assert (found.content, found.rows, found.size_bytes) == (None, 1, 1)
    assert found.refusals[0].reason is Reason.ENGINE_ERROR
    assert "RuntimeError: a bug at 7" in found.refusals[0].detail


def test_a_snapshot_without_its_times_is_malformed() -> None:
    value = (
        b'{"v":1,"id":"0199b2f0-0000-8000-8000-000000000001","project_id":"11111111-1111-4111-8111-111111111111",'
        b'"session_id":"s","version":1,"life":0,"started_at":null,"ended_at":1,"duration_ms":1}'
    )
    key = b"11111111-1111-4111-8111-111111111111/s"
    found = prepared(SessionsSink(), ConsumedRecord(0, 0, 0, "", key, value))
    assert found is not None
    assert found.refusals[0].reason is Reason.RECORD_MALFORMED
