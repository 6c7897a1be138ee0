import json
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_processors.analyze.detectors.verdict import FindingKind
from stream_processors.analyze.jobs import MAX_FINDINGS, AiJobConfig, ClosedSession, Moment, deserved_jobs
from stream_processors.analyze.score import WEIGHTS, frustration_score

SCORES = json.loads((Path(__file__).parent.parent / "data" / "frustration_scores.json").read_text())

COUNTS = st.dictionaries(st.sampled_from(sorted(WEIGHTS)), st.integers(0, 1000))


@pytest.mark.parametrize("row", SCORES, ids=lambda row: str(row["counts"]))
def test_the_score_is_that_of_the_table_which_sql_is_held_to_as_well(row: dict[str, object]) -> None:
    assert frustration_score(row["counts"]) == row["score"]  # type: ignore[arg-type]


def test_every_kind_of_finding_has_a_weight() -> None:
    assert set(WEIGHTS) == set(FindingKind)


@given(COUNTS, st.sampled_from(sorted(WEIGHTS)))
def test_the_score_never_falls_and_stays_within_its_bounds(counts: dict[str, int], kind: str) -> None:
    more = counts | {kind: counts.get(kind, 0) + 1}
    assert 0 <= frustration_score(counts) <= frustration_score(more) <= 100


@given(COUNTS)
def test_the_score_does_not_depend_on_the_order_of_the_counts(counts: dict[str, int]) -> None:
    assert frustration_score(dict(reversed(list(counts.items())))) == frustration_score(counts)


@given(st.integers(0, 10_000))
def test_no_sum_of_weights_lies_so_near_a_half_that_rounding_could_differ(total: int) -> None:
    from math import exp

    assert abs((100 * (1 - exp(-total / 10))) % 1 - 0.5) > 1e-4


# --- jobs

CALM = ClosedSession(
    counts={},
    is_bot=False,
    started_at=1_000,
    ended_at=61_000,
    device_type="desktop",
    browser="Firefox",
    pages=[("https://a/", 1_000), ("https://a/b", 31_000)],
    findings=[],
)


def jobs(session: ClosedSession, config: AiJobConfig | None = None) -> list[tuple[str, int]]:
    return [(job.task_type, job.priority) for job in deserved_jobs(session, config or AiJobConfig())]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        ({"dead_click": 1}, []),
        ({"dead_click": 2}, [("session_summary", 7)]),
        ({"rage_click": 1}, [("session_summary", 7)]),
        ({"rage_click": 2}, [("session_summary", 5), ("root_cause", 5)]),
        ({"rage_click": 10}, [("session_summary", 1), ("root_cause", 1)]),
        ({"error": 1000}, [("session_summary", 1), ("root_cause", 1)]),
        ({"quick_back": 1}, []),
        ({"quick_back": 2}, [("journey_analysis", 10)]),
        ({"form_abandonment": 1}, [("journey_analysis", 10)]),
        (
            {"form_abandonment": 3},
            [("session_summary", 5), ("root_cause", 5), ("journey_analysis", 7)],
        ),
    ],
)
def test_what_a_session_deserves(counts: dict[str, int], expected: list[tuple[str, int]]) -> None:
    assert jobs(replace(CALM, counts=counts)) == expected


def test_code_can_be_fixed_where_an_error_is_known() -> None:
    error = Moment(t=5_000, kind="error", page_url="https://a/", label="boom")
    session = replace(CALM, counts={"error": 2}, findings=[error])
    assert jobs(session) == [("session_summary", 4), ("root_cause", 4), ("code_fix", 5)]
    assert jobs(replace(session, findings=[replace(error, label="")])) == [("session_summary", 4), ("root_cause", 4)]


def test_bots_deserve_none() -> None:
    assert jobs(replace(CALM, counts={"error": 9}, is_bot=True)) == []


def test_a_project_can_raise_the_bar_or_ask_for_nothing() -> None:
    session = replace(CALM, counts={"rage_click": 2})
    assert jobs(session, AiJobConfig(root_cause_min_score=90)) == [("session_summary", 5)]
    assert jobs(session, AiJobConfig(enabled=False)) == []


def test_the_input_tells_the_way_and_the_findings_in_order_of_time() -> None:
    rage = Moment(t=11_000, kind="rage_click", page_url="https://a/", label="Buy")
    (job, _) = deserved_jobs(replace(CALM, counts={"rage_click": 2}, findings=[rage]), AiJobConfig())
    assert job.input_data == {
        "frustration_score": 55,
        "findings": {"rage_click": 2},
        "started_at": 1_000,
        "duration_ms": 60_000,
        "device_type": "desktop",
        "browser": "Firefox",
        "page_count": 2,
        "timeline": [
            {"at_ms": 0, "page": "https://a/"},
            {"at_ms": 10_000, "finding": "rage_click", "page": "https://a/", "what": "Buy"},
            {"at_ms": 30_000, "page": "https://a/b"},
        ],
    }


def test_the_input_is_bounded() -> None:
    session = replace(
        CALM,
        counts={"error": 500},
        pages=[("https://a/" + "x" * 2_000, n) for n in range(200)],
        findings=[Moment(n, "error", "https://a/" + "x" * 190, "é" * 80) for n in range(MAX_FINDINGS)],
    )
    assert max(len(orjson.dumps(job.input_data)) for job in deserved_jobs(session, AiJobConfig())) < 20_000
