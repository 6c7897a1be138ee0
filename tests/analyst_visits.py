"""Generated visits for the questions of analysts: what SDKs sent, what was found, what a session's snapshot says.

Plain records, from a seed. `write` puts them into a database through the sinks; the tests answer the questions from the
same records in Python.
"""

import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from adapters.kafka_consumer import ConsumedRecord
from schemas.ids import finding_id, session_key, session_row_id
from schemas.messages import Finding, RecordingSummary, SessionSnapshot
from tests.integration.sink_bench import NOW_MS, SinkBench

SHOP = "11111111-1111-4111-8111-111111111111"
BANK = "22222222-2222-4222-8222-222222222222"
HOST = "https://shop.example"
HOUR_MS = 3_600_000

_PATHS = ("/", "/product/1", "/product/2?from=mail", "/cart", "/thanks#done", "/#/help")
_ELEMENTS = ("#buy", "nav > a.help", "#pay", None)
_ANSWERS = ("dom_change", "network", "visibility", "custom", "scroll")
_ERRORS = {"a1": "x is not a function", "b2": "cannot read 'y'", "c3": "timeout of 3000 ms", "d4": "timeout of 9000 ms"}
_FIELDS = ("mail", "name", "card", "street")
_KINDS = ("rage_click", "dead_click", "error_click", "slow_load", "form_abandonment", "quick_back", "thrashed_cursor")

Json = dict[str, Any]


