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
from deploy.bench.analyst import DAYS_READ, REASONS, days_read
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


def share(some: int, of: int) -> Decimal | None:
    return rounded(Decimal(some) / of, "0.001") if of else None


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
    return [
        (n + 1, step, came[n], share(came[n], came[0]), share(came[n], came[n - 1] if n else 0))
        for n, step in enumerate(steps)
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


def answered_clicks(visit: Visit) -> Iterator[tuple[dict[str, Any], str | None, int | None]]:
    """Yield each click with what answered it first, and after how many ms."""
    clicks = [e for e in visit.events if e["event_type"] == "click" and e.get("event_name") != "dblclick"]
    answers = [
        e for e in visit.events if e["event_type"] in ("dom_change", "network", "pageview", "visibility", "custom")
    ]
    for click in clicks:
        at = click["timestamp"]
        other = min((e["timestamp"] for e in clicks if e["timestamp"] > at), default=math.inf)
        in_time = [e for e in answers if at <= e["timestamp"] <= min(at + 10_000, other)]
        at_first, answer = min(((e["timestamp"], e["event_type"]) for e in in_time), default=(None, None))
        yield click, answer, None if at_first is None else at_first - at


def percentile(values: Sequence[int], share: float) -> int | None:
    return sorted(values)[math.ceil(len(values) * share) - 1] if values else None


def slow_answers(given: Sequence[Visit]) -> Rows:
    waits = defaultdict(list)
    for visit in given:
        if visit.snapshot.started_at < NOW_MS - 24 * HOUR_MS:
            continue
        for click, _, wait in answered_clicks(visit):
            waits[path(click["page_url"]), click.get("element_selector")].append(wait)
    rows: Rows = []
    for (where, element), of in waits.items():
        known = [wait for wait in of if wait is not None]
        rows.append((where, element, percentile(known, 0.5), percentile(known, 0.95), len(known), len(of)))
    return sorted(rows, key=lambda row: (row[2] is None, -(row[2] or 0), row[0], row[1] is None, row[1] or ""))


def click_responses(given: Sequence[Visit]) -> Rows:
    rows: list[tuple[Any, ...]] = []
    for visit in given:
        if visit.id == "first":
            for click, answer, wait in answered_clicks(visit):
                shown = (path(click["page_url"]), click.get("element_selector"), "event", answer, wait)
                rows.append((click["timestamp"], click["id"], shown))
            for f in visit.findings:
                if f.kind == "slow_load" and "response_ms" in f.evidence:
                    wait = f.evidence["response_ms"]
                    shown = (path(f.page_url or ""), f.element_selector, "recording", "change", wait)
                    rows.append((f.timestamp, f.id, shown))
    return [(datetime.fromtimestamp(at / 1000, UTC), *shown) for at, _, shown in sorted(rows)]


def traffic(given: Sequence[Visit]) -> Rows:
    days: dict[date, Counter[str]] = defaultdict(Counter)
    for visit in given:
        for row in visit.rows():
            days[datetime.fromtimestamp(row["timestamp"] / 1000, UTC).date()][row["event_type"]] += 1
    return [
        (
            *(day, of["pageview"], of["error"], of["rage_click"]),
            rounded(1000 * Decimal(sum(n for kind, n in of.items() if kind in WEIGHTS)) / of.total(), "0.1"),
        )
        for day, of in sorted(days.items())
    ]


def hours_of_the_day(given: Sequence[Visit]) -> Rows:
    events, findings = Counter[int](), Counter[int]()
    for visit in given:
        for row in visit.rows():
            hour = row["timestamp"] // HOUR_MS % 24
            events[hour] += 1
            findings[hour] += row["event_type"] in WEIGHTS
    return sorted([(hour, n, findings[hour]) for hour, n in events.items()], key=lambda row: (-row[2], row[0]))


def event_types(given: Sequence[Visit]) -> Rows:
    types = Counter(row["event_type"] for visit in given for row in visit.rows())
    return sorted(types.items(), key=lambda row: (-row[1], row[0]))


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
    "click_responses": click_responses,
    "traffic": traffic,
    "hours_of_the_day": hours_of_the_day,
    "event_types": event_types,
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


def test_of_every_question_is_known_how_many_days_it_reads() -> None:
    assert set(DAYS_READ) == set(QUESTIONS)
    assert {name for name, most in DAYS_READ.items() if most is None} <= set(REASONS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_reads_no_days_but_those_that_it_asks_for(database: str, question: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET LOCAL ROLE traceflow_analyst")
        if question == "recording":
            connection.execute("SET LOCAL ROLE traceflow_recording_viewer")
        read = days_read(connection, QUESTIONS[question])
        most = DAYS_READ[question]
        if most is not None:
            assert len(read) <= most
            assert bool(read) == bool(most)


_DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
_OF_THE_DAY = f""""timestamp" >= '{_DAY}' AND "timestamp" < '{_DAY + timedelta(days=1)}'"""

VIEWS: Mapping[str, tuple[str, int]] = {
    "session_recordings_full": ("session_id = 'first'", 0),
    "traceflow_session_overview": ("started_at > now() - interval '7 days'", 0),
    "traceflow_session_timeline": (_OF_THE_DAY, 1),
    "traceflow_painful_elements": ("true", 0),
    "traceflow_frustration_by": ("dimension = 'browser' AND day > current_date - 7", 0),
    "traceflow_error_groups": ("last_detected_at > now() - interval '7 days'", 4),
    "traceflow_abandoned_fields": (_OF_THE_DAY, 1),
    "traceflow_click_responses": (_OF_THE_DAY, 2),
    "traceflow_event_hours": ("hour > now() - interval '7 days'", 0),
    "traceflow_traffic_by_hour": ("hour > now() - interval '7 days'", 0),
    "traceflow_traffic_by_day": ("day > current_date - 365", 0),
}
"""Each view with what one asks of it, and how many days of events its plan then reads: of the errors those of the
last one of each group, and the visits are three days old at most; an answer to a click may come after midnight."""


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_reads_no_days_but_those_that_it_must(database: str, view: str) -> None:
    condition, days = VIEWS[view]
    with psycopg.connect(database) as connection:
        read = days_read(connection, f"SELECT * FROM {view} WHERE {condition}".encode())  # noqa: S608
    assert len(read) <= days
    assert bool(read) == bool(days)


def test_every_view_is_asked_by_a_question(database: str) -> None:
    with psycopg.connect(database) as connection:
        views = connection.execute("SELECT viewname::text FROM pg_views WHERE schemaname = 'public'").fetchall()
    text = b"\n".join(QUESTIONS.values()).decode()
    assert {name for (name,) in views} == set(VIEWS)
    assert [name for name in VIEWS if not re.search(rf"\b{name}\b", text)] == []
