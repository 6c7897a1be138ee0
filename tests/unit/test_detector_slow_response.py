"""Clicks that are answered too late: alive, and a finding of their own."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.signals import Change, ChangeKind, Click, Element, Leave, NotJudged, PageView, PointerDown, Signal
from stream_processors.analyze.detectors.clicks import ClickDetectors
from stream_processors.analyze.detectors.dead_click import DeadClickConfig
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.slow_response import SlowResponseConfig
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

BUTTON = Element(tag="button", text="Load")
T = 10_000
DEAD, SLOW = FindingKind.DEAD_CLICK, FindingKind.SLOW_LOAD


def click(t: int = T, **more: Any) -> Click:
    return replace(Click(t=t, x=100, y=200, window="w", node=7, element=BUTTON, page_url="https://a/"), **more)


def change(after: int, what: ChangeKind = ChangeKind.DOM, **more: Any) -> Change:
    return replace(Change(t=T + after, what=what, window="w", node=50), **more)


def judged(*signals: Signal, **config: Any) -> list[Verdict]:
    dead = DeadClickConfig(deadline_ms=config.pop("deadline_ms", 2500))
    detectors = ClickDetectors(dead=dead, slow=SlowResponseConfig(**config))
    memory, handlers = detectors.memory(), detectors.handlers()
    for signal in signals:
        assert handlers[type(signal)](memory, signal, 30_000) == ()
    return list(detectors.on_time(memory, FOREVER))


def kinds(*signals: Signal, **config: Any) -> list[FindingKind]:
    return [verdict.kind for verdict in judged(*signals, **config)]


def test_a_click_answered_after_its_deadline_is_slow_not_dead() -> None:
    assert judged(click(), change(4000)) == [
        Verdict(
            kind=SLOW,
            t=T,
            trigger="response/10000/100/200",
            severity=Severity.MEDIUM,
            page_url="https://a/",
            element=BUTTON,
            position=(100, 200),
            evidence={"response_ms": 4000, "slow_above_ms": 2500},
        )
    ]


@pytest.mark.parametrize(
    ("after", "expected"), [(2499, []), (2500, [SLOW]), (5000, [SLOW]), (5001, [DEAD])], ids=["in time", *"abc"]
)
def test_it_is_slow_from_the_deadline_up_to_the_longest_wait(after: int, expected: list[FindingKind]) -> None:
    assert kinds(click(), change(after)) == expected


def test_from_twice_the_deadline_on_it_is_severe() -> None:
    (found,) = judged(click(), change(5000))
    assert found.severity is Severity.HIGH


@pytest.mark.parametrize(
    "no_answer",
    [
        change(4000, background=True),
        change(4000, lone=True),
        change(4000, ChangeKind.NETWORK),
        change(4000, ChangeKind.SCROLL),
        change(4000, window=""),
        change(4000, window="other"),
        PageView(T + 4000, window="w"),
        PageView(T + 4000, window="popup"),
    ],
    ids=["background", "a toast", "a request", "a scroll", "a structured one", "elsewhere", "a page", "a new window"],
)
def test_so_late_this_is_no_answer(no_answer: Signal) -> None:
    assert kinds(click(), no_answer) == [DEAD]


def test_an_effect_that_is_taken_back_at_once_is_no_answer() -> None:
    assert kinds(click(), change(4000), change(4050, undoes=T + 4000)) == [DEAD]


@pytest.mark.parametrize(
    "turn",
    [PointerDown(T + 3000, window="w", node=9), PageView(T + 3000, window="w"), Leave(T + 3000, window="w")],
)
def test_what_comes_after_the_user_has_turned_to_something_else_is_no_answer(turn: Signal) -> None:
    assert kinds(click(), turn, change(4000)) == [DEAD]


def test_a_click_that_was_cut_by_the_next_one_is_dead_whatever_comes_later() -> None:
    assert kinds(click(), PointerDown(T + 1000, window="w", node=9), change(4000)) == [DEAD]


def test_a_click_that_is_not_judged_is_not_slow() -> None:
    assert kinds(click(not_judged=NotJudged.LINK), change(4000)) == []


def test_a_structured_click_is_not_slow() -> None:
    told = click(window="", event_id="e")
    answers = replace(change(-5000), window="")
    assert kinds(told, answers, change(4000)) == [DEAD]


def test_impatient_clicks_on_one_place_are_one_finding() -> None:
    clicks = [
        signal for n in range(2) for signal in (PointerDown(T + 800 * n - 80, window="w", node=7), click(T + 800 * n))
    ]
    assert [(v.kind, v.t, v.evidence["response_ms"]) for v in judged(*clicks, change(4000))] == [(SLOW, T, 4000)]


def test_a_project_can_switch_it_off_and_change_its_bounds() -> None:
    assert kinds(click(), change(4000), enabled=False) == [DEAD]
    assert kinds(click(), change(4000), max_wait_ms=3999) == [DEAD]
    assert kinds(click(), change(9000), max_wait_ms=9000) == [SLOW]
    assert kinds(click(), change(4000), deadline_ms=4001) == []
