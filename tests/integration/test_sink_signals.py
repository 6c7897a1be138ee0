import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.messages import Finding
from sinks.tables.finding_kinds import FINDING_KINDS
from tests.integration.sink_bench import (
    NOW_MS,
    OTHER_PROJECT,
    PROJECT,
    SinkBench,
    add_project,
    assert_counters_equal_rows,
    copied_database,
    emptied,
    event,
    execute,
    query,
)

ISSUES = """
SELECT issue_type, page_url, element_selector, occurrence_count, affected_sessions, affected_users, status
FROM traceflow_ux_issues ORDER BY 1, 2, 3, 4
"""


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def bench(module_database: str) -> Iterator[SinkBench]:
    bench = SinkBench(emptied(module_database), "signals")
    yield bench
    bench.close()


def finding(number: int, **fields: Any) -> Finding:
    values: dict[str, Any] = {
        "id": str(uuid.UUID(int=number, version=4)),
        "project_id": PROJECT,
        "session_id": "s1",
        "kind": "rage_click",
        "timestamp": NOW_MS - 60_000 + number,
        "visitor_id": "v1",
        "page_url": "https://shop.example/orders/17?x=1",
        "element_selector": "#pay",
    }
    return Finding(**(values | fields))


def test_a_finding_is_a_row_a_count_and_an_issue(bench: SinkBench) -> None:
    found = finding(1, element_tag="button", x_position=7, evidence={"clicks": 4}, severity="high", component="#cart")
    written = bench.write([bench.message(found)])
    assert (written.inserted, written.parked) == (1, 0)
    assert query(
        bench.url, "SELECT id::text, event_type, page_url, element_tag, x_position, metadata FROM traceflow_events"
    ) == [(found.id, "rage_click", "https://shop.example/orders/17?x=1", "button", 7, {"clicks": 4})]
    assert query(bench.url, "SELECT rage_click_count, frustration_score, visitor_id FROM traceflow_sessions") == [
        (1, 33, "v1")
    ]
    assert query(
        bench.url,
        "SELECT issue_type, severity, page_url, element_selector, component, occurrence_count, affected_sessions,"
        " affected_users, status, session_id, extract(epoch from first_detected_at) * 1000 FROM traceflow_ux_issues",
    ) == [
        (
            "rage_click",
            "high",
            "https://shop.example/orders/:id",
            "#pay",
            "#cart",
            1,
            1,
            1,
            "open",
            "s1",
            found.timestamp,
        )
    ]
    assert_counters_equal_rows(bench.url)


def test_an_issue_grows_by_findings_sessions_and_visitors_that_are_new(bench: SinkBench) -> None:
    first = [finding(1), finding(2), finding(3, session_id="s2"), finding(4, session_id="s3", visitor_id="v2")]
    bench.write([bench.message(each) for each in first])
    again = [*first, finding(5), finding(6, session_id="s4", visitor_id=None), finding(6, session_id="s4")]
    written = bench.write([bench.message(each) for each in again])
    assert (written.inserted, written.duplicates) == (2, 5)
    assert query(bench.url, ISSUES) == [("rage_click", "https://shop.example/orders/:id", "#pay", 6, 4, 2, "open")]
    assert_counters_equal_rows(bench.url)


def test_pages_that_differ_by_their_ids_are_one_issue_and_kinds_elements_and_projects_are_not(bench: SinkBench) -> None:
    add_project(bench.url, OTHER_PROJECT)
    bench.write(
        [
            bench.message(each)
            for each in (
                finding(1),
                finding(2, page_url="https://shop.example/orders/18"),
                finding(3, kind="dead_click"),
                finding(4, element_selector="#back"),
                finding(5, element_selector=None, page_url=None),
                finding(6, project_id=OTHER_PROJECT, session_id="s9"),
            )
        ]
    )
    page = "https://shop.example/orders/:id"
    assert query(bench.url, ISSUES) == [
        ("dead_click", page, "#pay", 1, 1, 1, "open"),
        ("rage_click", page, "#back", 1, 1, 1, "open"),
        ("rage_click", page, "#pay", 1, 1, 1, "open"),
        ("rage_click", page, "#pay", 2, 1, 1, "open"),
        ("rage_click", None, None, 1, 1, 1, "open"),
    ]


def test_errors_of_one_page_are_told_apart_by_their_message_and_error_clicks_count_as_errors(bench: SinkBench) -> None:
    bench.write(
        [
            bench.message(each)
            for each in (
                finding(1, kind="error", element_selector=None, evidence={"fingerprint": "a"}),
                finding(2, kind="error", element_selector=None, evidence={"fingerprint": "b"}),
                finding(3, kind="error", element_selector=None, evidence={"fingerprint": "b"}),
                finding(4, kind="error_click", evidence={"fingerprint": "b"}),
            )
        ]
    )
    assert query(
        bench.url,
        "SELECT issue_type, element_selector, fingerprint, occurrence_count FROM traceflow_ux_issues ORDER BY 2, 3",
    ) == [("error", "#pay", "b", 1), ("error", None, "a", 1), ("error", None, "b", 2)]
    assert_counters_equal_rows(bench.url)


