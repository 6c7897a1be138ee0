"""The demo as a stranger runs it: it ends with 0, its numbers are those of SQL, and nothing is left running."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from deploy.bench.cpu import process_tree
from deploy.command.answer import plain
from deploy.demo import run
from deploy.demo.report import Result
from deploy.load import Target

QUESTIONS = {
    "sessions": """
        SELECT session_id, event_count, rage_click_count, dead_click_count, error_count, frustration_score, closed
        FROM traceflow_sessions ORDER BY session_id""",
    "counted": """
        SELECT session_id, count(*) AS event_count,
          count(*) FILTER (WHERE event_type = 'rage_click') AS rage_click_count,
          count(*) FILTER (WHERE event_type = 'dead_click') AS dead_click_count,
          count(*) FILTER (WHERE event_type = 'error') AS error_count
        FROM traceflow_events GROUP BY session_id ORDER BY session_id""",
    "scores": """
        SELECT session_id, traceflow_frustration_score(finding_counts) AS frustration_score
        FROM traceflow_sessions ORDER BY session_id""",
    "finding_kinds": """
        SELECT event_type, count(*) FROM traceflow_events
        WHERE event_type IN ('rage_click', 'dead_click', 'error_click', 'error', 'slow_load', 'form_abandonment',
                             'quick_back', 'thrashed_cursor')
        GROUP BY event_type""",
    "ux_issues": "SELECT issue_type, page_url, element_selector, occurrence_count FROM traceflow_ux_issues",
    "ai_jobs": "SELECT session_id, task_type, priority FROM traceflow_ai_queue",
    "chunks": "SELECT count(*) AS chunks, sum(event_count) AS rrweb_events FROM session_recording_chunks",
}

Rows = list[dict[str, Any]]


class Inspector:
    """Asks the demo's own database, and notes its processes, before it ends."""

    def __init__(self) -> None:
        self.answers: dict[str, Rows] = {}
        self.processes: set[int] = set()
        self._others = set(process_tree(os.getpid())) - {os.getpid()}

    def __call__(self, target: Target, _result: Result) -> None:
        with psycopg.connect(target.database_url, row_factory=dict_row) as connection:
            self.answers = {name: plain(connection.execute(sql).fetchall()) for name, sql in QUESTIONS.items()}
        # servers of other tests are children of this process too
        others = {pid for other in self._others for pid in process_tree(other)}
        self.processes = set(process_tree(os.getpid())) - others - {os.getpid()}


def columns(rows: Rows, *names: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row[name] for name in names) for row in rows), key=repr)


@pytest.mark.timeout(300)
def test_the_demo_adds_up_and_says_what_sql_says(capsys: pytest.CaptureFixture[str]) -> None:
    inspector = Inspector()
    code = run(as_json=True, inspect=inspector)
    shown: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    asked = inspector.answers

    assert shown["differences"] == []
    assert code == 0
    counters = ("session_id", "event_count", "rage_click_count", "dead_click_count", "error_count")
    assert columns(shown["sessions"], *counters, "frustration_score") == columns(
        asked["sessions"], *counters, "frustration_score"
    )
    assert columns(asked["sessions"], *counters) == columns(asked["counted"], *counters)
    assert columns(asked["sessions"], "session_id", "frustration_score") == columns(
        asked["scores"], "session_id", "frustration_score"
    )
    assert all(row["closed"] for row in asked["sessions"])
    assert Counter(row["kind"] for row in shown["findings"]) == {
        row["event_type"]: row["count"] for row in asked["finding_kinds"]
    }
    issue = ("issue_type", "page_url", "element_selector", "occurrence_count")
    assert columns(shown["ux_issues"], *issue) == columns(asked["ux_issues"], *issue)
    job = ("session_id", "task_type", "priority")
    assert columns(shown["ai_jobs"], *job) == columns(asked["ai_jobs"], *job)
    assert {name: shown["stored"][name] for name in ("chunks", "rrweb_events")} == asked["chunks"][0]
    assert {name: shown["sent"][name] for name in ("chunks", "rrweb_events")} == asked["chunks"][0]
    assert shown["sent"]["events"] == shown["stored"]["events"]

    # what it is for: real sessions, and each kind of finding that they hold
    assert len(shown["sessions"]) == 52
    assert {"rage_click", "dead_click", "error_click", "error", "form_abandonment", "quick_back"} <= {
        row["kind"] for row in shown["findings"]
    }
    assert shown["ux_issues"]
    assert shown["ai_jobs"]

    assert len(inspector.processes) >= 6
    assert [pid for pid in inspector.processes if Path(f"/proc/{pid}").exists()] == []
