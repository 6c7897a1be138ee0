"""A load at a rate: never more than asked for, each session in order, and figures that are counted right."""

import asyncio
from collections import defaultdict
from dataclasses import replace

import orjson
import pytest

from deploy.load import drive as module
from deploy.load.delivery import Tally
from deploy.load.drive import Shape, drive
from deploy.load.generator import Load
from deploy.load.ledger import Acknowledged, Ledger, Refused
from deploy.load.report import LoadReport, summarise
from deploy.load.request import ChunkPlace, GatewayAddress, SessionRequest


class Recorder:
    """Takes every request at once."""

    sent: list[SessionRequest]

    def __init__(self, *_: object, **__: object) -> None: ...

    async def deliver(self, request: SessionRequest) -> None:
        self.sent.append(request)
        await asyncio.sleep(0)

    def close(self) -> None: ...


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[SessionRequest]:
    monkeypatch.setattr(Recorder, "sent", [], raising=False)
    monkeypatch.setattr(module, "Client", Recorder)
    return Recorder.sent


def send(shape: Shape) -> None:
    load = Load(seed=1, name="a", visits=8)
    asyncio.run(drive(load, shape, address=GatewayAddress("h", 1), key="k", ledger=Ledger("p")))


def test_no_more_is_sent_than_was_asked_for(sent: list[SessionRequest]) -> None:
    send(Shape(rate=2_000, seconds=0.3, sessions=10))
    events = sum(request.event_count for request in sent if request.chunk is None)
    # each of ten workers may end with one whole flush beyond its share
    assert 0 < events <= 2_000 * 0.3 + 10 * 20


def test_each_session_is_sent_in_order_and_followed_by_a_new_one(sent: list[SessionRequest]) -> None:
    send(Shape(rate=40_000, seconds=0.3, sessions=3))
    times: defaultdict[str, list[int]] = defaultdict(list)
    seqs: defaultdict[str, list[int]] = defaultdict(list)
    for request in sent:
        if request.chunk is None:
            times[request.session_id] += [event["timestamp"] for event in orjson.loads(request.render())["events"]]
        else:
            seqs[request.session_id].append(request.chunk.seq)
    assert len(times) > 3
    assert all(found == sorted(found) for found in times.values())
    assert all(found == list(range(len(found))) for found in seqs.values())


def test_more_sessions_than_workers_are_all_open_at_once(sent: list[SessionRequest]) -> None:
    send(Shape(rate=20_000, seconds=0.2, sessions=70))
    assert {request.session_id for request in sent} >= {f"a-{number}" for number in range(1, 60)}


def test_a_report_counts_what_the_ledger_knows() -> None:
    batch = SessionRequest("s", "agent", bytes, 20)
    chunk = replace(batch, event_count=9, chunk=ChunkPlace("w", 0, "v"))
    ledger = Ledger(
        "p",
        acknowledged=[
            Acknowledged(batch, frozenset({3}), quota_limited=False),
            Acknowledged(batch, frozenset(), quota_limited=True),
            Acknowledged(chunk, frozenset(), quota_limited=False),
        ],
        refused=[Refused(batch, 413, "body_too_large")],
        unknown=[batch, chunk],
    )
    tally = Tally(latencies_s=[0.004, 0.001, 0.003, 0.002], retries=5, sent_bytes=1_234_567)
    assert summarise(ledger, tally, wall_s=2.0, cpu_s=0.5, asked_rate=10.0) == LoadReport(
        wall_s=2.0,
        cpu_s=0.5,
        asked_rate=10.0,
        rate=9.5,
        events=19,
        chunks=1,
        requests=3,
        rejected_events=1,
        refused_requests=1,
        unknown_requests=2,
        retries=5,
        sent_mb=1.2,
        latency_ms={"p50": 3.0, "p95": 4.0, "p99": 4.0, "max": 4.0},
    )


def test_a_load_that_was_never_answered_has_no_latency() -> None:
    report = summarise(Ledger("p"), Tally(), wall_s=1.0, cpu_s=0.0, asked_rate=1.0)
    assert (report.rate, report.latency_ms["p50"]) == (0.0, 0.0)
