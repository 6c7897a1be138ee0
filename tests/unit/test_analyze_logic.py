from typing import Any

import orjson
import pytest

from schemas.ids import ai_job_id, finding_id, session_row_id
from schemas.reasons import Reason
from schemas.signals import Change, ChangeKind, Click, Element, PageView, ScriptError
from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.fold.logic import Emitted
from tests.analyze_log import DAY_MS, GAP_MS, GRACE_MS, KEY, PROJECT, SESSION, SETTLE_MS, T0, Log, fold

UA = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)
BUY = Element(tag="button", id="buy", text="Buy", selector="form#cart > button", component="cart")


def click(t: int, **more: Any) -> dict[str, Any]:
    element = {"element_tag": "button", "element_text": "Buy", "element_selector": "form#cart > button"}
    return (
        {"t": t, "event_type": "click", "x_position": 10, "y_position": 20, "page_url": "https://a/p"} | element | more
    )


def rage(t: int = 0) -> list[dict[str, Any]]:
    return [click(t + 300 * n) for n in range(4)]


def recorded_click(t: int, **more: Any) -> Click:
    return Click(t=T0 + t, x=10, y=20, node=7, element=BUY, page_url="https://a/p", **more)


def test_rage_of_structured_clicks_is_a_finding_once_the_recordings_are_digested_so_far() -> None:
    log = Log()
    log.events(*rage(), at=2_000, visitor_id="v")
    due = 2_000 + SETTLE_MS + GRACE_MS
    log.tick(at=due + 60_000)
    log.digest_tick(at=due)
    assert fold(log.records).findings == []
    log.digest_tick(at=due + 1)
    assert fold(log.records).findings == [
        {
            "id": finding_id(project_id=PROJECT, session_id=SESSION, kind="rage_click", trigger=f"{T0}/10/20"),
            "project_id": PROJECT,
            "session_id": SESSION,
            "kind": "rage_click",
            "timestamp": T0,
            "event_row": True,
            "severity": "medium",
            "visitor_id": "v",
            "page_url": "https://a/p",
            "page_title": None,
            "element_tag": "button",
            "element_id": None,
            "element_class": None,
            "element_text": "Buy",
            "element_selector": "form#cart > button",
            "component": "form#cart",
            "x_position": 10,
            "y_position": 20,
            "error_message": None,
            "error_stack": None,
            "evidence": {"clicks": 4, "span_ms": 900, "effective_clicks": 0},
            "v": 1,
        }
    ]


def test_a_recorded_click_is_dead_by_the_time_of_its_chunk_not_of_its_digest() -> None:
    log = Log()
    log.digest(recorded_click(0), at=50_000, chunk_at=1_000)
    log.digest_tick(at=1_000 + SETTLE_MS + GRACE_MS + 1)
    (found,) = fold(log.records).findings
    assert (found["kind"], found["timestamp"], found["component"]) == ("dead_click", T0, "cart")


def test_a_structured_answer_of_the_same_session_keeps_a_recorded_click_alive() -> None:
    log = Log()
    log.digest(recorded_click(0), at=1_000)
    log.events({"t": 800, "event_type": "network"}, at=9_000)
    log.digest_tick(at=60_000)
    assert fold(log.records).findings == []


def test_a_click_told_by_both_is_judged_once() -> None:
    log = Log()
    log.events(*(click(300 * n + 20) for n in range(2)), at=1_000)
    log.digest(recorded_click(0), recorded_click(300), Change(t=T0 + 310), at=3_000)
    log.digest_tick(at=60_000)
    assert fold(log.records).findings == []


def test_a_structured_error_is_told_at_once_and_makes_its_click_an_error_click_later() -> None:
    log = Log()
    log.events(click(0), {"t": 500, "event_type": "error", "error_message": "boom", "id": "e-1"}, at=1_000)
    (error,) = fold(log.records).findings
    assert (error["kind"], error["event_row"], error["timestamp"]) == ("error", False, T0 + 500)
    assert error["id"] == finding_id(project_id=PROJECT, session_id=SESSION, kind="error", trigger="e-1")
    log.digest_tick(at=60_000)
    assert [f["kind"] for f in fold(log.records).findings] == ["error", "error_click"]


def test_an_error_of_a_recording_alone_gets_a_row() -> None:
    log = Log()
    log.digest(ScriptError(t=T0, message="boom"), at=1_000)
    log.digest_tick(at=60_000)
    (error,) = fold(log.records).findings
    assert (error["kind"], error["event_row"]) == ("error", True)


