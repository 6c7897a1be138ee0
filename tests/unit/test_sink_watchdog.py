"""When a sink that is alive stands still."""

import os
from collections.abc import Mapping

import pytest

from sinks import app
from sinks.commit.watchdog import Judgement, Standing

PATIENCE_S = 60.0


def standstills(looks: Mapping[float, tuple[Standing, Mapping[int, int]]]) -> list[str | None]:
    judgement, found = Judgement(), []
    for now_s, (standing, ends) in looks.items():
        judgement = judgement.look(standing, ends, now_s=now_s)
        found.append(judgement.standstill(now_s=now_s, patience_s=PATIENCE_S))
    return found


def test_a_sink_that_stores_is_left_alone() -> None:
    looks = {now: (Standing({0: int(now)}, 0), {0: 5_000}) for now in (0.0, 61.0, 122.0)}
    assert standstills(looks) == [None] * 3


def test_a_sink_at_the_end_of_its_log_may_stand_for_ever() -> None:
    assert standstills({now: (Standing({0: 7}, 0), {0: 7}) for now in (0.0, 61.0, 1_000.0)}) == [None] * 3


def test_a_sink_without_partitions_is_left_alone() -> None:
    assert standstills({now: (Standing({}, 0), {}) for now in (0.0, 61.0)}) == [None] * 2


def test_one_partition_that_stands_while_records_wait_is_named_after_the_patience() -> None:
    looks = {now: (Standing({0: int(now), 1: 7}, 0), {0: 5_000, 1: 9}) for now in (0.0, 60.0, 60.5)}
    assert standstills(looks) == [None, None, "stands at 7 in partition 1 while records wait"]


def test_a_partition_that_is_not_taken_over_stands_at_its_beginning() -> None:
    looks = {now: (Standing({3: 0}, 0), {3: 1}) for now in (0.0, 61.0)}
    assert standstills(looks)[-1] == "stands at 0 in partition 3 while records wait"


def test_the_wait_counts_from_the_first_look_that_saw_a_record_wait() -> None:
    looks = {now: (Standing({0: 7}, 0), {0: 7 if now < 100 else 8}) for now in (0.0, 100.0, 160.0, 161.0)}
    assert [reason is not None for reason in standstills(looks)] == [False, False, False, True]


def test_tries_that_fail_say_what_is_waited_for() -> None:
    looks = {now: (Standing({0: 7}, int(now)), {0: 9}) for now in (0.0, 61.0, 122.0)}
    assert standstills(looks) == [None] * 3


def test_a_broker_that_does_not_answer_forgives_what_stood_still() -> None:
    looks = {now: (Standing({0: 7}, 0), {} if now == 50.0 else {0: 9}) for now in (0.0, 50.0, 61.0, 120.0)}
    assert standstills(looks) == [None] * 4


def test_a_rebalance_forgives_what_stood_still() -> None:
    looks = {now: (Standing({} if now == 50.0 else {0: 7}, 0), {0: 9}) for now in (0.0, 50.0, 61.0, 120.0)}
    assert standstills(looks) == [None] * 4


def test_a_sink_that_stands_still_asks_for_a_restart_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    app.end_stuck("events", "stands at 7 in partition 1 while records wait")
    assert codes == [75]
