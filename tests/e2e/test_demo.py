"""The demo as a stranger runs it: it ends with 0, its numbers are those of SQL, and nothing is left running.

While it replays its sessions, digest is frozen for longer than a session lives without traffic. A slow digest may delay
findings, and never changes them: they are those of `traceflow detect` on what was sent.
"""

import asyncio
import io
import json
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from deploy.bench.cpu import process_tree
from deploy.command import application
from deploy.command.answer import plain
from deploy.demo import replay as demo_replay
from deploy.demo import run
from deploy.demo.report import Result
from deploy.demo.system import SESSION_GAP_MS
from deploy.load import Target
from deploy.load.request import SessionRequest

FROZEN_S = SESSION_GAP_MS / 1000 + 2
"""Longer than a session's gap and any deadline of a click, shorter than Kafka gives a silent worker."""

OFFLINE_GAP_MS = 120_000
"""The replay leaves waiting out, so what was a pause in the browser must not end a session offline."""

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
    "finding_rows": """
        SELECT session_id, event_type, (extract(epoch FROM timestamp) * 1000)::bigint AS timestamp,
          x_position, y_position, element_tag, element_id, element_class, element_text, element_selector
        FROM traceflow_events
        WHERE event_type IN ('rage_click', 'dead_click', 'error_click', 'error', 'slow_load', 'form_abandonment',
                             'quick_back', 'thrashed_cursor')""",
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


@dataclass
class Freezer:
    """Replays as the demo does, with digest frozen at first, and keeps what was sent."""

    sent: list[SessionRequest] = field(default_factory=list)
    state: str = ""
    """That of the process, as the kernel names it, when it had been frozen for so long."""

    async def replay(self, sessions: Sequence[Sequence[SessionRequest]], **how: Any) -> Any:
        self.sent = [request for requests in sessions for request in requests]
        digest = next(pid for pid in process_tree(os.getpid()) if is_digest(pid))
        os.kill(digest, signal.SIGSTOP)

        async def thaw() -> None:
            await asyncio.sleep(FROZEN_S)
            self.state = state_of(digest)
            os.kill(digest, signal.SIGCONT)

        tally, _ = await asyncio.gather(REPLAY(sessions, **how), thaw())
        return tally


REPLAY = demo_replay.replay


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_digest(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-3:-1] == [b"stream_processors", b"digest"]


@dataclass(frozen=True)
class Shown:
    """One run of the demo."""

    code: int
    printed: Mapping[str, Any]
    inspector: Inspector
    freezer: Freezer


@pytest.fixture(scope="module")
def demo() -> Shown:
    inspector, freezer, out = Inspector(), Freezer(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(demo_replay, "replay", freezer.replay)
        code = run(as_json=True, inspect=inspector)
    return Shown(code, json.loads(out.getvalue()), inspector, freezer)


def columns(rows: Rows, *names: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row[name] for name in names) for row in rows), key=repr)


@pytest.mark.timeout(300)
def test_the_demo_adds_up_and_says_what_sql_says(demo: Shown) -> None:
    shown, code, inspector = demo.printed, demo.code, demo.inspector
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


def captured(requests: Sequence[SessionRequest], folder: Path) -> list[Path]:
    """Write what was sent in one session to files: one a window of the recording, and one of what was told."""
    lines: dict[str, list[bytes]] = {}
    for request in requests:
        lines.setdefault(request.chunk.window_id if request.chunk else "told", []).append(request.render())
    files = []
    for name, bodies in lines.items():
        files.append(folder / f"{name}.jsonl")
        files[-1].write_bytes(b"\n".join(bodies))
    return files


def detected(requests: Sequence[SessionRequest], folder: Path) -> list[tuple[Any, ...]]:
    """Return what `traceflow detect` finds in one session."""
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"session_gap_ms": OFFLINE_GAP_MS}))
    files = captured(requests, folder)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = application.run(
            ["detect", "--session", requests[0].session_id, "--project-settings", str(settings), *map(str, files)]
        )
    assert (code, err.getvalue()) == (0, "")
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    parts = ("tag", "id", "class", "text", "selector")
    return [
        (
            *(finding[name] for name in ("session", "kind", "timestamp", "x", "y")),
            *((finding["element"] or {}).get(part) for part in parts),
        )
        for finding in found
    ]


def test_the_findings_are_those_of_detect_although_digest_was_frozen(demo: Shown, tmp_path: Path) -> None:
    assert demo.freezer.state == "T"
    sessions: dict[str, list[SessionRequest]] = {}
    for request in demo.freezer.sent:
        sessions.setdefault(request.session_id, []).append(request)
    offline: list[tuple[Any, ...]] = []
    for session_id, requests in sessions.items():
        folder = tmp_path / session_id
        folder.mkdir()
        offline += detected(requests, folder)
    stored = [tuple(row.values()) for row in demo.inspector.answers["finding_rows"]]
    assert (Counter(stored) - Counter(offline), Counter(offline) - Counter(stored)) == (Counter(), Counter())
    assert len(sessions) == 52
