"""The synthetic sessions: repeatable, near the present, and holding what TraceFlow looks for."""

import re
from collections import Counter
from typing import Any

import orjson

from deploy.load.generator import Load
from deploy.load.request import SessionRequest
from deploy.load.template import cut_steps
from deploy.load.visit import Moment, Visit, draw_visit

NOW_MS = 1_795_373_461_472


def small_load(seed: int, name: str = "a", recorded_share: float = 0.25) -> Load:
    return Load(seed=seed, name=name, recorded_share=recorded_share, visits=8)


def requests_of(load: Load, numbers: range = range(40)) -> list[SessionRequest]:
    return [request for number in numbers for request in load.session(number, now_ms=NOW_MS)]


def events_of(requests: list[SessionRequest]) -> list[dict[str, Any]]:
    return [event for r in requests if r.chunk is None for event in orjson.loads(r.render())["events"]]


def test_one_seed_gives_one_load() -> None:
    first, second = (requests_of(small_load(7)) for _ in range(2))
    assert [r.render() for r in first] == [r.render() for r in second]
    assert [(r.session_id, r.user_agent, r.chunk) for r in first] == [
        (r.session_id, r.user_agent, r.chunk) for r in second
    ]


def test_another_seed_gives_another_load() -> None:
    assert [r.render() for r in requests_of(small_load(7))] != [r.render() for r in requests_of(small_load(8))]


def test_a_request_renders_the_same_bytes_each_time() -> None:
    assert all(r.render() == r.render() for r in requests_of(small_load(1), range(8)))


def test_names_keep_the_sessions_of_two_runs_apart() -> None:
    sessions = [{r.session_id for r in requests_of(small_load(1, name))} for name in ("a", "b")]
    assert sessions[0].isdisjoint(sessions[1])


def test_ids_of_all_events_differ() -> None:
    ids = [e.id for r in requests_of(small_load(1)) for e in r.expected_events("project")]
    assert len(set(ids)) == len(ids) > 4_000
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[48][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)


def test_a_session_ends_now_and_its_events_come_in_order() -> None:
    requests = list(small_load(1).session(5, now_ms=NOW_MS))
    times = [event["timestamp"] for event in events_of(requests)]
    assert times == sorted(times)
    assert times[-1] == NOW_MS


def test_chunks_of_a_session_count_from_0_and_tell_their_size() -> None:
    load = small_load(1, recorded_share=1.0)
    chunks = [r for r in load.session(5, now_ms=NOW_MS) if r.chunk]
    assert [r.chunk.seq for r in chunks if r.chunk] == list(range(len(chunks)))
    assert [r.event_count for r in chunks] == [len(orjson.loads(r.render())) for r in chunks]
    first = orjson.loads(chunks[0].render())
    assert [event["type"] for event in first[:2]] == [4, 2]


def test_no_session_is_recorded_if_none_is_asked_for() -> None:
    assert not any(r.chunk for r in requests_of(small_load(1, recorded_share=0.0)))


def test_every_control_that_is_clicked_in_the_recording_is_in_the_page() -> None:
    visit = draw_visit(3, events=160)
    known: set[int] = set()
    for moment in visit.recording:
        data = moment.data["data"]
        if moment.data["type"] == 2:
            known = set(node_ids(data["node"]))
        elif data.get("source") == 2:
            assert data["id"] in known


def node_ids(node: dict[str, Any]) -> list[int]:
    return [node["id"], *(inner for child in node.get("childNodes", ()) for inner in node_ids(child))]


def test_visits_hold_what_is_looked_for() -> None:
    visits = [draw_visit(seed, events=160) for seed in range(40)]
    kinds = Counter(moment.data["event_type"] for visit in visits for moment in visit.events)
    assert set(kinds) >= {"pageview", "click", "scroll", "network", "dom_change", "error", "input", "web_vital"}
    assert any(longest_burst(visit) >= 4 for visit in visits)


def longest_burst(visit: Visit) -> int:
    longest, burst, last = 0, 0, Moment(-10_000, {})
    for moment in visit.events:
        if moment.data["event_type"] == "click":
            same = last.data.get("element_id") == moment.data["element_id"] and moment.t - last.t <= 1_000
            burst = burst + 1 if same else 1
            longest, last = max(longest, burst), moment
    return longest


def test_a_visit_is_cut_into_flushes_with_the_recording_of_the_same_time() -> None:
    visit = Visit(
        events=[Moment(t, {"event_type": "custom"}) for t in (0, 10, 20, 30, 40)],
        recording=[Moment(t, {"type": 3, "data": {}}) for t in (0, 5, 10, 11, 45)],
    )
    steps = cut_steps(visit, batch=2, client_ids=False)
    assert [step.events.offsets_ms for step in steps] == [(0, 10), (20, 30), (40,)]
    assert [step.chunk.offsets_ms if step.chunk else None for step in steps] == [(0, 5, 10), (11,), (45,)]


def test_a_percent_sign_in_an_event_stays_one() -> None:
    visit = Visit(events=[Moment(0, {"event_type": "custom", "element_text": "100% wool"})])
    (step,) = cut_steps(visit, batch=20, client_ids=True)
    body = orjson.loads(step.events.render("s", "v", NOW_MS))
    assert body["events"][0]["element_text"] == "100% wool"
    assert body["events"][0]["timestamp"] == NOW_MS
