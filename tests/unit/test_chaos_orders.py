"""An order strikes one process of a service, at the step that it names, once."""

import os
import signal
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

import pytest

from tests.chaos.orders import IN_THE_MIDDLE, AtSteps, Orders


class Step(Enum):
    """Of some work; HANDED is a step of a spool."""

    CUT = auto()
    SENT = auto()
    HANDED = auto()


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path / "orders", ("sink", "analyze"))


@pytest.fixture
def struck() -> Iterator[list[int]]:
    """Collect the signals that this process sends itself."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR1, before)


def test_an_order_strikes_at_its_step_once_and_tells_whom(orders: Orders, struck: list[int]) -> None:
    at_steps = AtSteps(orders.folder("sink"))
    order = orders.give("sink", "SENT", signal.SIGUSR1)
    at_steps(Step.CUT)
    assert (struck, order.taken_by) == ([], None)
    at_steps(Step.SENT)
    at_steps(Step.SENT)
    assert (struck, order.taken_by) == ([signal.SIGUSR1], os.getpid())


def test_only_the_first_of_several_processes_takes_it(orders: Orders, struck: list[int]) -> None:
    first, second = AtSteps(orders.folder("sink")), AtSteps(orders.folder("sink"))
    orders.give("sink", "SENT", signal.SIGUSR1)
    first(Step.SENT)
    second(Step.SENT)
    assert len(struck) == 1


def test_an_order_to_another_service_is_none(orders: Orders, struck: list[int]) -> None:
    order = orders.give("analyze", "SENT", signal.SIGUSR1)
    AtSteps(orders.folder("sink"))(Step.SENT)
    assert (struck, order.taken_by) == ([], None)


@pytest.mark.usefixtures("struck")
def test_orders_to_one_service_wait_side_by_side(orders: Orders) -> None:
    cut, sent = (orders.give("sink", step.name, signal.SIGUSR1) for step in (Step.CUT, Step.SENT))
    AtSteps(orders.folder("sink"))(Step.SENT)
    assert (cut.taken_by, sent.taken_by) == (None, os.getpid())


def test_what_is_withdrawn_does_not_strike_and_what_was_taken_cannot_be_withdrawn(
    orders: Orders, struck: list[int]
) -> None:
    at_steps = AtSteps(orders.folder("sink"))
    withdrawn, taken = (orders.give("sink", step.name, signal.SIGUSR1) for step in (Step.CUT, Step.SENT))
    assert withdrawn.withdraw()
    at_steps(Step.CUT)
    assert struck == []
    at_steps(Step.SENT)
    assert not taken.withdraw()
    assert withdrawn.taken_by is None


def test_in_the_middle_of_a_segment_some_pass_first_and_are_counted_from_the_order_on(
    orders: Orders, struck: list[int]
) -> None:
    at_steps = AtSteps(orders.folder("sink"))
    at_steps(Step.HANDED)
    orders.give("sink", "HANDED", signal.SIGUSR1)
    for _ in range(IN_THE_MIDDLE["HANDED"] - 1):
        at_steps(Step.HANDED)
    assert struck == []
    at_steps(Step.HANDED)
    assert struck == [signal.SIGUSR1]
