from dataclasses import replace
from typing import Any

import pytest

from schemas.signals import (
    Change,
    ChangeKind,
    Click,
    Element,
    FormSubmit,
    Leave,
    NotJudged,
    PageView,
    PointerDown,
    Signal,
)
from stream_processors.analyze.detectors.clicks import LAZY_MS, ClickDetectors
from stream_processors.analyze.detectors.dead_click import DeadClickConfig
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.slow_response import SlowResponseConfig
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

CARD = Element(tag="div", classes="card", text="Blue shirt", selector="main > div.card")
T = 10_000
DUE = 30_000


def click(t: int = T, *, x: int = 100, y: int = 200, node: int = 7, **more: Any) -> Click:
    return replace(Click(t=t, x=x, y=y, window="w", node=node, element=CARD, page_url="https://a/"), **more)


def told(t: int = T, *, x: int = 100, y: int = 200, node: int = -9, **more: Any) -> Click:
    return replace(Click(t=t, x=x, y=y, node=node, element=CARD, page_url="https://a/", event_id=f"e{t}"), **more)


def change(t: int, what: ChangeKind = ChangeKind.DOM, **more: Any) -> Change:
    return replace(Change(t=t, what=what, window="w", node=50), **more)


def down(t: int, node: int = 7, window: str = "w") -> PointerDown:
    return PointerDown(t=t, node=node, window=window)


def dead(*signals: Signal, config: DeadClickConfig | None = None, moment: int = FOREVER) -> list[Verdict]:
    detectors = ClickDetectors(dead=config or DeadClickConfig(), slow=SlowResponseConfig(enabled=False))
    memory, handlers = detectors.memory(), detectors.handlers()
    for signal in signals:
        assert handlers[type(signal)](memory, signal, DUE) == ()
    return [found for found in detectors.on_time(memory, moment) if found.kind is FindingKind.DEAD_CLICK]


def times(*signals: Signal, config: DeadClickConfig | None = None) -> list[int]:
    return [found.t for found in dead(*signals, config=config)]


def test_a_click_without_any_answer_is_dead() -> None:
    assert dead(click()) == [
        Verdict(
            kind=FindingKind.DEAD_CLICK,
            t=T,
            trigger="10000/100/200",
            severity=Severity.LOW,
            page_url="https://a/",
            element=CARD,
            position=(100, 200),
            evidence={"silent_ms": 2500, "cut_by_next_click": False},
        )
    ]


def test_a_dead_click_on_a_control_is_worse() -> None:
    (found,) = dead(click(element=replace(CARD, tag="BUTTON")))
    assert found.severity is Severity.MEDIUM


def test_it_is_dead_only_once_the_log_has_passed_its_due_time() -> None:
    assert dead(click(), moment=DUE - 1) == []
    assert len(dead(click(), moment=DUE)) == 1


@pytest.mark.parametrize(
    "what",
    [
        ChangeKind.DOM,
        ChangeKind.STYLE,
        ChangeKind.CANVAS,
        ChangeKind.MEDIA,
        ChangeKind.INPUT,
        ChangeKind.NETWORK,
        ChangeKind.VISIBILITY,
        ChangeKind.CUSTOM,
        ChangeKind.NAVIGATION,
        ChangeKind.SNAPSHOT,
        ChangeKind.GAP,
    ],
)
def test_an_answer_counts_until_just_before_the_deadline(what: ChangeKind) -> None:
    assert times(click(), change(T + 2499, what)) == []
    assert times(click(), change(T + 2500, what)) == [T]


@pytest.mark.parametrize(
    ("answer", "is_dead"),
    [
        (change(T + 300, ChangeKind.SCROLL), False),
        (change(T + 301, ChangeKind.SCROLL), True),
        (change(T + 600, ChangeKind.SELECTION), False),
        (change(T + 601, ChangeKind.SELECTION), True),
        (change(T + 2000, ChangeKind.FOCUS, node=8), False),
        (change(T + 20, ChangeKind.FOCUS, node=7), True),
        (change(T + 400, lone=True), False),
        (change(T + 401, lone=True), True),
        (change(T + 20, background=True), True),
        (change(T + 20, window="other"), True),
        (change(T + 20, window=""), False),
        (PageView(T + 2000, window="w"), False),
        (PageView(T + 2000, window="other"), False),
        (PageView(T - 1, window="w"), True),
        (PageView(T - 100, window="other"), False),
        (PageView(T - 101, window="other"), True),
        (FormSubmit(T + 5, window="w"), False),
        (Leave(T + 2000, window="w"), False),
        (Leave(T + 2000, window="w", hidden=True), False),
        (Leave(T + 2600, window="w"), True),
        (Leave(T + 2000, window="other"), True),
    ],
)
def test_what_answers_a_click(answer: Signal, is_dead: bool) -> None:
    assert times(click(), answer) == ([T] if is_dead else [])


