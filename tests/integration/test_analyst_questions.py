"""Each question of deploy/docs/questions.sql on generated visits, beside the answer that Python computes from them.

Asked as an analyst, who sees all projects, and as members of one, whose answer is that of their visits alone.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import urlsplit

import orjson
import psycopg
import pytest
from psycopg import sql

from adapters.postgres import parse_queries
from deploy.bench.analyst import DAYS_READ, days_read
from schemas.messages import Finding
from tests import database_docs
from tests.analyst_visits import BANK, HOUR_MS, SHOP, Visit, visits, write
from tests.integration.sink_bench import NOW_MS, add_project, copied_database

QUESTIONS = parse_queries(database_docs.QUESTIONS.read_text())
WEIGHTS = {"error": 5, "rage_click": 4, "error_click": 4, "form_abandonment": 3, "dead_click": 2} | dict.fromkeys(
    ("slow_load", "quick_back", "thrashed_cursor"), 1
)
ISSUE_TYPES = {kind: kind for kind in ("error", "rage_click", "dead_click", "slow_load", "form_abandonment")} | {
    "error_click": "error"
}
MEMBER = {SHOP: "33333333-3333-4333-8333-111111111111", BANK: "33333333-3333-4333-8333-222222222222"}

VISITS = visits()
Rows = list[tuple[Any, ...]]


# Python's answers


def score(counts: Mapping[str, int]) -> int:
    return round(100 * (1 - math.exp(-sum(WEIGHTS[kind] * n for kind, n in counts.items()) / 10)))


def found(visit: Visit) -> Counter[str]:
    return Counter(row["event_type"] for row in visit.rows() if row["event_type"] in WEIGHTS)


def path(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"#{parts.fragment}" if parts.fragment.startswith("/") else "")


def page(url: str | None) -> str:
    """Return an issue's page: without query and ids."""
    parts = urlsplit(url or "")
    route = f"/#{parts.fragment}" if parts.fragment.startswith("/") else ""
    place = re.sub(r"/\d+", "/:id", parts.path.rstrip("/")) + route
    return f"{parts.scheme}://{parts.netloc}{place or '/'}"


def people(given: Sequence[Visit]) -> list[Visit]:
    return [visit for visit in given if not visit.snapshot.is_bot]


def rounded(value: Decimal, places: str) -> Decimal:
    return value.quantize(Decimal(places), ROUND_HALF_UP)


def sessions_to_watch(given: Sequence[Visit]) -> Rows:
    rows: Rows = []
    for visit in given:
        counts = found(visit)
        top = min(counts, key=lambda kind: (-WEIGHTS[kind] * counts[kind], kind), default=None)
        rows.append((visit.id, score(counts), top, counts.total()))
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:10]


def steps_reached(pages: Iterable[str], steps: Sequence[re.Pattern[str]]) -> int:
    left = iter(pages)
    return sum(1 for _ in itertools.takewhile(lambda step: any(map(step.fullmatch, left)), steps))


def funnel(given: Sequence[Visit]) -> Rows:
    steps = ("/", "/product/%", "/cart", "/thanks")
    patterns = [re.compile(step.replace("%", ".*")) for step in steps]
    came = Counter[int]()
    for visit in people(given):
        seen = sorted((e["timestamp"], e["id"], e["page_url"]) for e in visit.events if e["event_type"] == "pageview")
        pages = [path(url) for *_, url in seen] or [path(url) for url in visit.snapshot.pages_visited]
        came.update(range(steps_reached(pages, patterns)))
    shares = [(Decimal(came[n]) / came[0], Decimal(came[n]) / came[n - 1] if n else None) for n in range(len(steps))]
    return [
        (n + 1, step, came[n], rounded(first, "0.001"), before and rounded(before, "0.001"))
        for n, (step, (first, before)) in enumerate(zip(steps, shares, strict=True))
    ]


def painful_elements(given: Sequence[Visit]) -> Rows:
    pain: Counter[tuple[str, str, str]] = Counter()
    sessions = defaultdict(set)
    for visit in given:
        for f in visit.findings:
            if f.kind in ISSUE_TYPES and f.element_selector:
                element = (f.project_id, page(f.page_url), f.element_selector)
                pain[element] += WEIGHTS[ISSUE_TYPES[f.kind]]
                sessions[element].add(visit.id)
    rows = [(element[1], element[2], n, len(sessions[element])) for element, n in pain.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1], row[3]))[:10]


def frustration_by(given: Sequence[Visit], value: Callable[[Visit], Any]) -> Rows:
    groups = defaultdict(list)
    for visit in people(given):
        groups[value(visit)].append(score(found(visit)))
    rows = [(v, len(of), rounded(Decimal(sum(of)) / len(of), "0.1")) for v, of in groups.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0] is None, row[0] or ""))


def frustration_by_release(given: Sequence[Visit]) -> Rows:
    groups: dict[Any, list[tuple[date, int]]] = defaultdict(list)
    for visit in people(given):
        day = datetime.fromtimestamp(visit.snapshot.started_at / 1000, UTC).date()
        groups[visit.snapshot.custom_properties.get("release")].append((day, score(found(visit))))
    rows = [(v, min(d for d, _ in of), sum(s > 0 for _, s in of), len(of)) for v, of in groups.items()]
    return sorted(rows, key=lambda row: (row[0] is None, row[0] or ""))


def errors(given: Sequence[Visit]) -> Rows:
    groups: dict[tuple[str, str], list[tuple[Visit, Finding]]] = defaultdict(list)
    for visit in given:
        for f in visit.findings:
            if ISSUE_TYPES.get(f.kind) == "error":
                groups[f.project_id, f.evidence["fingerprint"]].append((visit, f))
    rows: Rows = []
    for of in groups.values():
        pages = Counter(page(f.page_url) for _, f in of)
        top = min(pages, key=lambda page: (-pages[page], page))
        visitors = {f.visitor_id for _, f in of} - {None}
        rows.append((of[0][1].error_message, len(visitors), len({visit.id for visit, _ in of}), len(of), top))
    return sorted(rows, key=lambda row: (-row[1], row[0], row[2]))


