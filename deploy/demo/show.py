"""The demo's result for people: what was found, where, and how to look further."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.report import Result

FINDINGS_SHOWN = 40
ISSUES_SHOWN = 15
JOBS_SHOWN = 15
CALM_SCORE = 1
"""Sessions below this score are counted, not listed."""

_FURTHER = """\
Run it yourself, and ask it anything in SQL:

  traceflow up                         # everything on this machine; prints gateway, key and database URL
  traceflow sql "SELECT session_id, frustration_score, top_finding FROM traceflow_session_overview ORDER BY 2 DESC"
  traceflow sql "SELECT * FROM traceflow_session_timeline WHERE session_id = '…'"
  traceflow sql "SELECT page_url, element_selector, pain FROM traceflow_painful_elements ORDER BY pain DESC LIMIT 10"
  traceflow status                     # lag, throughput and dead letters of each stage
  traceflow recordings export …        # a session's rrweb events, for any rrweb player"""


def show(result: Result, console: Console, *, seconds: float) -> None:
    """Print everything."""
    frustrated = [row for row in result.sessions if row["frustration_score"] >= CALM_SCORE]
    calm = len(result.sessions) - len(frustrated)
    _table(
        console, f"Sessions ({len(frustrated)} frustrated, {calm} calm)", _SESSION_COLUMNS, map(_session, frustrated)
    )
    shown = [row for row in result.findings if row["kind"] != "error" or row["error_message"]]
    _table(console, _title("Findings", shown, FINDINGS_SHOWN), _FINDING_COLUMNS, map(_finding, shown[:FINDINGS_SHOWN]))
    issues = result.ux_issues
    _table(console, _title("UX issues", issues, ISSUES_SHOWN), _ISSUE_COLUMNS, map(_issue, issues[:ISSUES_SHOWN]))
    jobs = result.ai_jobs
    _table(console, _title("AI jobs in the queue", jobs, JOBS_SHOWN), _JOB_COLUMNS, map(_job, jobs[:JOBS_SHOWN]))
    _table(console, "In and out", ("", "acknowledged", "in Postgres"), _in_and_out(result))
    console.print(Text(_FURTHER))
    console.print()
    for line in result.differences:
        console.print(Text(f"does not add up: {line}", style="bold red"))
    if not result.differences:
        adds_up = (
            f"Every number adds up. Start, replay of {len(result.sessions)} sessions and analysis: {seconds:.0f} s."
        )
        console.print(Text(adds_up, style="bold green"))


_SESSION_COLUMNS = (
    "session",
    "score",
    "rage",
    "dead",
    "errors",
    "findings",
    "events",
    "pages",
    "device",
    "s",
    "began on",
)
_FINDING_COLUMNS = ("session", "after s", "finding", "page", "element", "text or message")
_ISSUE_COLUMNS = ("issue", "severity", "page", "element", "times", "sessions")
_JOB_COLUMNS = ("priority", "task", "session", "status")


def _session(row: dict[str, Any]) -> Sequence[Any]:
    return (
        row["session_id"],
        row["frustration_score"],
        row["rage_click_count"],
        row["dead_click_count"],
        row["error_count"],
        sum(row["finding_counts"].values()),
        row["event_count"],
        row["page_count"],
        f"{row['device_type']}, {row['browser']}",
        f"{(row['duration_ms'] or 0) / 1000:.1f}",
        _path(row["landing_page"]),
    )


def _finding(row: dict[str, Any]) -> Sequence[Any]:
    told = row["error_message"] or row["element_text"] or ""
    seconds = f"{row['since_start_ms'] / 1000:.1f}"
    return row["session_id"], seconds, row["kind"], _path(row["page_url"]), row["element"], told[:60]


def _issue(row: dict[str, Any]) -> Sequence[Any]:
    where = row["page_url"], row["element_selector"]
    return (
        row["issue_type"],
        row["severity"],
        _path(where[0]),
        where[1],
        row["occurrence_count"],
        row["affected_sessions"],
    )


def _job(row: dict[str, Any]) -> Sequence[Any]:
    return row["priority"], row["task_type"], row["session_id"], row["status"]


def _in_and_out(result: Result) -> Iterable[Sequence[Any]]:
    sent, stored = result.sent, result.stored
    yield "sessions", sent["sessions"], len(result.sessions)
    yield "events", sent["events"], stored["events"]
    yield "recording chunks", sent["chunks"], stored["chunks"]
    yield "rrweb events in them", sent["rrweb_events"], stored["rrweb_events"]
    yield "findings as rows of their own", "", stored["finding_rows"]
    yield "dead letters", "", sum(result.dead_letters.values())


def _title(name: str, rows: Sequence[Any], shown: int) -> str:
    return f"{name} ({len(rows)})" if len(rows) <= shown else f"{name} (the first {shown} of {len(rows)})"


def _table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)


def _path(url: str | None) -> str:
    """Return a URL without scheme and host, as a table has room for it."""
    _, _, rest = (url or "").partition("://")
    return "/" + rest.partition("/")[2] if rest else url or ""