@dataclass(slots=True)
class Visit:
    """A session as it is known from outside."""

    snapshot: SessionSnapshot
    events: list[Json]
    findings: list[Finding]
    chunks: list[list[Json]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return the session's id."""
        return self.snapshot.session_id

    @property
    def project(self) -> str:
        """Return the project's id."""
        return self.snapshot.project_id

    def rows(self) -> list[Json]:
        """Return the rows of traceflow_events: the events, and the findings that have a row of their own."""
        found = [
            {
                "id": f.id,
                "timestamp": f.timestamp,
                "event_type": f.kind,
                "page_url": f.page_url,
                "element_selector": f.element_selector,
                "metadata": f.evidence,
            }
            for f in self.findings
            if f.event_row
        ]
        return self.events + found


def visits(seed: int = 57, *, count: int = 60) -> list[Visit]:
    """Generate visits of two projects in the last three days; the first is named `first`, and was recorded."""
    rng = random.Random(seed)
    return [_visit(rng, f"s{n:03}", SHOP if n % 3 else BANK) for n in range(1, count)] + [
        _visit(rng, "first", SHOP, recorded=True)
    ]


def _visit(rng: random.Random, session: str, project: str, *, recorded: bool = False) -> Visit:
    # none about a day ago: the database's clock decides which are of the last day
    start = NOW_MS - rng.choice((rng.randrange(HOUR_MS, 22 * HOUR_MS), rng.randrange(26 * HOUR_MS, 72 * HOUR_MS)))
    only_recorded = not recorded and rng.random() < 0.15
    pages = [HOST + rng.choice(_PATHS) for _ in range(rng.randrange(1, 9))]
    events = [] if only_recorded else list(_events(rng, start, pages))
    times = [int(event["timestamp"]) for event in events]
    visitor = rng.choice((None, f"v{rng.randrange(12)}"))
    findings = list(_findings(rng, start, project=project, session=session, visitor=visitor, events=events))
    chunks = [[{"type": 4, "timestamp": start + n, "data": {"n": n}}] for n in range(3)] if recorded else []
    snapshot = SessionSnapshot(
        id=session_row_id(project, session),
        project_id=project,
        session_id=session,
        version=1,
        life=0,
        started_at=start,
        ended_at=max([start, *times]),
        duration_ms=max([start, *times]) - start,
        closed=False,
        visitor_id=visitor,
        browser=rng.choice(("Chrome", "Firefox", "Safari", None)),
        is_bot=rng.random() < 0.1,
        country_code=rng.choice(("AT", "DE", "FR", None)),
        landing_page=pages[0],
        page_count=len(pages),
        pages_visited=list(dict.fromkeys(pages)),
        custom_properties=rng.choice(({}, {"release": "1.0"}, {"release": "1.1"})),
        recording=RecordingSummary(start, start, 0, 3, 1) if recorded else None,
    )
    return Visit(snapshot, events, findings, chunks)


def _events(rng: random.Random, start: int, pages: list[str]) -> Iterator[Json]:
    now = start
    for url in pages:
        yield _event(rng, now, "pageview", page_url=url)
        for _ in range(rng.randrange(4)):
            now += rng.randrange(1, 4000)
            name = rng.choice((None, None, None, "dblclick"))
            yield _event(rng, now, "click", page_url=url, element_selector=rng.choice(_ELEMENTS), event_name=name)
            for _ in range(rng.randrange(3)):
                # at once, soon, or after a click has been given up
                yield _event(rng, now + rng.choice((0, rng.randrange(3000), 10_000, 10_001)), rng.choice(_ANSWERS))
        if rng.random() < 0.2:
            now += rng.randrange(1, 500)
            mark = rng.choice(list(_ERRORS))
            yield _event(rng, now, "error", page_url=url, error_message=_ERRORS[mark], metadata={"mark": mark})
        now += rng.randrange(1, 20_000)


def _event(rng: random.Random, timestamp: int, event_type: str, **fields: Any) -> Json:
    given = {name: value for name, value in fields.items() if value is not None}
    return {
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "timestamp": timestamp,
        "event_type": event_type,
    } | given


def _findings(
    rng: random.Random, start: int, *, project: str, session: str, visitor: str | None, events: Iterable[Json]
) -> Iterator[Finding]:
    def found(kind: str, timestamp: int, trigger: str, **fields: Any) -> Finding:
        return Finding(
            id=finding_id(project_id=project, session_id=session, kind=kind, trigger=trigger),
            project_id=project,
            session_id=session,
            kind=kind,
            timestamp=timestamp,
            visitor_id=visitor,
            **fields,
        )

    for event in events:
        if event["event_type"] == "error":
            mark = event["metadata"]["mark"]
            yield found(
                "error",
                event["timestamp"],
                event["id"],
                page_url=event["page_url"],
                error_message=event["error_message"],
                evidence={"fingerprint": mark},
                event_row=False,
            )
    for n in range(rng.choice((0, 0, 1, 3))):
        kind = rng.choice(_KINDS)
        yield found(
            kind,
            start + rng.randrange(60_000),
            str(n),
            page_url=HOST + rng.choice(_PATHS),
            element_selector=rng.choice(_ELEMENTS) if kind != "form_abandonment" else "#signup",
            severity=rng.choice(("low", "high")),
            **_evidence(rng, kind),
        )


def _evidence(rng: random.Random, kind: str) -> Json:
    if kind == "error_click":
        mark = rng.choice(list(_ERRORS))
        return {"evidence": {"fingerprint": mark}, "error_message": _ERRORS[mark]}
    if kind == "form_abandonment":
        names = sorted(rng.sample(_FIELDS, rng.randrange(1, 4)))
        return {"evidence": {"fields": len(names), "field_names": names, "spent_ms": rng.randrange(60_000)}}
    if kind == "slow_load":
        return {"evidence": rng.choice(({"vital": "LCP", "value": 5000}, {"response_ms": 3100, "slow_above_ms": 2500}))}
    return {"evidence": {}}


def write(url: str, generated: list[Visit]) -> None:
    """Put the visits into a database through the sinks."""
    for name, records in (
        ("sessions", lambda bench: [bench.message(visit.snapshot) for visit in generated]),
        ("events", lambda bench: [_batch(bench, visit) for visit in generated if visit.events]),
        ("signals", lambda bench: [bench.message(f) for visit in generated for f in visit.findings]),
        ("recordings", lambda bench: [_chunk(bench, v, n) for v in generated for n in range(len(v.chunks))]),
    ):
        _write(url, name, records)


def _write(url: str, name: str, records: Callable[[SinkBench], list[ConsumedRecord]]) -> None:
    bench = SinkBench(url, name)
    bench.write(records(bench))
    assert bench.reasons() == []
    bench.close()


def _batch(bench: SinkBench, visit: Visit) -> ConsumedRecord:
    more = {"visitor_id": visit.snapshot.visitor_id} if visit.snapshot.visitor_id else {}
    return bench.events(visit.events, session=visit.id, project=visit.project, **more)


def _chunk(bench: SinkBench, visit: Visit, seq: int) -> ConsumedRecord:
    meta = {"v": 1, "project_id": visit.project, "session_id": visit.id, "window_id": "w", "seq": seq, "codec": "json"}
    header = orjson.dumps(meta | {"received_at": NOW_MS, "encoding": "identity", "settings": {"version": 1}})
    key = session_key(visit.project, visit.id)
    return bench.record(orjson.dumps(visit.chunks[seq]), key=key, kind="chunk", meta=header)