def test_habits_of_the_user_are_rows_but_no_issues(bench: SinkBench) -> None:
    bench.write([bench.message(finding(1, kind="quick_back")), bench.message(finding(2, kind="thrashed_cursor"))])
    assert query(bench.url, ISSUES) == []
    assert query(bench.url, "SELECT finding_counts FROM traceflow_sessions") == [
        ({"quick_back": 1, "thrashed_cursor": 1},)
    ]
    assert_counters_equal_rows(bench.url)


def test_an_error_that_is_a_row_already_only_feeds_its_issue(bench: SinkBench) -> None:
    events = SinkBench(bench.url, "events")
    events.write([events.events([event(1, event_type="error")])])
    events.close()
    written = bench.write([bench.message(finding(2, kind="error", event_row=False))])
    assert (written.inserted, written.parked) == (0, 0)
    assert query(bench.url, "SELECT event_count, error_count FROM traceflow_sessions") == [(1, 1)]
    assert query(bench.url, "SELECT issue_type, occurrence_count FROM traceflow_ux_issues") == [("error", 1)]
    bench.write([bench.message(finding(2, kind="error", event_row=False))])
    assert query(bench.url, "SELECT issue_type, occurrence_count FROM traceflow_ux_issues") == [("error", 1)]
    assert_counters_equal_rows(bench.url)


def test_a_resolved_issue_that_occurs_again_is_open_again_and_an_ignored_one_stays(bench: SinkBench) -> None:
    bench.write([bench.message(finding(1)), bench.message(finding(2, kind="dead_click"))])
    execute(
        bench.url,
        "UPDATE traceflow_ux_issues SET status = CASE issue_type WHEN 'dead_click' THEN 'ignored' ELSE 'resolved' END,"
        " resolved_at = to_timestamp(%s / 1000.0)",
        NOW_MS - 59_000,
    )
    bench.write([bench.message(finding(3))])
    assert [row[0::6] for row in query(bench.url, ISSUES)] == [("dead_click", "ignored"), ("rage_click", "resolved")]
    bench.write([bench.message(finding(2_000)), bench.message(finding(2_001, kind="dead_click"))])
    assert [row[0::6] for row in query(bench.url, ISSUES)] == [("dead_click", "ignored"), ("rage_click", "open")]
    assert query(bench.url, "SELECT resolved_at FROM traceflow_ux_issues WHERE status = 'open'") == [(None,)]


def test_severity_only_rises_and_times_span_all_findings(bench: SinkBench) -> None:
    bench.write([bench.message(finding(50, severity="high"))])
    bench.write([bench.message(finding(10, severity="low")), bench.message(finding(90, severity="medium"))])
    [(severity, first, last)] = query(
        bench.url,
        "SELECT severity, extract(epoch from first_detected_at) * 1000, extract(epoch from last_detected_at) * 1000"
        " FROM traceflow_ux_issues",
    )
    assert (severity, first, last) == ("high", NOW_MS - 60_000 + 10, NOW_MS - 60_000 + 90)


def test_findings_of_another_projects_session_touch_nothing(bench: SinkBench) -> None:
    add_project(bench.url, OTHER_PROJECT)
    bench.write([bench.message(finding(1))])
    written = bench.write(
        [
            bench.message(finding(2, project_id=OTHER_PROJECT)),
            bench.message(finding(3, project_id=OTHER_PROJECT, event_row=False)),
        ]
    )
    assert (written.inserted, written.parked) == (0, 2)
    assert [row[0] for row in bench.reasons()] == ["session_id_taken"] * 2
    assert query(bench.url, "SELECT count(*) FROM traceflow_ux_issues") == [(1,)]
    assert_counters_equal_rows(bench.url)


@pytest.mark.parametrize(
    "fields",
    [{"kind": "surprise"}, {"id": "x"}, {"severity": "awful"}, {"timestamp": "now"}, {"evidence": []}],
)
def test_what_is_no_finding_is_parked(bench: SinkBench, fields: dict[str, Any]) -> None:
    bench.write([bench.message(finding(1, **fields)), bench.message(finding(2))])
    assert bench.reasons() == [("record_malformed", 0, -1)]
    assert_counters_equal_rows(bench.url)


def test_a_finding_that_postgres_refuses_is_parked_alone(bench: SinkBench) -> None:
    batch = [finding(1), finding(2, component="a\x00b"), finding(3, x_position=2**31), finding(4)]
    written = bench.write([bench.message(each) for each in batch])
    assert (written.inserted, written.parked) == (2, 2)
    assert sorted(bench.reasons()) == [("row_refused", 1, -1), ("row_refused", 2, 0)]
    assert query(bench.url, "SELECT occurrence_count FROM traceflow_ux_issues") == [(2,)]
    assert_counters_equal_rows(bench.url)


def test_the_kinds_are_those_that_the_database_weighs(module_database: str) -> None:
    weighed = query(
        module_database, "SELECT k FROM unnest(%s::text[]) k WHERE traceflow_finding_weight(k) > 0", list(FINDING_KINDS)
    )
    assert {row[0] for row in weighed} == FINDING_KINDS