def test_the_close_judges_what_is_open_and_sends_the_last_snapshot_and_the_jobs() -> None:
    log = Log()
    log.events(
        {"t": 0, "event_type": "pageview", "page_url": "https://a/p", "metadata": {"referrer": "https://g/"}},
        *rage(1_000),
        {"t": 2_500, "event_type": "error", "error_message": "boom"},
        at=3_000,
        user_agent=UA,
    )
    last = log.digest_tick(at=3_000 + GAP_MS + 1)
    told = fold(log.records)
    assert [f["kind"] for f in told.findings] == ["error", "error_click", "rage_click"]
    (snapshot,) = told.snapshots
    assert (snapshot["closed"], snapshot["version"], snapshot["life"]) == (True, last.offset, 0)
    assert [(job["task_type"], job["priority"]) for job in told.jobs] == [
        ("session_summary", 3),
        ("root_cause", 3),
        ("code_fix", 4),
    ]
    assert told.jobs[0]["id"] == ai_job_id(
        project_id=PROJECT, session_id=SESSION, task_type="session_summary", life=0, close=1
    )
    assert told.jobs[0]["input_data"] == {
        "frustration_score": 73,
        "findings": {"error": 1, "error_click": 1, "rage_click": 1},
        "started_at": T0,
        "duration_ms": 2_500,
        "device_type": "mobile",
        "browser": "Mobile Safari",
        "page_count": 1,
        "timeline": [
            {"at_ms": 0, "page": "https://a/p"},
            {"at_ms": 1_000, "finding": "rage_click", "page": "https://a/p", "what": "Buy"},
            {"at_ms": 1_900, "finding": "error_click", "page": "https://a/p", "what": "boom"},
            {"at_ms": 2_500, "finding": "error", "page": "", "what": "boom"},
        ],
    }


def test_a_session_without_findings_asks_for_no_job() -> None:
    log = Log()
    log.events(click(0), at=1_000)
    log.digest_tick(at=2_000 + GAP_MS)
    told = fold(log.records)
    assert (told.findings, told.jobs, len(told.snapshots)) == ([], [], 1)


def test_a_tick_reports_a_changed_session_once() -> None:
    log = Log()
    first = log.events(click(0), at=1_000)
    log.tick(at=2_000)
    log.tick(at=3_000)
    assert [(s["version"], s["closed"]) for s in fold(log.records).snapshots] == [(first.offset, False)]


def test_a_snapshot_is_the_whole_session() -> None:
    log = Log()
    log.events(
        {
            "t": 100,
            "event_type": "pageview",
            "page_url": "https://a/p?x=1",
            "metadata": {"referrer": "https://www.google.com/"},
        },
        {"t": 9_000, "event_type": "pageview", "page_url": "https://a/q", "metadata": {"referrer": "https://a/p?x=1"}},
        at=10_000,
        visitor_id="visitor",
        ip="198.51.100.7",
        user_agent=UA,
        sent_at=T0 + 9_900,
        context={"screen_resolution": "390x844", "device_fingerprint": "f", "custom_properties": {"plan": "pro"}},
    )
    log.digest(
        PageView(t=T0 + 90, url="https://a/p?x=1"), at=11_000, first=T0 + 50, last=T0 + 10_500, visitor_id="other"
    )
    log.tick(at=12_000)
    (snapshot,) = fold(log.records).snapshots
    assert snapshot == {
        "id": session_row_id(PROJECT, SESSION),
        "project_id": PROJECT,
        "session_id": SESSION,
        "version": 1,
        "life": 0,
        "started_at": T0 + 50,
        "ended_at": T0 + 10_500,
        "duration_ms": 10_450,
        "closed": False,
        "visitor_id": "visitor",
        "user_agent": UA,
        "device_type": "mobile",
        "browser": "Mobile Safari",
        "os": "iOS",
        "is_bot": False,
        "screen_resolution": "390x844",
        "ip_address": "198.51.100.7",
        "country_code": None,
        "city": None,
        "geolocation": None,
        "referrer": "https://www.google.com/",
        "landing_page": "https://a/p?x=1",
        "page_count": 2,
        "pages_visited": ["https://a/p?x=1", "https://a/q"],
        "custom_properties": {"plan": "pro"},
        "clock_skew_ms": 100,
        "recording": {
            "start_time": T0 + 50,
            "end_time": T0 + 10_500,
            "duration_ms": 10_450,
            "event_count": 10,
            "page_count": 1,
            "pages_visited": ["https://a/p?x=1"],
            "device_fingerprint": "f",
        },
        "v": 1,
    }


