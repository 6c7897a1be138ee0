"""The steps that both routes take, on fakes of producer and projects."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from adapters.kafka_producer import AckingProducer, DeliveryFailed, ProducerHealth
from adapters.project_snapshot import ProjectsUnavailable, UnknownKey
from ingest_gateway.admission.client_address import ProxyTrust
from ingest_gateway.admission.records import Outgoing
from ingest_gateway.admission.refusal import Refusal
from ingest_gateway.api.request import GatewayRequest
from ingest_gateway.api.request_flow import Admitted, Dropped, Lane, RequestFlow
from ingest_gateway.limits.backpressure import Backpressure, BackpressureLimits
from ingest_gateway.limits.held_bodies import HeldBodies
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.spool.queue import SpoolFull
from schemas.projects import Project, ProjectSettings
from schemas.reasons import Reason


class FakeProjects:
    """Finds what it was given."""

    def __init__(self, answer: Project | Exception) -> None:
        self._answer = answer

    async def find(self, key: str) -> Project:  # noqa: ARG002
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def project(name: str = "p", **settings: Any) -> Project:
    quota_limited = frozenset(settings.pop("quota_limited", ()))
    return Project(id=name, settings_version=1, settings=ProjectSettings(**settings), quota_limited=quota_limited)


def flow(answer: Project | Exception) -> RequestFlow:
    return RequestFlow(FakeProjects(answer), GatewayMetrics(), ProxyTrust(), HeldBodies(1_000), "t.")


def request(**headers: str) -> GatewayRequest:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": named,
        "client": ("192.0.2.7", 1),
    }
    return GatewayRequest(scope, receive)


def reason(step: Coroutine[Any, Any, object]) -> Reason:
    with pytest.raises(Refusal) as raised:
        asyncio.run(step)
    return raised.value.reason


@pytest.mark.parametrize(
    ("answer", "key", "expected"),
    [
        (project(), None, Reason.KEY_MISSING),
        (project(), "", Reason.KEY_MISSING),
        (project(), "k" * 201, Reason.KEY_UNKNOWN),
        (UnknownKey(), "k", Reason.KEY_UNKNOWN),
        (ProjectsUnavailable(), "k", Reason.PROJECTS_UNAVAILABLE),
        (project(origins=("https://a.example",)), "k", Reason.ORIGIN_NOT_ALLOWED),
    ],
)
def test_who_may_not_send_is_told_why(answer: Project | Exception, key: str | None, expected: Reason) -> None:
    assert reason(flow(answer).admit(request(origin="https://b.example"), key, "events")) is expected


def test_a_quota_that_is_used_up_drops_politely_what_it_is_used_up_for() -> None:
    for used_up in (["recordings"], ["events", "recordings"]):
        limited = project(quota_limited=used_up)
        assert asyncio.run(flow(limited).admit(request(), "k", "recordings")) == Dropped("quota_limited")
    assert asyncio.run(flow(limited).admit(request(), "k", "events")) == Dropped("quota_limited")
    recorded = project(quota_limited=["recordings"])
    assert asyncio.run(flow(recorded).admit(request(), "k", "events")) == Admitted(recorded, False)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("ignore", Admitted(project(privacy_signal="ignore"), False)),
        ("anonymise", Admitted(project(privacy_signal="anonymise"), True)),
        ("drop", Dropped("privacy_signal")),
    ],
)
def test_a_privacy_signal_does_what_the_project_says(policy: str, expected: Admitted | Dropped) -> None:
    assert asyncio.run(flow(project(privacy_signal=policy)).admit(request(sec_gpc="1"), "k", "events")) == expected


def test_a_project_over_its_rate_waits_until_its_debt_is_paid() -> None:
    limited = project(events_per_second=10)
    steps = flow(limited)
    assert asyncio.run(steps.admit(request(), "k", "events")) == Admitted(limited, False)
    steps.charge(limited, 100)
    with pytest.raises(Refusal) as raised:
        asyncio.run(steps.admit(request(), "k", "events"))
    assert raised.value.reason is Reason.RATE_LIMITED
    assert raised.value.retry_after_s == pytest.approx(8.1, abs=0.1)


def test_an_anonymous_request_has_no_address() -> None:
    steps = flow(project())
    assert steps.origin(request(user_agent="a"), Admitted(project(), False)).ip == "192.0.2.7"
    assert steps.origin(request(user_agent="a"), Admitted(project(), True)).ip is None


@pytest.mark.parametrize("code", [KafkaError._MSG_TIMED_OUT, KafkaError.NOT_ENOUGH_REPLICAS, None])
def test_a_log_that_does_not_take_a_request_closes_the_gate(code: int | None) -> None:
    error = DeliveryFailed(KafkaError(code) if code is not None else None, "full")
    gate = Backpressure(BackpressureLimits())
    assert reason(_await(error, gate)) is Reason.KAFKA_UNAVAILABLE
    assert gate.closed


def test_a_record_that_no_broker_would_take_is_our_bug_and_closes_nothing() -> None:
    gate = Backpressure(BackpressureLimits())
    with pytest.raises(DeliveryFailed):
        asyncio.run(_await(DeliveryFailed(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), "too large"), gate))
    assert not gate.closed


class FakeSpool:
    """Has room or not."""

    def __init__(self, *, room: bool) -> None:
        self.has_room = room

    def admit(self) -> bool:
        return self.has_room


@pytest.mark.parametrize(
    ("room", "against"),
    [(True, None), (False, "kafka_unavailable: events, and the spool is full or cannot be written")],
)
def test_a_lane_with_a_spool_is_ready_while_that_has_room_whatever_its_gate_says(
    room: bool, against: str | None
) -> None:
    gate = Backpressure(BackpressureLimits())
    gate.on_failure(now_s=0)
    assert lane(gate).against == "kafka_unavailable: events"
    assert lane(gate, FakeSpool(room=room)).against == against


def test_a_full_spool_refuses_before_a_body_is_read_and_what_did_not_fit_after() -> None:
    full = lane(Backpressure(BackpressureLimits()), FakeSpool(room=False))
    with pytest.raises(Refusal, match="the spool is full") as raised:
        flow(project()).check_gate(full)
    assert raised.value.reason is Reason.KAFKA_UNAVAILABLE
    assert reason(_await(SpoolFull(), Backpressure(BackpressureLimits()))) is Reason.KAFKA_UNAVAILABLE


def hold(steps: RequestFlow, on: Lane, name: str, requests: int, size: int) -> None:
    """Put requests on their way that nobody acknowledges."""
    for _ in range(requests):
        steps.send(on, project(name), [Outgoing("events", b"k", b"x" * size, [])])


class FakeProducer:
    """Never acknowledges; its queue is as full as it is told."""

    def __init__(self, *, fill: float) -> None:
        self._fill = fill

    def health(self) -> ProducerHealth:
        return ProducerHealth(queue_fill=self._fill, oldest_unacked_s=0.0, all_brokers_down=False)

    def send(self, _records: object) -> "asyncio.Future[None]":
        return asyncio.get_running_loop().create_future()


async def refused_projects(*, late_s: float = 0.0, fill: float = 0.0, size: int = 100) -> dict[str, Reason]:
    """Let a hot project hold fifty requests and another one two, and return whose next one is refused, and why."""
    steps, on = flow(project()), lane(Backpressure(BackpressureLimits()))
    on = replace(on, producer=cast(AckingProducer, FakeProducer(fill=fill)))
    for _ in range(5):
        steps.lateness.sample(late_s, now_s=time.monotonic())
    hold(steps, on, "hot", 50, size)
    hold(steps, on, "good", 2, size)
    refused = {}
    for name in ("hot", "good", "new"):
        try:
            await steps.check_share(on, project(name))
        except Refusal as refusal:
            refused[name] = refusal.reason
    return refused


def test_while_there_is_enough_for_all_a_hot_project_is_let_in() -> None:
    assert asyncio.run(refused_projects(late_s=0.04, fill=0.3, size=100_000)) == {}


def test_while_the_loop_is_late_the_project_that_holds_most_requests_waits() -> None:
    assert asyncio.run(refused_projects(late_s=0.06)) == {"hot": Reason.OVERLOADED}


def test_while_the_queue_fills_the_project_that_holds_most_bytes_waits() -> None:
    assert asyncio.run(refused_projects(fill=0.5, size=100_000)) == {"hot": Reason.OVERLOADED}
    assert asyncio.run(refused_projects(fill=0.5, size=100)) == {}


def lane(gate: Backpressure, spool: Any = None) -> Lane:
    producer: Any = None
    return Lane("events", producer, gate, GatewayMetrics().ack_seconds.labels("events"), spool)


async def _await(error: Exception, gate: Backpressure) -> None:
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sent.set_exception(error)
    await flow(project()).acknowledged(lane(gate), sent)