def abandoned_fields(given: Sequence[Visit]) -> Rows:
    fields = Counter(
        (path(f.page_url or ""), f.element_selector, name)
        for visit in given
        for f in visit.findings
        if f.kind == "form_abandonment"
        for name in f.evidence["field_names"]
    )
    return sorted([(*where, n) for where, n in fields.items()], key=lambda row: (-row[3], row[:3]))


def slow_answers(given: Sequence[Visit]) -> Rows:
    waits = defaultdict(list)
    for visit in given:
        if visit.snapshot.started_at < NOW_MS - 24 * HOUR_MS:
            continue
        clicks = [e for e in visit.events if e["event_type"] == "click" and e.get("event_name") != "dblclick"]
        answers = [
            e for e in visit.events if e["event_type"] in ("dom_change", "network", "pageview", "visibility", "custom")
        ]
        for click in clicks:
            at = click["timestamp"]
            later = [e["timestamp"] for e in answers if at <= e["timestamp"] <= at + 10_000]
            other = min((e["timestamp"] for e in clicks if e["timestamp"] > at), default=math.inf)
            first = min(later, default=math.inf)
            wait = int(first - at) if first <= other and first < math.inf else None
            waits[path(click["page_url"]), click.get("element_selector")].append(wait)
    rows: Rows = []
    for (where, element), of in waits.items():
        known = sorted(wait for wait in of if wait is not None)
        rows.append((where, element, known[math.ceil(len(known) / 2) - 1] if known else None, len(known), len(of)))
    return sorted(rows, key=lambda row: (row[2] is None, -(row[2] or 0), row[0], row[1] is None, row[1] or ""))


def timeline(given: Sequence[Visit]) -> Rows:
    rows: list[tuple[Any, ...]] = []
    for visit in given:
        if visit.id == "first":
            for row in visit.rows():
                is_finding = row["event_type"] in WEIGHTS
                since = timedelta(milliseconds=row["timestamp"] - visit.snapshot.started_at)
                shown = (since, row["event_type"], is_finding, row.get("page_url"), row.get("element_selector"))
                rows.append((row["timestamp"], is_finding, row["id"], shown))
    return [shown for *_, shown in sorted(rows, key=lambda row: row[:3])]


def recording(given: Sequence[Visit]) -> Rows:
    return [(list(itertools.chain(*visit.chunks)),) for visit in given if visit.id == "first"]


ANSWERS: Mapping[str, Callable[[Sequence[Visit]], Rows]] = {
    "sessions_to_watch": sessions_to_watch,
    "funnel": funnel,
    "painful_elements": painful_elements,
    "frustration_by_browser": lambda given: frustration_by(given, lambda visit: visit.snapshot.browser),
    "frustration_by_country": lambda given: frustration_by(given, lambda visit: visit.snapshot.country_code),
    "frustration_by_release": frustration_by_release,
    "errors": errors,
    "abandoned_fields": abandoned_fields,
    "slow_answers": slow_answers,
    "timeline": timeline,
    "recording": recording,
}


# SQL's answers


@pytest.fixture(scope="module")
def database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        for project, member in MEMBER.items():
            add_project(url, project)
            with psycopg.connect(url) as connection:
                connection.execute("INSERT INTO auth.users (id) VALUES (%s)", (member,))
                connection.execute("INSERT INTO traceflow_project_members VALUES (%s, %s)", (project, member))
        write(url, VISITS)
        yield url


def ask(url: str, question: str, *, role: str, user: str = "") -> Rows:
    with psycopg.connect(url) as connection:
        claims = orjson.dumps({"sub": user} if user else {}).decode()
        connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        return connection.execute(QUESTIONS[question]).fetchall()


def test_every_question_has_an_answer_of_pythons() -> None:
    assert set(ANSWERS) == set(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_analyst_is_answered_from_all_visits(database: str, question: str) -> None:
    role = "traceflow_recording_viewer" if question == "recording" else "traceflow_analyst"
    expected = ANSWERS[question](VISITS)
    assert expected
    assert ask(database, question, role=role) == expected


@pytest.mark.parametrize("project", MEMBER)
@pytest.mark.parametrize("question", [name for name in QUESTIONS if name != "recording"])
def test_a_member_is_answered_from_the_visits_of_the_own_project(database: str, question: str, project: str) -> None:
    expected = ANSWERS[question]([visit for visit in VISITS if visit.project == project])
    assert ask(database, question, role="authenticated", user=MEMBER[project]) == expected


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_stranger_is_answered_from_no_visit(database: str, question: str) -> None:
    rows = ask(database, question, role="authenticated", user="33333333-3333-4333-8333-333333333333")
    assert [row for row in rows if question != "funnel" or row[2:] != (0, None, None)] == []


@pytest.mark.parametrize("question", DAYS_READ)
def test_a_question_reads_the_days_that_it_asks_for(database: str, question: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET LOCAL ROLE traceflow_analyst")
        assert 0 < len(days_read(connection, QUESTIONS[question])) <= DAYS_READ[question]


def test_every_view_is_asked_by_a_question(database: str) -> None:
    with psycopg.connect(database) as connection:
        views = connection.execute("SELECT viewname::text FROM pg_views WHERE schemaname = 'public'").fetchall()
    text = b"\n".join(QUESTIONS.values()).decode()
    assert [name for (name,) in views if not re.search(rf"\b{name}\b", text)] == []