def test_late_data_reopens_the_session_as_the_next_version_of_the_same_life() -> None:
    log = Log()
    log.events(*rage(), at=1_000)
    log.digest_tick(at=1_001 + GAP_MS)
    late = log.events({"t": 5_000, "event_type": "scroll"}, at=10_000 + GAP_MS)
    log.tick(at=11_000 + GAP_MS)
    last = log.digest_tick(at=10_001 + 2 * GAP_MS)
    told = fold(log.records)
    assert [(s["version"], s["closed"], s["life"], s["ended_at"] - T0) for s in told.snapshots] == [
        (1, True, 0, 900),
        (late.offset, False, 0, 5_000),
        (last.offset, True, 0, 5_000),
    ]


def test_a_second_close_asks_for_jobs_only_if_there_is_more_to_find() -> None:
    log = Log()
    log.events(*rage(), at=1_000)
    log.digest_tick(at=1_001 + GAP_MS)
    log.events({"t": 5_000, "event_type": "scroll"}, at=10_000 + GAP_MS)
    log.digest_tick(at=10_001 + 2 * GAP_MS)
    assert len(fold(log.records).jobs) == 1
    log.events(*rage(2 * GAP_MS), at=2 * GAP_MS + 20_000)
    log.digest_tick(at=4 * GAP_MS)
    closes = [job["id"] for job in fold(log.records).jobs if job["task_type"] == "session_summary"]
    assert closes == [
        ai_job_id(project_id=PROJECT, session_id=SESSION, task_type="session_summary", life=0, close=close)
        for close in (1, 3)
    ]


def test_what_comes_again_after_the_close_is_not_judged_again() -> None:
    log = Log()
    events = [event | {"id": f"id-{n}"} for n, event in enumerate(rage())]
    log.events(*events, at=1_000)
    log.digest_tick(at=1_001 + GAP_MS)
    log.events(*events, at=2_000 + GAP_MS)
    log.digest_tick(at=2_001 + 2 * GAP_MS)
    assert len(fold(log.records).findings) == 1


def test_a_session_that_returns_after_its_residue_is_a_new_life() -> None:
    log = Log()
    log.events(click(0), at=1_000)
    log.digest_tick(at=1_001 + GAP_MS)
    log.digest_tick(at=2_000 + GAP_MS + DAY_MS)
    back = log.events(click(DAY_MS), at=3_000 + GAP_MS + DAY_MS)
    log.tick(at=4_000 + GAP_MS + DAY_MS)
    snapshot = fold(log.records).snapshots[-1]
    assert (snapshot["life"], snapshot["started_at"]) == (back.offset, T0 + DAY_MS)


def test_a_repeated_request_counts_once() -> None:
    log = Log()
    events = [
        *(click(300 * n, id=f"c{n}") for n in range(2)),
        {"t": 700, "event_type": "error", "error_message": "boom", "id": "e"},
        {"t": 800, "event_type": "pageview", "page_url": "https://a/p", "id": "p"},
    ]
    log.events(*events, at=1_000)
    log.events(*events, at=2_000)
    log.tick(at=3_000)
    log.digest_tick(at=60_000)
    told = fold(log.records)
    assert [f["kind"] for f in told.findings] == ["error", "error_click"]
    assert told.snapshots[0]["page_count"] == 1


def test_an_sdk_that_sends_twice_under_new_ids_counts_once() -> None:
    log = Log()
    log.events(click(0), click(300), at=1_000)
    log.events(click(0), click(300), at=1_500)
    log.digest_tick(at=60_000)
    assert fold(log.records).findings == []


def test_an_event_more_than_ten_minutes_before_the_newest_is_stored_but_not_judged() -> None:
    for late, kinds in ((600_000, []), (599_000, ["rage_click"])):
        log = Log()
        log.events({"t": late + 900, "event_type": "scroll"}, at=late + 1_000)
        log.events(*rage(), at=late + 2_000)
        log.digest_tick(at=late + 60_000)
        told = fold(log.records)
        assert [f["kind"] for f in told.findings] == kinds
        assert told.snapshots[0]["started_at"] == T0


def test_a_server_whose_clock_is_ahead_does_not_make_the_recording_late() -> None:
    log = Log()
    log.events({"t": 3_600_000, "event_type": "custom"}, at=3_600_000)
    log.digest(recorded_click(3_000_000 - 10_000), at=3_000_000)
    log.digest_tick(at=3_700_000)
    assert [f["kind"] for f in fold(log.records).findings] == ["dead_click"]


