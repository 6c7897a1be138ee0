"""What analysts ask, of a million events and 50,000 sessions: each question of the dictionary, and what policies cost.

A question is asked warm, by the role that may ask it, on one core: its value is the CPU time of its backend, which is
what it takes on an idle machine. It is also explained: which days of events its plan really reads. What policies cost
is the CPU time of a member's query beside that of the same query with the project written into it, asked by the owner,
to whom no policy applies.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

from adapters.migrations import DAYS_AHEAD
from adapters.postgres import Connection, parse_queries, read_queries
from deploy.bench.cpu import thread_cpu_seconds
from deploy.bench.lab import Lab
from deploy.bench.report import Line, Result, middle

SESSIONS = 50_000
EVENTS_PER_SESSION = 20
DAYS = 14
PROJECTS = 20
ROUNDS = 3
MAX_MS = 1_000.0
MEASURED_S = 0.2
"""A statement is repeated for so long, three times at least."""
MAX_POLICY_RATIO = 1.25
MAX_POLICY_MS = 0.5
"""A policy that costs more than its share of a query may cost so much CPU: memberships are looked up once."""

WEEK, DAY = 8, 2
"""Days of UTC that seven times 24 hours touch, and that 24 hours do."""

DAYS_READ: Mapping[str, int | None] = {
    "sessions_to_watch": 0,
    "funnel": WEEK,
    "painful_elements": 0,
    "frustration_by_browser": 0,
    "frustration_by_country": 0,
    "frustration_by_release": 0,
    "errors": None,
    "abandoned_fields": WEEK + DAYS_AHEAD,
    "slow_answers": DAY + 1,
    "click_responses": None,
    "traffic": 0,
    "hours_of_the_day": 0,
    "event_types": 0,
    "timeline": None,
    "recording": 0,
}
"""Days of events that the plan of a question may read, those ahead included where it asks for no end: they are empty.
None: below is said which."""

REASONS: Mapping[str, str] = {
    "slow_answers": "an answer may come 10 s after midnight; a week takes seven times as long",
    "timeline": "a session may last for days: one look-up by its id in each",
    "click_responses": "a session may last for days: one look-up by its id in each",
    "errors": "one look-up a group, in the day of its last error",
    "recording": "put together and parsed as it is read",
}

_RECORDINGS = ("recording",)
_COMPARED = ("own_day", "own_all", "own_sessions", "own_session")


def run(lab: Lab) -> Result:
    """Fill a database, ask, and compare."""
    queries = read_queries("deploy.bench", "analyst.sql")
    with lab.database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            began = time.monotonic()
            projects = _fill(connection, queries)
            filled_s = time.monotonic() - began
            days = _number(connection, queries["partitions"])
        questions = [_ask(url, name, statement, days) for name, statement in _questions().items()]
        policies = list(_policies(url, queries, projects[0]))
    return Result(
        "analyst",
        [*questions, *policies, Line("to fill it", filled_s, "s")],
        {"events": SESSIONS * EVENTS_PER_SESSION, "sessions": SESSIONS, "days": days, "projects": PROJECTS},
    )


def _questions() -> dict[str, bytes]:
    return parse_queries((files("deploy") / "docs" / "questions.sql").read_text())


def _fill(connection: Connection, queries: Mapping[str, bytes]) -> list[str]:
    """Make everything, and return the projects' ids."""
    values = {"days": DAYS, "sessions": SESSIONS, "projects": PROJECTS}
    # rows are counted here: the trigger that counts a plain INSERT would take a minute
    connection.execute("SET traceflow.sink = 'on'")
    connection.execute(queries["ensure_days"], values)
    projects = [str(row[0]) for row in connection.execute(queries["fill_projects"], values)]
    for name, query in queries.items():
        if name.startswith("fill_") and name != "fill_projects":
            connection.execute(query, values)
    connection.execute("VACUUM ANALYZE")
    return projects


def _ask(url: str, name: str, statement: bytes, days: int) -> Line:
    """Measure a question and count the days of events that its plan reads."""
    with _connect(url, role="traceflow_recording_viewer" if name in _RECORDINGS else "traceflow_analyst") as connection:
        cpu_ms = _cpu_ms(connection, statement, {})
        read = len(days_read(connection, statement))
    most = DAYS_READ[name]
    return Line(
        name,
        cpu_ms,
        "ms of CPU",
        f"≤ {MAX_MS:,.0f}" + (f", ≤ {most} days" if most is not None else ""),
        cpu_ms <= MAX_MS and (most is None or read <= most),
        f"reads {read} of {days} days of events" + (f": {REASONS[name]}" if name in REASONS else ""),
    )


def days_read(connection: Connection, statement: bytes) -> set[str]:
    """Return the partitions of traceflow_events that a statement reads, without those that its plan leaves out."""
    # a question of our own page, not something that came from outside
    question = sql.SQL(statement.decode())
    (row,) = connection.execute(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}").format(question)).fetchall()
    return set(scanned_days(row[0][0]["Plan"]))


def scanned_days(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield the partitions of traceflow_events that an analysed plan has scanned."""
    relation = str(plan.get("Relation Name", ""))
    if relation.startswith("traceflow_events_") and plan["Actual Loops"]:
        yield relation
    for part in plan.get("Plans", ()):
        yield from scanned_days(part)


def _policies(url: str, queries: Mapping[str, bytes], project: str) -> Iterator[Line]:
    with _connect(url, role="authenticated") as member, _connect(url) as owner:
        member.execute(queries["claims"], {"user": project})
        values = {"projects": [project], "since": datetime.now(UTC) - timedelta(days=1)}
        for name in _COMPARED:
            measured = [
                (
                    _cpu_ms(member, queries[name], values),
                    _cpu_ms(owner, queries[f"{name}_by_hand"], values),
                )
                for _ in range(ROUNDS)
            ]
            ratio = middle([with_policies / without for with_policies, without in measured])
            extra_ms = middle([with_policies - without for with_policies, without in measured])
            yield Line(
                f"policies: {name}",
                ratio,
                "of the CPU without",
                f"≤ {MAX_POLICY_RATIO}, or ≤ {MAX_POLICY_MS} ms more",
                ratio <= MAX_POLICY_RATIO or extra_ms <= MAX_POLICY_MS,
                f"{middle([with_policies for with_policies, _ in measured]):.2f} ms, {extra_ms:+.2f}",
            )


@contextmanager
def _connect(url: str, *, role: str = "") -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True, options="-c max_parallel_workers_per_gather=0") as connection:
        if role:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield connection


def _cpu_ms(connection: Connection, query: bytes, values: Mapping[str, Any]) -> float:
    """Return the CPU time of the connection's backend for a query, once it has been asked before."""
    pid, spent_s = connection.info.backend_pid, list[float]()
    connection.execute(query, values or None).fetchall()
    while sum(spent_s) < MEASURED_S or len(spent_s) < ROUNDS:
        before = thread_cpu_seconds(pid)
        connection.execute(query, values or None).fetchall()
        spent_s.append(thread_cpu_seconds(pid) - before)
    return middle(spent_s) * 1e3


def _number(connection: Connection, query: bytes) -> int:
    (row,) = connection.execute(query).fetchall()
    return int(row[0])
