from dataclasses import replace
from typing import Any

import pytest

from schemas.signals import Change, ChangeKind, Click, Element, NotJudged, ScriptError, Signal
from stream_processors.analyze.detectors.clicks import ClickDetectors
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.rage_click import RageClickConfig
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

BUY = Element(tag="button", id="buy", classes="btn primary", text="Buy now", selector="#buy")
DUE = 20_000


def click(t: int, *, x: int = 100, y: int = 200, node: int = 7, **more: Any) -> Click:
    return replace(Click(t=t, x=x, y=y, window="w", node=node, element=BUY, page_url="https://a/"), **more)


def seen(t: int, what: ChangeKind = ChangeKind.DOM, **more: Any) -> Change:
    return replace(Change(t=t, what=what, window="w", node=50), **more)


def rage(*signals: Signal, config: RageClickConfig | None = None, moment: int = FOREVER) -> list[Verdict]:
    detectors = ClickDetectors(rage=config or RageClickConfig())
    memory, handlers = detectors.memory(), detectors.handlers()
    for signal in signals:
        assert handlers[type(signal)](memory, signal, DUE) == ()
    return [found for found in detectors.on_time(memory, moment) if found.kind is FindingKind.RAGE_CLICK]


def test_three_clicks_on_one_place_are_one_finding_at_the_first() -> None:
    assert rage(click(1000), click(1500), click(2100)) == [
        Verdict(
            kind=FindingKind.RAGE_CLICK,
            t=1000,
            trigger="1000/100/200",
            severity=Severity.MEDIUM,
            page_url="https://a/",
            element=BUY,
            position=(100, 200),
            evidence={"clicks": 3, "span_ms": 1100, "effective_clicks": 0},
        )
    ]


def test_two_clicks_are_none() -> None:
    assert rage(click(1000), click(1500)) == []


def test_third_click_exactly_at_the_gap_counts() -> None:
    assert len(rage(click(1000), click(2000), click(3000))) == 1


def test_third_click_a_millisecond_beyond_the_gap_does_not() -> None:
    assert rage(click(1000), click(2000), click(3001)) == []


def test_the_pause_ends_when_the_pointer_goes_down() -> None:
    assert len(rage(click(1000), click(1500), click(2700, down=2500))) == 1
    assert rage(click(1000), click(1500), click(2700, down=2501)) == []


def test_another_node_within_the_radius_belongs_to_the_burst() -> None:
    assert len(rage(click(1000), click(1200, x=130, node=8), click(1400, x=160, node=9))) == 1


def test_another_node_beyond_the_radius_does_not() -> None:
    assert rage(click(1000), click(1200, x=131, node=8), click(1400, x=100)) == []


def test_the_same_node_counts_wherever_it_is_hit() -> None:
    assert len(rage(click(1000), click(1200, x=600), click(1400, x=900))) == 1


def test_the_same_node_id_in_another_window_is_another_node() -> None:
    assert rage(click(1000), click(1200, x=600, window="other"), click(1400, x=900)) == []


def test_a_burst_is_judged_only_once_its_last_click_is_due() -> None:
    assert rage(click(1000), click(1500), click(2100), moment=DUE - 1) == []
    assert len(rage(click(1000), click(1500), click(2100), moment=DUE)) == 1


def test_a_long_burst_is_one_finding_with_all_its_clicks() -> None:
    (found,) = rage(*(click(1000 + 500 * n) for n in range(12)))
    assert (found.evidence["clicks"], found.severity) == (12, Severity.HIGH)


def test_a_clicking_machine_is_told_each_half_minute() -> None:
    found = rage(*(click(1000 + 900 * n) for n in range(100)))
    assert [verdict.t for verdict in found] == [1000, 1000 + 900 * 34, 1000 + 900 * 68]


def test_a_clicking_machine_is_told_as_often_when_it_is_judged_meanwhile() -> None:
    detectors = ClickDetectors()
    memory, handle = detectors.memory(), detectors.handlers()[Click]
    found: list[Verdict] = []
    for n in range(100):
        handle(memory, click(1000 + 900 * n), 1000 + 900 * n + DUE)
        found += detectors.on_time(memory, 900 * n)
    found += detectors.on_end(memory)
    assert [v.t for v in found if v.kind is FindingKind.RAGE_CLICK] == [1000, 1000 + 900 * 34, 1000 + 900 * 68]


def test_a_stepper_whose_every_click_has_an_effect_is_no_rage() -> None:
    assert rage(click(1000), seen(1050), click(1500), seen(1550), click(2000), seen(2050)) == []


def test_an_effect_that_comes_only_after_the_next_click_is_that_clicks_effect() -> None:
    assert len(rage(click(1000), click(1500), click(2000), seen(2050), click(2500))) == 1


def test_sixty_percent_with_an_effect_are_productive_and_fewer_are_not() -> None:
    clicks = [click(1000 + 800 * n) for n in range(5)]
    effects = [seen(c.t + 100) for c in clicks]
    assert rage(*clicks, *effects[:3]) == []
    assert len(rage(*clicks, *effects[:2])) == 1


def test_one_effect_alone_never_makes_a_burst_productive() -> None:
    config = RageClickConfig(productive_share=0.1)
    assert len(rage(click(1000), seen(1100), click(1500), click(2000), config=config)) == 1