def test_of_restamped_events_only_what_needs_no_time_is_judged() -> None:
    log = Log()
    clicks = [click(5_000, x_position=10 * n) | {"restamped": True} for n in range(5)]
    log.events(*clicks, {"t": 5_000, "event_type": "error", "error_message": "boom", "restamped": True}, at=5_000)
    log.digest_tick(at=60_000)
    assert [f["kind"] for f in fold(log.records).findings] == ["error"]


DERIVED_ID = f"{T0 + 700_000:012x}"[:8] + "-" + f"{T0 + 700_000:012x}"[8:] + "-8da5-9af0-c78a57139d09"
"""As the gateway makes it of an event that its client puts 700 s after T0."""


@pytest.mark.parametrize("name", [DERIVED_ID, "0190163d-8694-739b-aea5-966c26f8ad92"], ids=["derived", "own"])
@pytest.mark.parametrize("believed_first", [False, True])
def test_a_time_that_is_believed_in_one_try_and_not_in_another_makes_no_second_event(
    name: str, *, believed_first: bool
) -> None:
    error = {"id": name, "event_type": "error", "error_message": "boom"}
    tries = [{"t": 0, "restamped": True} | error, {"t": 700_000} | error]
    log = Log()
    for at, one in zip((0, 100_000), reversed(tries) if believed_first else tries, strict=True):
        log.events(one, at=at)
    log.digest_tick(at=200_000)
    assert [f["kind"] for f in fold(log.records).findings] == ["error"]


def test_errors_whose_clock_stands_are_told_apart_by_their_ids() -> None:
    log = Log()
    for number in range(2):
        name = f"00000000-0001-8da5-9af0-c78a57139d0{number}"
        log.events({"id": name, "restamped": True, "event_type": "error", "error_message": "boom"}, at=number)
    assert len({f["id"] for f in fold(log.records).findings}) == 2


VIEW = {"id": "view", "t": -900, "event_type": "pageview", "page_url": "https://a/p"}
VITAL = {"id": "vital", "event_type": "web_vital", "event_name": "LCP", "page_url": "https://a/p"} | {
    "metadata": {"value": 9_000}
}


def slow_loads_of_two_tries(*again: dict[str, Any]) -> set[tuple[str, int]]:
    """Return the rows of a request, and of what is sent again once its session is forgotten."""
    log = Log()
    log.events(VIEW, VITAL, at=1_000)
    log.digest_tick(at=GAP_MS + 2_000)
    log.digest_tick(at=GAP_MS + DAY_MS + 10_000)
    log.events(*again, at=2 * DAY_MS)
    log.digest_tick(at=2 * DAY_MS + 60_000)
    found = fold(log.records).findings
    assert [f["kind"] for f in found] == ["slow_load", "slow_load"]
    return {(f["id"], f["timestamp"]) for f in found}


def test_a_request_that_is_sent_again_when_its_session_is_forgotten_has_the_slow_load_that_it_had() -> None:
    assert len(slow_loads_of_two_tries(VIEW, VITAL)) == 1


@pytest.mark.parametrize(
    "again", [[VITAL], [one | {"t": 2 * DAY_MS, "restamped": True} for one in (VIEW, VITAL)]], ids=["view", "time"]
)
def test_without_its_page_view_or_its_own_time_it_has_another(again: list[dict[str, Any]]) -> None:
    assert len(slow_loads_of_two_tries(*again)) == 2


def test_a_recorded_time_out_of_all_plausibility_is_not_believed() -> None:
    log = Log()
    log.digest(recorded_click(-8 * DAY_MS), recorded_click(700_000), at=0, first=1, last=T0 * 1000)
    log.tick(at=1)
    log.digest_tick(at=60_000)
    told = fold(log.records)
    assert told.findings == []
    assert (told.snapshots[0]["started_at"], told.snapshots[0]["ended_at"]) == (T0, T0)


def test_a_session_keeps_the_settings_of_its_first_record() -> None:
    settings = {"version": 2, "session_gap_ms": 5_000, "detectors": {"rage_click": {"min_clicks": 5}}}
    log = Log()
    log.events({"t": 0, "event_type": "scroll"}, at=100, settings=settings)
    log.events(*rage(100), at=1_000)
    log.digest_tick(at=6_001)
    told = fold(log.records)
    assert (told.findings, [s["closed"] for s in told.snapshots]) == ([], [True])


