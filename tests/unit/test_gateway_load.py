"""Rate limit, backpressure and held bodies: policies that are given the time."""

import pytest

from ingest_gateway.admission.refusal import Refusal
from ingest_gateway.limits.backpressure import Backpressure, BackpressureLimits
from ingest_gateway.limits.held_bodies import HeldBodies, HeldBody
from ingest_gateway.limits.rate_limit import TokenBucket
from schemas.reasons import Reason

# Rate limit


def test_a_burst_of_two_seconds_is_let_in_at_once() -> None:
    bucket = TokenBucket.full(100, now_s=0)
    bucket.charge(199)
    assert bucket.wait_s(100, now_s=0) == 0
    bucket.charge(1)
    assert bucket.wait_s(100, now_s=0) == pytest.approx(0.01)


def test_a_large_request_runs_into_debt_and_what_follows_waits() -> None:
    bucket = TokenBucket.full(10, now_s=0)
    assert bucket.wait_s(10, now_s=0) == 0
    bucket.charge(1_000)
    assert bucket.wait_s(10, now_s=0) == pytest.approx(98.1)
    assert bucket.wait_s(10, now_s=97) == pytest.approx(1.1)
    assert bucket.wait_s(10, now_s=98.1) == 0


def test_tokens_do_not_pile_up_beyond_a_burst() -> None:
    bucket = TokenBucket.full(10, now_s=0)
    assert bucket.wait_s(10, now_s=1_000) == 0
    bucket.charge(20)
    assert bucket.wait_s(10, now_s=1_000) > 0


def test_over_a_minute_the_rate_holds() -> None:
    bucket, accepted = TokenBucket.full(50, now_s=0), 0
    for tick in range(6_000):
        if not bucket.wait_s(50, now_s=tick / 100):
            bucket.charge(20)
            accepted += 20
    assert 50 * 60 <= accepted <= 50 * 62 + 20


def test_a_changed_rate_counts_from_the_next_request() -> None:
    bucket = TokenBucket.full(1_000, now_s=0)
    assert bucket.wait_s(10, now_s=0) == 0
    bucket.charge(20)
    assert bucket.wait_s(10, now_s=0) > 0


# Backpressure


def admitted(
    gate: Backpressure, now_s: float, *, fill: float = 0.0, unacked_s: float = 0.0, down: bool = False
) -> bool:
    return gate.admit(queue_fill=fill, oldest_unacked_s=unacked_s, brokers_down=down, now_s=now_s)


def test_a_healthy_log_takes_everything() -> None:
    gate = Backpressure(BackpressureLimits())
    assert all(admitted(gate, n / 1_000, fill=0.8, unacked_s=2.0) for n in range(100))
    assert gate.ready


def test_a_full_queue_refuses_and_opens_by_itself() -> None:
    gate = Backpressure(BackpressureLimits())
    assert not admitted(gate, 1, fill=0.81)
    assert admitted(gate, 1, fill=0.8)
    assert not gate.closed


@pytest.mark.parametrize("sign", [{"unacked_s": 2.1}, {"down": True}])
def test_a_bad_sign_lets_one_probe_a_second_through(sign: dict[str, float]) -> None:
    gate = Backpressure(BackpressureLimits())
    times = [10 + n / 10 for n in range(30)]
    assert [t for t in times if admitted(gate, t, **sign)] == [10, 11, 12]  # type: ignore[arg-type]
    assert gate.closed


def test_the_gate_stays_closed_after_the_sign_is_gone_until_something_is_acknowledged() -> None:
    gate = Backpressure(BackpressureLimits())
    assert admitted(gate, 10, unacked_s=5)
    assert not admitted(gate, 10.5)
    gate.on_ack()
    assert admitted(gate, 10.6)
    assert admitted(gate, 10.7)


def test_a_failed_request_closes_the_gate_until_the_next_probe() -> None:
    gate = Backpressure(BackpressureLimits())
    gate.on_failure(now_s=10)
    assert not admitted(gate, 10.9)
    assert admitted(gate, 11)
    gate.on_failure(now_s=16)
    assert not admitted(gate, 16.5)


def test_a_full_queue_does_not_spend_the_probe() -> None:
    gate = Backpressure(BackpressureLimits())
    gate.on_failure(now_s=10)
    assert not admitted(gate, 11, fill=0.9)
    assert admitted(gate, 11.1)


def test_a_closed_gate_is_ready_again_when_a_broker_answers_after_a_quiet_time() -> None:
    gate = Backpressure(BackpressureLimits())
    gate.on_failure(now_s=10)
    assert not gate.ready
    gate.on_reachable(now_s=19.9)
    assert not gate.ready
    gate.on_reachable(now_s=20)
    assert gate.ready
    assert gate.closed
    gate.on_failure(now_s=26)
    assert not gate.ready


# Held bodies


def test_bodies_are_held_up_to_the_limit_of_all_and_let_go() -> None:
    bodies = HeldBodies(100)
    with HeldBody(bodies) as first, HeldBody(bodies) as second:
        first.hold(60)
        second.hold(40)
        with pytest.raises(Refusal) as raised:
            first.hold(1)
        assert raised.value.reason is Reason.OVERLOADED
        assert bodies.size == 100
    assert bodies.size == 0