@pytest.mark.parametrize(
    ("change", "effective"),
    [
        (seen(1700), 1),
        (seen(1701), 0),
        (seen(850), 1),
        (seen(849), 0),
        (seen(1100, ChangeKind.SCROLL), 1),
        (seen(1100, ChangeKind.NAVIGATION), 1),
        (seen(1100, ChangeKind.NAVIGATION, window="other"), 1),
        (seen(1100, ChangeKind.GAP), 1),
        (seen(1100, ChangeKind.NETWORK), 0),
        (seen(1100, ChangeKind.FOCUS), 0),
        (seen(1100, ChangeKind.CUSTOM), 0),
        (seen(1100, background=True), 0),
        (seen(1400, lone=True), 1),
        (seen(1401, lone=True), 0),
        (seen(1100, window="other"), 0),
        (seen(1100, window=""), 1),
    ],
)
def test_what_counts_as_a_visible_effect_of_a_click(change: Change, effective: int) -> None:
    (found,) = rage(click(1000), change, click(1900), click(2800))
    assert found.evidence["effective_clicks"] == effective


def test_an_effect_that_is_undone_at_once_is_none() -> None:
    pressed = [seen(t + 5, place="class") for t in (1000, 1500, 2000)]
    released = [seen(t + 90, place="class", undoes=t + 5) for t in (1000, 1500, 2000)]
    assert len(rage(click(1000), click(1500), click(2000), *pressed, *released)) == 1
    assert rage(click(1000), click(1500), click(2000), *pressed) == []


def test_clicks_that_select_a_text_are_no_rage_unless_there_are_more_than_three() -> None:
    selection = seen(1450, ChangeKind.SELECTION)
    assert rage(click(1000), click(1200), click(1400), selection) == []
    assert len(rage(click(1000), click(1200), click(1400), click(1600), selection)) == 1


@pytest.mark.parametrize("reason", [NotJudged.TEXT_ENTRY, NotJudged.SELECT, NotJudged.EDITABLE])
def test_clicks_where_text_is_entered_are_no_rage(reason: NotJudged) -> None:
    assert rage(*(click(1000 + 300 * n, not_judged=reason) for n in range(4))) == []


def test_clicks_on_a_link_can_be_rage_though_never_dead() -> None:
    assert len(rage(*(click(1000 + 300 * n, not_judged=NotJudged.LINK) for n in range(4)))) == 1


def test_clicks_made_by_keys_are_no_rage() -> None:
    keys = [click(1000 + 300 * n, x=0, y=0, not_judged=NotJudged.KEYBOARD) for n in range(4)]
    assert rage(*keys) == []


def test_a_key_between_two_clicks_ends_the_burst() -> None:
    key = click(1300, x=0, y=0, not_judged=NotJudged.KEYBOARD)
    assert rage(click(1000), click(1200), key, click(1400)) == []


def test_a_click_told_by_sdk_and_recording_is_one() -> None:
    twins = [click(t + 40, x=102, window="", node=-5, event_id=f"e{t}") for t in (1000, 1500)]
    assert rage(click(1000), click(1500), *twins) == []


def test_two_clicks_further_apart_than_twins_are_two() -> None:
    assert len(rage(click(1000), click(1051), click(1500))) == 1


def test_the_recorded_click_is_believed_and_the_structured_one_fills_in() -> None:
    recorded = [replace(click(t), element=None) for t in (1000, 1500, 2000)]
    told = [click(t - 3, x=101, window="", node=-5, event_id=f"e{t}") for t in (1000, 1500, 2000)]
    (found,) = rage(*recorded, *told)
    assert (found.t, found.position, found.element) == (1000, (100, 200), BUY)


def test_a_late_third_click_completes_a_burst_that_was_judged_before() -> None:
    detectors = ClickDetectors()
    memory, handlers = detectors.memory(), detectors.handlers()
    for t in (1000, 1500):
        handlers[Click](memory, click(t), 10_000)
    assert [v.kind for v in detectors.on_time(memory, 10_000)] == [FindingKind.DEAD_CLICK]
    handlers[Click](memory, click(2000), 30_000)
    assert [v.kind for v in detectors.on_time(memory, 30_000)] == [FindingKind.RAGE_CLICK]


def test_a_late_click_does_not_report_a_burst_again() -> None:
    detectors = ClickDetectors()
    memory, handlers = detectors.memory(), detectors.handlers()
    for t in (1000, 1500, 2000):
        handlers[Click](memory, click(t), 10_000)
    assert len(detectors.on_time(memory, 10_000)) == 2
    handlers[Click](memory, click(2500), 30_000)
    assert detectors.on_time(memory, 30_000) == []


def test_rage_on_something_that_throws_is_critical() -> None:
    (found,) = rage(click(1000), ScriptError(t=1010, message="boom"), click(1500), click(2000))
    assert found.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    "config",
    [
        RageClickConfig(enabled=False),
        RageClickConfig(min_clicks=4),
        RageClickConfig(ignored_texts=("buy now",)),
        RageClickConfig(ignored_selectors=("button",)),
        RageClickConfig(ignored_selectors=("#buy",)),
        RageClickConfig(ignored_selectors=("button.primary.btn",)),
    ],
)
def test_a_project_can_silence_it(config: RageClickConfig) -> None:
    assert rage(click(1000), click(1500), click(2000), config=config) == []


@pytest.mark.parametrize("selector", ["a", "#other", ".secondary", "button.other"])
def test_an_ignored_selector_must_match_whole(selector: str) -> None:
    config = RageClickConfig(ignored_selectors=(selector,))
    assert len(rage(click(1000), click(1500), click(2000), config=config)) == 1


@pytest.mark.parametrize("hidden", [NotJudged.CANVAS, NotJudged.MEDIA])
def test_fast_clicks_on_what_is_drawn_are_no_rage(hidden: NotJudged) -> None:
    assert rage(*(click(1000 + 300 * n, not_judged=hidden) for n in range(5))) == []