def test_settings_that_this_version_does_not_know_keep_their_defaults() -> None:
    settings = {"version": 2, "detectors": {"rage_click": {"min_clicks": "many"}, "telepathy": {"depth": 3}}}
    log = Log()
    log.events(*rage(), at=1_000, settings=settings)
    log.digest_tick(at=60_000)
    assert len(fold(log.records).findings) == 1


def test_a_blank_digest_moves_nothing_but_the_life() -> None:
    log = Log()
    log.digest(at=1_000, event_count=0)
    log.tick(at=2_000)
    (snapshot,) = fold(log.records).snapshots
    assert (snapshot["recording"], snapshot["started_at"], snapshot["duration_ms"]) == (None, T0 + 1_000, 0)


def test_a_signal_of_a_newer_digest_is_passed_over() -> None:
    log = Log()
    log.digest(at=1_000, signals=[{"k": "telepathy", "t": T0}, {"k": "click", "t": T0, "x": 1, "aura": "red"}])
    log.digest_tick(at=60_000)
    told = fold(log.records)
    assert ([f["kind"] for f in told.findings], told.parked) == (["dead_click"], [])


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("events", b"{", Reason.RECORD_MALFORMED),
        ("events", b"[]", Reason.RECORD_MALFORMED),
        ("events", b'{"v":2}', Reason.SCHEMA_NEWER),
        ("events", b'{"v":1}', Reason.RECORD_MALFORMED),
        ("events", b'{"v":1,"settings":{},"received_at":1,"events":[1]}', Reason.RECORD_MALFORMED),
        ("events", b'{"v":1,"settings":{},"received_at":1,"events":[{"id":"a"}]}', Reason.RECORD_MALFORMED),
        ("events", b'{"v":1,"settings":{},"received_at":"1","events":[]}', Reason.RECORD_MALFORMED),
        ("events", b'{"v":1,"settings":null,"received_at":1,"events":[]}', Reason.RECORD_MALFORMED),
        ("digest", b"{", Reason.RECORD_MALFORMED),
        ("digest", b'{"v":1,"src":"1"}', Reason.RECORD_MALFORMED),
        ("digest", b'{"v":1,"src":1}', Reason.RECORD_MALFORMED),
        ("digest_tick", b"{}", Reason.RECORD_MALFORMED),
        ("digest_tick", b'{"v":1,"src":1}', Reason.RECORD_MALFORMED),
        ("digest_tick", b'{"v":9,"src":1,"at":1}', Reason.SCHEMA_NEWER),
    ],
)
def test_a_record_that_cannot_be_read_is_parked_with_its_reason(kind: str, value: bytes, reason: Reason) -> None:
    log = Log()
    log.add(kind, value, at=0)
    log.tick(at=1)
    told = fold(log.records)
    assert ([p.reason for p in told.parked], told.snapshots) == ([reason], [])


def test_a_refused_record_leaves_the_session_as_it_was() -> None:
    log = Log()
    log.events(*rage(), at=1_000)
    log.add("events", orjson.dumps({"v": 1, "settings": {}, "received_at": 1, "events": [{}]}), at=1_100)
    log.digest_tick(at=60_000)
    told = fold(log.records)
    assert ([p.record.offset for p in told.parked], len(told.findings)) == ([1], 1)


def test_a_key_that_names_no_session_is_malformed() -> None:
    log = Log()
    log.add("events", orjson.dumps({"v": 1, "settings": {}, "received_at": 1, "events": []}), at=0, key=b"\xff")
    assert [p.reason for p in fold(log.records).parked] == [Reason.RECORD_MALFORMED]


def test_the_lifetime_is_that_of_the_project_or_the_deployment() -> None:
    log = Log()
    record = log.events(at=0)
    own = log.events(at=0, settings={"version": 1, "session_gap_ms": 7_000})
    logic = AnalyzeLogic(gap_ms=9_000, residue_ms=100)
    for given, gap_ms in ((record, 9_000), (own, 7_000)):
        state = logic.open(KEY, given)
        logic.apply(state, KEY, given, Emitted())
        lifetime = logic.lifetime(logic.decode(logic.encode(state)))
        assert (lifetime.gap_ms, lifetime.residue_ms) == (gap_ms, 100)


def test_an_answer_in_the_middle_of_the_grace_is_in_time() -> None:
    log = Log()
    log.digest(recorded_click(0), at=1_000)
    log.digest_tick(at=12_000)
    log.digest(Change(t=T0 + 500, what=ChangeKind.DOM), at=12_001)
    log.digest_tick(at=60_000)
    assert fold(log.records).findings == []
