"""The recorded sessions of the demo: shifted to now, complete, and sent in order."""

import asyncio
import re
from collections import Counter
from typing import Any

import orjson
import pytest

from deploy.demo import system
from deploy.demo.recorded import RecordedSession, load_sessions, parse_session, requests_of, shifted
from deploy.load.request import SessionRequest

NOW_MS = 1_800_000_000_000
SESSION = RecordedSession(
    name="rage",
    visitor_id="v1",
    user_agent="agent",
    context={"screen_resolution": "400x800"},
    duration_ms=9_000,
    requests=(
        {"window_id": "w", "seq": 0, "events": [{"type": 4, "timestamp": 0, "data": {}}]},
        {"events": [{"event_type": "click", "timestamp": 9_000}]},
    ),
)


def body_of(request: SessionRequest) -> Any:
    return orjson.loads(request.render())


@pytest.fixture(scope="module")
def sessions() -> list[RecordedSession]:
    return load_sessions()


def test_a_session_ends_now_under_an_id_of_this_run() -> None:
    chunk, batch = requests_of(SESSION, suffix="1f2e", ends_at_ms=NOW_MS)
    assert body_of(chunk) == [{"type": 4, "timestamp": NOW_MS - 9_000, "data": {}}]
    assert chunk.target == "/v1/recordings?session_id=rage-1f2e&window_id=w&seq=0&visitor_id=v1"
    assert body_of(batch) == {
        "session_id": "rage-1f2e",
        "visitor_id": "v1",
        "sent_at": NOW_MS,
        "context": {"screen_resolution": "400x800"},
        "events": [{"event_type": "click", "timestamp": NOW_MS}],
    }
    assert (chunk.user_agent, chunk.event_count, batch.event_count) == ("agent", 1, 1)


def test_the_time_inside_a_custom_event_moves_and_offsets_within_a_mouse_move_stay() -> None:
    custom = {"type": 5, "timestamp": 20, "data": {"tag": "x", "payload": {"cache_timestamp": -400, "enabled": True}}}
    moves = {"type": 3, "timestamp": 30, "data": {"source": 1, "positions": [{"timeOffset": -50}]}}
    assert shifted(custom, 1_000) == {
        "type": 5,
        "timestamp": 1_020,
        "data": {"tag": "x", "payload": {"cache_timestamp": 600, "enabled": True}},
    }
    assert shifted(moves, 1_000) == {**moves, "timestamp": 1_030}


def test_what_is_compressed_inside_an_event_is_untouched() -> None:
    packed = {"type": 2, "timestamp": 10, "cv": "2024-10", "data": "\x1f\x8b\x00"}
    assert shifted(packed, 5) == {**packed, "timestamp": 15}


def test_a_line_of_the_data_is_a_session() -> None:
    line = orjson.dumps({**{name: getattr(SESSION, name) for name in SESSION.__slots__}})
    assert parse_session(line) == SESSION


def test_the_data_holds_what_the_demo_is_to_show(sessions: list[RecordedSession]) -> None:
    kinds = Counter(
        event["event_type"] for s in sessions for r in s.requests if "seq" not in r for event in r["events"]
    )
    assert len({session.name for session in sessions}) == len(sessions) >= 50
    assert set(kinds) == {"click", "pageview", "page_leave", "error", "web_vital"}
    assert kinds["click"] > 200
    assert len({session.visitor_id for session in sessions}) == len(sessions)


def test_no_time_of_the_data_lies_outside_its_session(sessions: list[RecordedSession]) -> None:
    for session in sessions:
        times = [event["timestamp"] for request in session.requests for event in request["events"]]
        assert (min(times), max(times)) == (0, session.duration_ms)


def test_no_absolute_time_is_left_in_the_data(sessions: list[RecordedSession]) -> None:
    for session in sessions:
        for request in session.requests:
            for event in request["events"]:
                if "cv" not in event:
                    assert not re.search(rb"\b1[6-9]\d{11}\b|\b20\d\d-\d\d-\d\dT", orjson.dumps(event)), event


def test_chunks_of_each_window_count_from_0(sessions: list[RecordedSession]) -> None:
    for session in sessions:
        seen: Counter[str] = Counter()
        for request in session.requests:
            if "seq" in request:
                assert request["seq"] == seen[request["window_id"]]
                seen[request["window_id"]] += 1


def test_the_demo_has_servers_of_its_own_whatever_is_set() -> None:
    environ = {
        "PATH": "/bin",
        "TRACEFLOW_DATABASE_URL": "postgresql://someone",
        "TRACEFLOW_TOPIC_PREFIX": "x.",
        "TRACEFLOW_JAVA": "/java",
    }
    assert system.demo_environment(environ) == {
        "PATH": "/bin",
        "TRACEFLOW_JAVA": "/java",
        "TRACEFLOW_STAGE_SESSION_GAP_MS": "4000",
        "TRACEFLOW_STAGE_FLUSH_GRACE_MS": "500",
    }


def test_sessions_are_sent_side_by_side_and_each_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.demo import replay as module
    from deploy.load.ledger import Ledger
    from deploy.load.request import GatewayAddress

    sent: list[str] = []

    class Recorder:
        def __init__(self, *_: object, **__: object) -> None: ...

        async def deliver(self, request: SessionRequest) -> None:
            sent.append(request.render().decode())
            await asyncio.sleep(0)

        def close(self) -> None: ...

    monkeypatch.setattr(module, "Client", Recorder)
    sessions = [[SessionRequest(name, "agent", f"{name}{n}".encode, 1) for n in range(3)] for name in ("a", "b", "c")]
    asyncio.run(module.replay(sessions, address=GatewayAddress("h", 1), key="k", ledger=Ledger("p")))
    assert sent[:3] == ["a0", "b0", "c0"]
    assert all([s for s in sent if s[0] == name] == [f"{name}{n}" for n in range(3)] for name in "abc")
