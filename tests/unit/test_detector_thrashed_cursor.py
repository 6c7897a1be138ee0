"""Shaking the mouse: how often it turns, in what time, and how often it is told."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from schemas.signals import CursorTurn
from stream_processors.analyze.config import parse_detectors
from stream_processors.analyze.detectors.thrashed_cursor import (
    MAX_TURNS,
    ThrashedCursorConfig,
    ThrashedCursorDetector,
)
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

DUE = 30_000


def turn(t: int, axis: str = "x", window: str = "w") -> CursorTurn:
    return CursorTurn(t, axis=axis, x=300, y=40, page_url="https://a/", window=window)


def shake(count: int, *, begin: int = 1_000, step: int = 200, axis: str = "x") -> list[CursorTurn]:
    return [turn(begin + step * n, axis) for n in range(count)]


def judged(*turns: CursorTurn, moments: tuple[int, ...] = (DUE,), **config: Any) -> list[Verdict]:
    detector = ThrashedCursorDetector(ThrashedCursorConfig(**config))
    memory, handlers = detector.memory(), detector.handlers()
    for signal in turns:
        handlers[CursorTurn](memory, signal, DUE)
    return [verdict for moment in moments for verdict in detector.on_time(memory, moment)]


def test_ten_turns_within_two_seconds_are_a_shake() -> None:
    assert judged(*shake(10)) == [
        Verdict(
            kind=FindingKind.THRASHED_CURSOR,
            t=1_000,
            trigger="1000",
            severity=Severity.LOW,
            page_url="https://a/",
            position=(300, 40),
            evidence={"turns": 10, "span_ms": 1_800},
        )
    ]


def test_nine_turns_or_ten_in_more_time_are_none() -> None:
    assert judged(*shake(9)) == []
    assert judged(*shake(10, step=223)) == []
    assert len(judged(*shake(10, step=222))) == 1


def test_turns_along_both_axes_are_not_added_up() -> None:
    assert judged(*shake(6), *shake(6, begin=1_050, axis="y")) == []


def test_a_shake_along_both_axes_is_one_finding() -> None:
    assert [v.evidence["turns"] for v in judged(*shake(10), *shake(10, begin=1_050, axis="y"))] == [20]


def test_a_long_shake_is_one_finding_and_one_after_a_pause_another() -> None:
    assert len(judged(*shake(40))) == 1
    assert [v.t for v in judged(*shake(10), *shake(10, begin=3_801))] == [1_000, 3_801]


def test_a_shake_in_another_window_is_another() -> None:
    here, there = shake(10), [replace(turn, window="v") for turn in shake(10, begin=1_500)]
    assert len(judged(*here, *there)) == 2


def test_other_windows_turns_do_not_count() -> None:
    assert judged(*(turn(1_000 + 200 * n, window=f"w{n % 2}") for n in range(18))) == []


def test_it_is_judged_when_due_and_once() -> None:
    assert judged(*shake(10), moments=(DUE - 1,)) == []
    assert len(judged(*shake(10), moments=(DUE, DUE, DUE))) == 1


def test_what_comes_late_of_a_shake_that_was_told_is_not_told_again() -> None:
    detector = ThrashedCursorDetector()
    memory, handle = detector.memory(), detector.handlers()[CursorTurn]
    for signal in shake(12):
        handle(memory, signal, DUE)
    assert len(detector.on_time(memory, DUE)) == 1
    for signal in shake(12, begin=3_500):
        handle(memory, signal, DUE + 5_000)
    assert detector.on_time(memory, DUE + 5_000) == []


def test_the_order_and_repetition_of_turns_do_not_matter() -> None:
    parts = [shake(5), shake(5, begin=2_000), shake(5)]
    assert {repr(judged(*(t for part in order for t in part))) for order in permutations(parts)} == {
        repr(judged(*shake(10)))
    }


def test_the_memory_is_bounded_and_empty_once_judged() -> None:
    detector = ThrashedCursorDetector()
    memory, handle = detector.memory(), detector.handlers()[CursorTurn]
    for signal in shake(5_000):
        handle(memory, signal, DUE)
    assert len(memory.turns) == MAX_TURNS
    assert detector.wake_at(memory) == DUE
    detector.on_end(memory)
    assert (memory.turns, detector.wake_at(memory)) == ([], 0)


def test_a_project_sets_its_own_numbers() -> None:
    assert len(judged(*shake(5), min_turns=5)) == 1
    assert judged(*shake(10), window_ms=1_799) == []
    assert ThrashedCursorDetector(ThrashedCursorConfig(enabled=False)).handlers() == {}
    with pytest.raises(ValueError, match=r"thrashed_cursor\.window_ms: expected a whole number from 500 to 2000"):
        parse_detectors({"thrashed_cursor": {"window_ms": 3000}})
