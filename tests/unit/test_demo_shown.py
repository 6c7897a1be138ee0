"""What the demo prints and how it ends, for a result that adds up and for one that does not."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import deploy.demo
from deploy.demo import report, run, system
from deploy.demo.progress import progress
from deploy.demo.report import Result
from deploy.demo.show import at_most_each, path_of, show
from deploy.load import Target
from deploy.load.ledger import Ledger

TARGET = Target("http://127.0.0.1:1", "project", "tfk_secret", "postgresql://", "127.0.0.1:2")
SESSION = {
    "session_id": "rage-1f2e",
    "device_type": "desktop",
    "browser": "Chrome",
    "landing_page": "http://shop.test/cart?a=1",
    "page_count": 1,
    "duration_ms": 30_500,
    "event_count": 21,
    "rage_click_count": 2,
    "dead_click_count": 1,
    "error_count": 0,
    "finding_counts": {"rage_click": 2, "dead_click": 1},
    "frustration_score": 63,
}
FINDING = {
    "session_id": "rage-1f2e",
    "kind": "rage_click",
    "since_start_ms": 10_460,
    "page_url": "http://shop.test/cart",
    "element": "#pay",
    "element_text": "Pay [now]",
    "error_message": None,
}
ISSUE = {
    "issue_type": "rage_click",
    "severity": "high",
    "page_url": "http://shop.test/cart",
    "element_selector": "#pay",
    "component": "main",
    "occurrence_count": 2,
    "affected_sessions": 1,
}
JOB = {"priority": 3, "task_type": "root_cause", "session_id": "rage-1f2e", "status": "pending"}
ADDS_UP = Result(
    sent={"sessions": 1, "requests": 3, "events": 18, "chunks": 2, "rrweb_events": 40},
    stored={"events": 18, "finding_rows": 3, "chunks": 2, "rrweb_events": 40},
    sessions=[SESSION],
    findings=[FINDING],
    ux_issues=[ISSUE],
    ai_jobs=[JOB],
    dead_letters={},
    differences=[],
)


def shown(result: Result) -> str:
    out = io.StringIO()
    show(result, Console(file=out, width=200, highlight=False), seconds=42.4)
    return out.getvalue()


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip().startswith(start))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_people_see_sessions_findings_issues_jobs_and_what_went_through() -> None:
    text = shown(ADDS_UP)
    assert cells(text, "rage-1f2e   ") == [
        "rage-1f2e",
        "63",
        "2",
        "1",
        "0",
        "3",
        "21",
        "1",
        "/cart?a=1",
        "desktop, Chrome",
        "30.5",
    ]
    assert "rage-1f2e   10.5 s   rage_click   /cart   #pay      Pay [now]" in text
    assert cells(text, "rage_click") == ["rage_click", "high", "/cart", "#pay", "main", "2", "1"]
    assert cells(text, "3   ") == ["3", "root_cause", "rage-1f2e", "pending"]
    assert cells(text, "rrweb events") == ["rrweb events in them", "40", "40"]
    assert text.splitlines()[-1] == "Every number adds up. Start, replay of 1 sessions, analysis: 42 s."


def test_what_does_not_add_up_stands_at_the_end() -> None:
    text = shown(replace(ADDS_UP, differences=["18 events were acknowledged, 17 are stored"]))
    assert text.splitlines()[-1] == "does not add up: 18 events were acknowledged, 17 are stored"
    assert "Every number adds up" not in text


def test_a_result_without_anything_is_shown_too() -> None:
    empty = replace(ADDS_UP, sessions=[], findings=[], ux_issues=[], ai_jobs=[])
    assert "Findings (0)" in shown(empty)


def test_loud_sessions_leave_room_for_others() -> None:
    rows = [{"session_id": s} for s in "aaabab"]
    assert [row["session_id"] for row in at_most_each(rows, 2)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://shop.test/cart?a=1#b", "/cart?a=1#b"),
        ("https://shop.test", "/"),
        ("about:blank", "about:blank"),
        (None, ""),
    ],
)
def test_a_page_is_shown_without_its_host(url: str | None, path: str) -> None:
    assert path_of(url) == path


def test_lines_that_only_count_on_are_told_once_where_they_are_kept() -> None:
    out = io.StringIO()
    with progress(Console(file=out, width=20)) as report:
        for line in (
            "starting [all]",
            "waiting: 29 sessions are not closed",
            "waiting: 3 sessions are not closed",
            "done",
        ):
            report(line)
    assert out.getvalue() == "starting [all]\nwaiting: 29 sessions are not closed\ndone\n"


class FakeReader:
    result = ADDS_UP

    def __init__(self, *_: object) -> None: ...

    def read(self, **_: object) -> Result:
        return self.result


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    events: list[str] = []

    @contextmanager
    def own_system(*_: object, **__: object) -> Iterator[system.System]:
        yield system.System(TARGET, Path("ready"), Path("log"), 1)
        events.append("stopped")

    monkeypatch.setattr(system, "own_system", own_system)
    monkeypatch.setattr(report, "Reader", FakeReader)
    monkeypatch.setattr(deploy.demo, "_replay", lambda *_: Ledger("project"))
    return events


def test_it_ends_with_0_and_prints_one_object(ended: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(as_json=True) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(printed) == {
        "seconds",
        "sent",
        "stored",
        "sessions",
        "findings",
        "ux_issues",
        "ai_jobs",
        "dead_letters",
        "differences",
    }
    assert printed["sessions"] == [SESSION]
    assert ended == ["stopped"]


@pytest.mark.usefixtures("ended")
def test_it_ends_with_1_and_one_line_that_names_the_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["event_count of session rage-1f2e is 22, its rows give 21", "another"]
    monkeypatch.setattr(FakeReader, "result", replace(ADDS_UP, differences=said))
    assert run(as_json=True) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == f"traceflow demo: {said[0]}"
    assert json.loads(printed.out)["differences"] == said
