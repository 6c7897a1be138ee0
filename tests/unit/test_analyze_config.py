from typing import Any

import pytest

from stream_processors.analyze.config import DetectorConfig, parse_detectors, read_detectors
from stream_processors.analyze.detectors.dead_click import DeadClickConfig
from stream_processors.analyze.detectors.panel import panel_for
from stream_processors.analyze.detectors.rage_click import RageClickConfig
from stream_processors.analyze.detectors.slow_load import SlowLoadConfig
from stream_processors.analyze.jobs import AiJobConfig


def test_no_overrides_are_the_defaults() -> None:
    assert parse_detectors({}) == DetectorConfig()
    assert read_detectors(None) == DetectorConfig()


def test_overrides_replace_what_they_name() -> None:
    overrides = {
        "rage_click": {"min_clicks": 4, "max_gap_ms": 750, "ignored_texts": [" Next ", ">"]},
        "dead_click": {"enabled": False, "ignored_selectors": ["button.pager", "#next"]},
        "slow_load": {"lcp_ms": 2500, "cls": 0.1},
        "ai_jobs": {"summary_min_score": 60},
    }
    expected = DetectorConfig(
        rage_click=RageClickConfig(min_clicks=4, max_gap_ms=750, ignored_texts=("next", ">")),
        dead_click=DeadClickConfig(enabled=False, ignored_selectors=("button.pager", "#next")),
        slow_load=SlowLoadConfig(lcp_ms=2500.0, cls=0.1),
        ai_jobs=AiJobConfig(summary_min_score=60),
    )
    assert parse_detectors(overrides) == expected
    assert read_detectors(overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "detectors: expected an object by detector"),
        ({"rageclick": {}}, "rageclick: no such detector; known are ai_jobs, dead_click, error, "),
        ({"rage_click": 3}, "rage_click: expected an object of thresholds"),
        ({"rage_click": {"clicks": 3}}, "rage_click.clicks: no such threshold; known are effect_ms, enabled, "),
        ({"rage_click": {"min_clicks": "3"}}, "rage_click.min_clicks: expected a whole number from 2 to 50"),
        ({"rage_click": {"min_clicks": 1}}, "rage_click.min_clicks: expected a whole number from 2 to 50"),
        ({"rage_click": {"min_clicks": 2.5}}, "rage_click.min_clicks: expected a whole number from 2 to 50"),
        ({"rage_click": {"min_clicks": True}}, "rage_click.min_clicks: expected a whole number from 2 to 50"),
        ({"rage_click": {"min_clicks": float("nan")}}, "rage_click.min_clicks: expected a whole number from 2 to 50"),
        ({"rage_click": {"productive_share": 2}}, "rage_click.productive_share: expected a number from 0 to 1"),
        ({"rage_click": {"productive_share": None}}, "rage_click.productive_share: expected a number from 0 to 1"),
        ({"dead_click": {"enabled": 1}}, "dead_click.enabled: expected true or false"),
        (
            {"dead_click": {"ignored_texts": "a"}},
            "dead_click.ignored_texts: expected a list of at most 50 strings of at most 100 characters",
        ),
        (
            {"dead_click": {"ignored_texts": [1]}},
            "dead_click.ignored_texts: expected a list of at most 50 strings of at most 100 characters",
        ),
        (
            {"dead_click": {"ignored_texts": ["a"] * 51}},
            "dead_click.ignored_texts: expected a list of at most 50 strings of at most 100 characters",
        ),
        (
            {"dead_click": {"ignored_texts": ["a" * 101]}},
            "dead_click.ignored_texts: expected a list of at most 50 strings of at most 100 characters",
        ),
        (
            {"dead_click": {"ignored_selectors": ["main > button"]}},
            "dead_click.ignored_selectors: expected selectors made of tag, #id and .class only",
        ),
        (
            {"dead_click": {"ignored_selectors": [""]}},
            "dead_click.ignored_selectors: expected selectors made of tag, #id and .class only",
        ),
    ],
)
def test_what_a_person_got_wrong_is_named(overrides: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")) as error:
        parse_detectors(overrides)
    assert str(error.value).startswith(message)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"^a: .*; dead_click\.enabled: .*; dead_click\.x: "):
        parse_detectors({"a": {}, "dead_click": {"enabled": 3, "x": 1}})


def test_in_the_log_a_mistake_costs_only_its_own_field() -> None:
    overrides = {"a": {}, "dead_click": {"deadline_ms": 1000, "enabled": 3}, "rage_click": 5}
    assert read_detectors(overrides) == DetectorConfig(dead_click=DeadClickConfig(deadline_ms=1000))
    assert read_detectors([1]) == DetectorConfig()  # type: ignore[arg-type]


def test_everything_that_can_matter_to_a_signal_lies_within_the_time_to_settle() -> None:
    assert DetectorConfig().settle_ms == 5000
    assert parse_detectors({"error_click": {"window_ms": 9000}}).settle_ms == 9000


def test_sessions_with_the_same_overrides_share_their_detectors() -> None:
    overrides = {"rage_click": {"min_clicks": 4}}
    assert panel_for(overrides) is panel_for({"rage_click": {"min_clicks": 4}})
    assert panel_for(None) is panel_for({})
    assert panel_for(None) is not panel_for(overrides)


def test_a_silenced_detector_sees_nothing() -> None:
    names = {"error": {"enabled": False}, "slow_load": {"enabled": False}, "quick_back": {"enabled": False}}
    panel = panel_for(names | {"form_abandonment": {"enabled": False}, "thrashed_cursor": {"enabled": False}})
    assert {name for handlers in panel.by_signal.values() for name, _, _ in handlers} == {"clicks"}
