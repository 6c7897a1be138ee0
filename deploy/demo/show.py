"""The demo's result for people: what was found, where, and how to look further."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.report import Result

SESSIONS_SHOWN = 20
FINDINGS_SHOWN = 30
FINDINGS_SHOWN_A_SESSION = 4
"""So that a few loud sessions do not hide the other kinds."""
ISSUES_SHOWN = 15
JOBS_SHOWN = 10
_TEXT_CHARS = 60

Row = Mapping[str, Any]

_FURTHER = """\
Run it yourself, and ask it anything in SQL:

  traceflow up                         # everything on this machine; prints gateway, key and database URL
  traceflow sql "SELECT session_id, frustration_score, top_finding FROM traceflow_session_overview ORDER BY 2 DESC"
  traceflow sql "SELECT * FROM traceflow_session_timeline WHERE session_id = '…'"
  traceflow sql "SELECT page_url, element_selector, pain FROM traceflow_painful_elements ORDER BY pain DESC LIMIT 10"
  traceflow status                     # lag, throughput and dead letters of each stage
  traceflow recordings export …        # a session's rrweb events, for any rrweb player
"""


def show(result: Result, console: Console, *, seconds: float) -> None:
    """Print everything."""
    calm = sum(row["frustration_score"] == 0 for row in result.sessions)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(r["kind"] for r in result.findings).most_common())
    some = list(at_most_each(result.findings, FINDINGS_SHOWN_A_SESSION))[:FINDINGS_SHOWN]
    _table(console, "Sessions", len(result.sessions), map(_session, result.sessions[:SESSIONS_SHOWN]), f"{calm} calm")
    _table(console, "Findings", len(result.findings), map(_finding, some), kinds)
    _table(console, "UX issues", len(result.ux_issues), map(_issue, result.ux_issues[:ISSUES_SHOWN]))
    _table(console, "AI jobs in the queue", len(result.ai_jobs), map(_job, result.ai_jobs[:JOBS_SHOWN]))
    _table(console, "In and out", None, _in_and_out(result))
    console.print(Text(_FURTHER))
    for line in result.differences:
        console.print(Text(f"does not add up: {line}", style="bold red"))
    if not result.differences:
        done = f"Every number adds up. Start, replay of {len(result.sessions)} sessions, analysis: {seconds:.0f} s."
        console.print(Text(done, style="bold green"))


def at_most_each(findings: Iterable[Row], limit: int) -> Iterable[Row]:
    """Yield the first findings of each session."""
    seen: Counter[str] = Counter()
    for row in findings:
        seen[row["session_id"]] += 1
        if seen[row["session_id"]] <= limit:
            yield row


def path_of(url: str | None) -> str:
    """Return a URL without scheme and host: a table has no room for what all rows share."""
    _, colon, rest = (url or "").partition("://")
    return "/" + rest.partition("/")[2] if colon else url or ""


def _session(row: Row) -> Row:
    return {
        "session": row["session_id"],
        "score": row["frustration_score"],
        "rage": row["rage_click_count"],
        "dead": row["dead_click_count"],
        "errors": row["error_count"],
        "findings": sum(row["finding_counts"].values()),
        "events": row["event_count"],
        "pages": row["page_count"],
        "began on": path_of(row["landing_page"]),
        "with": f"{row['device_type']}, {row['browser']}",
        "seconds": f"{(row['duration_ms'] or 0) / 1000:.1f}",
    }


def _finding(row: Row) -> Row:
    told = row["error_message"] or row["element_text"] or ""
    return {
        "session": row["session_id"],
        "after": f"{row['since_start_ms'] / 1000:.1f} s",
        "finding": row["kind"],
        "page": path_of(row["page_url"]),
        "element": row["element"],
        "text or message": told if len(told) <= _TEXT_CHARS else told[: _TEXT_CHARS - 1] + "…",
    }


def _issue(row: Row) -> Row:
    return {
        "issue": row["issue_type"],
        "severity": row["severity"],
        "page": path_of(row["page_url"]),
        "element": row["element_selector"],
        "component": row["component"],
        "times": row["occurrence_count"],
        "sessions": row["affected_sessions"],
    }


def _job(row: Row) -> Row:
    return {name: row[name] for name in ("priority", "task_type", "session_id", "status")}


def _in_and_out(result: Result) -> Iterable[Row]:
    sent, stored = result.sent, result.stored
    for what, acknowledged, rows in (
        ("sessions", sent["sessions"], len(result.sessions)),
        ("events", sent["events"], stored["events"]),
        ("recording chunks", sent["chunks"], stored["chunks"]),
        ("rrweb events in them", sent["rrweb_events"], stored["rrweb_events"]),
        ("findings as rows of their own", None, stored["finding_rows"]),
        ("dead letters", None, sum(result.dead_letters.values())),
    ):
        yield {"": what, "acknowledged": acknowledged, "in Postgres": rows}


def _table(console: Console, title: str, total: int | None, rows: Iterable[Row], note: str = "") -> None:
    shown: Sequence[Row] = list(rows)
    if total is not None:
        title += f" ({total}" if len(shown) == total else f" ({len(shown)} of {total}"
        title += f": {note})" if note else ")"
    console.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shown[0] if shown else ():
        table.add_column(column, overflow="fold", justify="right" if isinstance(shown[0][column], int) else "left")
    for row in shown:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row.values()))
    console.print(table)