def test_without_a_pointer_down_an_answer_counts_from_a_tenth_of_a_second_before() -> None:
    assert times(click(), change(T - 100)) == []
    assert times(click(), change(T - 101)) == [T]


def test_with_a_pointer_down_an_answer_counts_from_there() -> None:
    assert times(click(down=T - 400), change(T - 415)) == []
    assert times(click(down=T - 400), change(T - 416)) == [T]
    assert times(down(T - 400), click(), change(T - 415)) == []
    assert times(down(T - 60), click(), change(T - 76)) == [T]


def test_a_pointer_down_elsewhere_cuts_the_window() -> None:
    assert times(click(), down(T + 700, node=8), change(T + 701)) == [T]
    assert times(click(), change(T + 699), down(T + 700, node=8)) == []


def test_the_cut_is_in_the_evidence() -> None:
    (found,) = dead(click(), down(T + 700, node=8))
    assert found.evidence == {"silent_ms": 700, "cut_by_next_click": True}


def test_a_pointer_down_on_the_same_node_within_a_second_does_not_cut() -> None:
    assert times(click(), down(T + 900), click(T + 1000), change(T + 1200)) == []


def test_a_pointer_down_on_the_same_node_later_cuts() -> None:
    assert times(click(), down(T + 1100), change(T + 1200)) == [T]


def test_a_click_elsewhere_cuts_where_no_pointer_down_is_known() -> None:
    assert times(told(), told(T + 500, x=400, node=-8), change(T + 600, ChangeKind.NETWORK, window="")) == [T]


@pytest.mark.parametrize("reason", list(NotJudged))
def test_a_click_whose_effect_is_not_to_be_seen_is_never_dead(reason: NotJudged) -> None:
    assert times(click(not_judged=reason)) == []


def test_a_press_on_a_disabled_control_can_be_dead() -> None:
    assert times(click(press=True)) == [T]


def test_a_structured_click_is_not_judged_in_a_session_that_sends_no_answers() -> None:
    assert times(told()) == []
    assert times(told(), change(T - 5000, ChangeKind.CUSTOM, window="")) == []


@pytest.mark.parametrize("what", [ChangeKind.DOM, ChangeKind.NETWORK, ChangeKind.VISIBILITY])
def test_a_structured_click_is_judged_in_a_session_that_sends_answers(what: ChangeKind) -> None:
    answer = change(T - 5000, what, window="")
    assert times(told(), answer) == [T]
    assert times(answer, told()) == [T]


def test_what_a_session_sends_only_after_the_deadline_says_nothing_of_the_click() -> None:
    elsewhere = told(T + 500, x=400, node=-8)
    assert times(told(), elsewhere, change(T + 2499, ChangeKind.NETWORK, window="")) == [T]
    assert times(told(), elsewhere, change(T + 2500, ChangeKind.NETWORK, window="")) == []


def test_an_answer_that_comes_late_counts_from_when_it_was_given() -> None:
    assert times(told(), change(T + 5000, ChangeKind.NETWORK, window=""), change(T - 5000, window="")) == [T]


def test_a_recorded_change_is_no_structured_answer() -> None:
    assert times(told(), change(T - 5000, ChangeKind.NETWORK)) == []


def test_a_structured_answer_answers_a_recorded_click() -> None:
    assert times(click(), change(T + 100, ChangeKind.NETWORK, window="")) == []


def test_a_recorded_change_answers_a_structured_click() -> None:
    assert times(told(), change(T - 5000, ChangeKind.NETWORK, window=""), change(T + 100)) == []


def test_a_click_told_twice_is_one_finding_at_the_recorded_place() -> None:
    (found,) = dead(click(), told(T + 30, x=103))
    assert (found.t, found.position) == (T, (100, 200))


def test_a_click_told_twice_is_one_even_if_the_two_measure_places_differently() -> None:
    assert times(click(), told(T + 30, y=1900), change(T + 200)) == []


