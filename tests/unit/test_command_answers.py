import io
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from adapters.dead_letter_reader import StoredLetter
from deploy.command import lag, parked, projects
from deploy.command.answer import plain, print_json, print_table
from deploy.command.failure import CommandFailure
from deploy.command.project_settings import validated
from deploy.command.query import as_objects, unique
from deploy.command.status import Locks
from schemas.messages import DeadLetter


def test_what_postgres_holds_becomes_json() -> None:
    value = {
        "big": 2**70,
        "nan": float("nan"),
        "whole": Decimal("3"),
        "part": Decimal("0.5"),
        "odd": Decimal("Infinity"),
        "bytes": b"\x00\xff",
        "time": datetime(2026, 11, 25, 8, 0, tzinfo=UTC),
        "id": UUID(int=1),
        "list": [None, True, {"a": ("x",)}],
    }
    assert plain(value) == {
        "big": 2**70,
        "nan": None,
        "whole": 3,
        "part": 0.5,
        "odd": None,
        "bytes": "\\x00ff",
        "time": "2026-11-25T08:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000001",
        "list": [None, True, {"a": ["x"]}],
    }


def test_json_is_one_document_on_one_line() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        print_json([{"name": "ü"}])
    assert out.getvalue() == '[{"name": "ü"}]\n'


def test_a_table_shows_cells_as_they_are() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        print_table(["page", "n"], [["[red]/a[/red]", None], ["x" * 300, {"b": 1}]])
    assert "[red]/a[/red]" in out.getvalue()
    assert "x" * 300 in out.getvalue()
    assert '{"b": 1}' in out.getvalue()


def test_columns_of_one_name_are_told_apart() -> None:
    assert unique(["n", "n", "m", "n"]) == ["n", "n_2", "m", "n_3"]
    assert as_objects(["a", "b"], [(1, None)]) == [{"a": 1, "b": None}]


SETTINGS = {"detectors": {"rage_click": {"min_clicks": 5, "max_gap_ms": 900}, "dead_click": {"deadline_ms": 3000}}}


@pytest.mark.parametrize(
    ("assignments", "changes"),
    [
        (["session_gap_ms=600000"], {"session_gap_ms": 600000}),
        (["session_gap_ms="], {"session_gap_ms": None}),
        (["ip_policy=drop"], {"ip_policy": "drop"}),
        (["origins=https://a.example, https://b.example"], {"origins": ["https://a.example", "https://b.example"]}),
        (['origins=["https://a.example"]'], {"origins": ["https://a.example"]}),
        (
            ["detectors.rage_click.min_clicks=4"],
            {
                "detectors": {
                    "rage_click": {"min_clicks": 4, "max_gap_ms": 900},
                    "dead_click": {"deadline_ms": 3000},
                }
            },
        ),
        (
            ["detectors.rage_click.min_clicks=", "detectors.dead_click.deadline_ms="],
            {"detectors": {"rage_click": {"max_gap_ms": 900}}},
        ),
        (["detectors="], {"detectors": None}),
    ],
)
def test_assignments_become_changes(assignments: list[str], changes: dict[str, object]) -> None:
    assert projects.parse_assignments(assignments, current=SETTINGS) == changes