def test_the_recording_knows_better_whether_a_click_can_be_judged() -> None:
    assert times(click(), told(T + 30, not_judged=NotJudged.LINK)) == [T]
    assert times(click(not_judged=NotJudged.LINK), told(T + 30)) == []


def test_dead_clicks_on_one_place_within_a_second_of_each_other_are_one() -> None:
    clicks = [click(T + 1000 * n) for n in range(4)]
    assert times(*clicks) == [T]


def test_dead_clicks_on_one_place_further_apart_are_several() -> None:
    assert times(click(), click(T + 1001)) == [T, T + 1001]


def test_the_second_of_two_clicks_may_be_the_only_dead_one() -> None:
    assert times(click(), change(T + 10), click(T + 3000)) == [T + 3000]


def test_clicks_on_two_places_are_two_findings() -> None:
    assert times(click(), click(T + 800, x=500, node=8)) == [T, T + 800]


@pytest.mark.parametrize(
    "config",
    [
        DeadClickConfig(enabled=False),
        DeadClickConfig(ignored_texts=("blue shirt",)),
        DeadClickConfig(ignored_selectors=("div.card",)),
    ],
)
def test_a_project_can_silence_it(config: DeadClickConfig) -> None:
    assert times(click(), config=config) == []


def test_a_project_can_shorten_the_deadline() -> None:
    config = DeadClickConfig(deadline_ms=1000)
    assert times(click(), change(T + 999), config=config) == []
    assert times(click(), change(T + 1000), config=config) == [T]


def test_an_undone_effect_is_no_answer_in_whatever_order_the_two_come() -> None:
    pressed, released = change(T + 5, place="class"), change(T + 90, place="class", undoes=T + 5)
    assert times(click(), pressed, released) == [T]
    assert times(released, pressed, click()) == [T]


def test_another_effect_at_the_same_moment_still_answers() -> None:
    pressed, released = change(T + 5, place="class"), change(T + 90, place="class", undoes=T + 5)
    assert times(click(), pressed, change(T + 5, place="#text"), released) == []


def test_a_recorded_click_wakes_the_session_when_it_is_due() -> None:
    detectors = ClickDetectors()
    memory = detectors.memory()
    detectors.handlers()[Click](memory, click(), DUE)
    assert detectors.wake_at(memory) == DUE
    detectors.on_time(memory, DUE)
    assert detectors.wake_at(memory) == 0


def test_a_structured_click_that_can_be_nothing_wakes_it_later() -> None:
    detectors = ClickDetectors()
    memory, handlers = detectors.memory(), detectors.handlers()
    handlers[Click](memory, told(), DUE)
    assert detectors.wake_at(memory) == DUE + LAZY_MS
    handlers[Change](memory, change(T - 3000, ChangeKind.NETWORK, window=""), DUE)
    assert detectors.wake_at(memory) == DUE


def test_a_settled_click_keeps_no_details() -> None:
    detectors = ClickDetectors()
    memory = detectors.memory()
    detectors.handlers()[Click](memory, click(), DUE)
    detectors.on_time(memory, DUE)
    assert memory.clicks == [[T, 100, 200, 1, 7, 16 | 64 | 1024, -1, 0, None]]


@pytest.mark.parametrize(("late", "found"), [(T + 100, []), (T + 101, [T + 101])])
def test_a_click_whose_answers_may_have_been_forgotten_is_unknown(late: int, found: list[int]) -> None:
    detectors = ClickDetectors()
    memory, handlers = detectors.memory(), detectors.handlers()
    handlers[Change](memory, change(T), DUE)
    handlers[Click](memory, click(T + 100_000), DUE)
    assert [v.t for v in detectors.on_time(memory, DUE)] == [T + 100_000]
    assert memory.forgotten == T
    handlers[Click](memory, click(late), 2 * DUE)
    assert [v.t for v in detectors.on_time(memory, 2 * DUE)] == found


def test_a_storm_of_changes_makes_clicks_unknown_and_never_dead() -> None:
    assert times(click(), *(change(T + 3000 + n, node=n) for n in range(1000))) == []


def test_a_storm_of_clicks_is_bounded() -> None:
    detectors = ClickDetectors()
    memory, handlers = detectors.memory(), detectors.handlers()
    for n in range(1000):
        handlers[Click](memory, click(T + 40_000 * n, x=n), DUE)
    assert len(memory.clicks) == 128
    assert len(detectors.on_time(memory, FOREVER)) == 128