def test_what_is_no_assignment_is_refused_with_an_example() -> None:
    with pytest.raises(CommandFailure, match=r"'session_gap_ms' is no field=value \(example"):
        projects.parse_assignments(["session_gap_ms"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"session_gap": 1}, "session_gap"),
        ({"session_gap_ms": 1}, "session_gap_ms"),
        ({"detectors": {"rage": {}}}, "rage"),
        ({"detectors": {"rage_click": {"min_click": 3}}}, "min_click"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(CommandFailure, match=named):
        validated(settings)


def sample(*, at_s: float, ends: dict[int, int], positions: dict[int, int], begin: int = 0) -> lag.Sample:
    return lag.Sample(at_s=at_s, begins=dict.fromkeys(ends, begin), ends=ends, positions=positions)


def report(
    before: lag.Sample, after: lag.Sample, *, waiting_since_ms: list[int], passed_over: int = 0
) -> lag.StageReport:
    return lag.report(
        "analyze",
        "events",
        before=before,
        after=after,
        waiting_since_ms=waiting_since_ms,
        now_ms=10_000,
        workers=1,
        dead_letters=0,
        passed_over=passed_over,
    )


def test_lag_rate_and_age_come_from_two_samples() -> None:
    before = sample(at_s=1, ends={0: 100, 1: 50}, positions={0: 90, 1: 50})
    after = sample(at_s=3, ends={0: 120, 1: 60}, positions={0: 110, 1: 60})
    assert report(before, after, waiting_since_ms=[7_500]) == lag.StageReport(
        stage="analyze",
        topic="events",
        lag=10,
        incoming_per_s=15.0,
        processed_per_s=15.0,
        oldest_unprocessed_s=2.5,
        lost=0,
        workers=1,
        dead_letters=0,
    )


def test_a_partition_that_was_never_read_waits_as_a_whole() -> None:
    now = sample(at_s=1, ends={0: 100, 1: 7}, positions={0: 100}, begin=2)
    assert lag.waiting_from(now) == {1: 2}
    assert report(now, now, waiting_since_ms=[0]).lag == 5


def test_what_a_reader_will_pass_over_does_not_wait() -> None:
    now = sample(at_s=1, ends={0: 100, 1: 7}, positions={0: 90, 1: 7})
    found = report(now, now, waiting_since_ms=[], passed_over=10)
    assert (found.lag, found.oldest_unprocessed_s) == (0, None)
    assert lag.ailments(found) == []


def test_what_retention_took_before_it_was_read_is_told() -> None:
    now = sample(at_s=1, ends={0: 100}, positions={0: 10}, begin=40)
    found = report(now, now, waiting_since_ms=[0])
    assert (found.lag, found.lost) == (60, 30)


def test_a_worker_that_resumes_from_an_older_state_is_no_negative_rate() -> None:
    before = sample(at_s=1, ends={0: 100}, positions={0: 100})
    after = sample(at_s=2, ends={0: 100}, positions={0: 60})
    assert report(before, after, waiting_since_ms=[9_000]).processed_per_s == 0.0


def test_a_reader_that_cannot_be_asked_has_no_lag_and_is_not_ill() -> None:
    before = lag.Sample(at_s=0.0, begins={0: 5}, ends={0: 10}, positions=None)
    after = lag.Sample(at_s=2.0, begins={0: 5}, ends={0: 20}, positions=None)
    assert lag.waiting_from(after) == {}
    found = report(before, after, waiting_since_ms=[])
    assert (found.lag, found.incoming_per_s, found.processed_per_s, found.lost) == (None, 5.0, None, None)
    assert lag.ailments(found) == []


def ill(**values: Any) -> list[str]:
    well = lag.StageReport("analyze", "events", 10, 5.0, 5.0, 1.0, 0, 1)
    return lag.ailments(replace(well, **values))


def test_a_stage_that_keeps_up_or_catches_up_is_well() -> None:
    assert ill() == []
    assert ill(oldest_unprocessed_s=59.9, processed_per_s=0.0) == []
    assert ill(oldest_unprocessed_s=3_600.0, processed_per_s=5.0) == []
    assert ill(workers=None, oldest_unprocessed_s=None) == []


def test_who_is_ill_is_told_with_the_reason() -> None:
    assert ill(workers=0) == ["no worker runs, and 10 records wait"]
    assert ill(workers=0, lag=0, oldest_unprocessed_s=None) == ["no worker runs"]
    assert ill(oldest_unprocessed_s=61.0, processed_per_s=0.0) == [
        "it stands still: 10 records wait, the oldest for 61 s"
    ]
    assert ill(oldest_unprocessed_s=61.0, processed_per_s=4.0) == [
        "it falls behind: 5 records/s come, 4 are processed, the oldest waits for 61 s"
    ]
    assert ill(lost=3)[0].startswith("retention deleted 3 records before it read them")


NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", datetime(2026, 11, 25, 11, 58, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 11, 25, 10, 0, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 18, 12, 0, tzinfo=UTC)),
        ("2026-11-25", datetime(2026, 11, 25, tzinfo=UTC)),
        ("2026-11-25T13:00:00+01:00", NOW),
    ],
)
def test_since_is_a_duration_or_a_time(text: str, moment: datetime) -> None:
    assert parked.parse_time(text, option="--since", now=NOW) == int(moment.timestamp() * 1000)


def test_since_that_is_neither_is_refused() -> None:
    with pytest.raises(CommandFailure, match="neither like 2h nor"):
        parked.parse_time("yesterday", option="--since", now=NOW)


def letter(value: bytes) -> StoredLetter:
    return StoredLetter(
        partition=3,
        offset=120,
        letter=DeadLetter(reason="engine_error", stage="analyze", topic="events", partition=1, offset=9, at=5_000),
        project_id="p",
        session_id="s",
        key=b"p/s",
        value=value,
        headers=[("kind", b"events")],
    )


def test_a_dead_letter_is_shown_with_its_meaning_and_origin() -> None:
    found = parked.whole(letter(b'{"v":1}'), {})
    assert found["meaning"] == "the engine raised on this record; the traceback is in the detail"
    assert (found["place"], found["from"], found["value"]) == ("3:120", "events/1/9", '{"v":1}')
    assert found["headers"] == {"kind": "events"}


def test_a_value_is_text_where_it_is_text() -> None:
    assert parked.whole(letter(b"\x1f\x8b\x00"), {})["value"] == "\\x1f8b00"
    assert parked.whole(letter("ü".encode() * 3_000), {})["value"] == "ü" * 2_000
    assert parked.whole(letter(b"x" + "ü".encode() * 3_000), {})["value"] == "x" + "ü" * 1_999


def test_a_server_whose_locks_do_not_do_for_its_days_is_told_with_the_figure_that_would() -> None:
    a_year = Locks(a_question=2_400, a_connection=64, connections=100)
    said = a_year.ailment() or ""
    assert "takes 2400 locks, and there are 6400: set max_locks_per_transaction to at least 96 (now 64)" in said
    assert replace(a_year, a_connection=96).ailment() is None
    assert replace(a_year, a_connection=95).ailment() is not None
    assert replace(a_year, a_question=100).ailment() is None
