from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.signals import (
    Change,
    ChangeKind,
    Click,
    Element,
    FormSubmit,
    FormTouch,
    Leave,
    NotJudged,
    PageView,
    ScriptError,
    Signal,
    WebVital,
)
from stream_processors.analyze.findings import component_of
from stream_processors.analyze.normalise import place_of, signals_of
from stream_processors.analyze.records import Event


def event(event_type: str, **fields: Any) -> Event:
    return msgspec.convert({"id": "e", "timestamp": 5, "event_type": event_type, **fields}, Event)


def signals(event_type: str, **fields: Any) -> list[Signal]:
    return list(signals_of(event(event_type, **fields)))


@pytest.mark.parametrize(
    ("event_type", "fields", "expected"),
    [
        (
            "pageview",
            {"page_url": "https://a/", "page_title": "A", "metadata": {"referrer": "https://g/"}},
            [PageView(t=5, url="https://a/", title="A", referrer="https://g/")],
        ),
        ("pageview", {"metadata": {"referrer": 3}}, [PageView(t=5)]),
        (
            "error",
            {"error_message": "boom", "error_stack": "at f", "page_url": "https://a/"},
            [ScriptError(t=5, message="boom", stack="at f", page_url="https://a/", event_id="e")],
        ),
        ("error", {}, [ScriptError(t=5, event_id="e")]),
        (
            "input",
            {"page_url": "https://a/", "metadata": {"form": "#join", "field": "email"}},
            [Change(5, ChangeKind.INPUT), FormTouch(t=5, form="#join", field="email", page_url="https://a/")],
        ),
        (
            "input",
            {"element_selector": "#mail", "metadata": {"form": "#join"}},
            [Change(5, ChangeKind.INPUT), FormTouch(t=5, form="#join", field="#mail")],
        ),
        ("input", {"metadata": {"field": "q"}}, [Change(5, ChangeKind.INPUT)]),
        ("input", {}, [Change(5, ChangeKind.INPUT)]),
        ("form_submit", {"metadata": {"form": "#join"}}, [FormSubmit(t=5, form="#join")]),
        ("form_submit", {}, [FormSubmit(t=5)]),
        (
            "web_vital",
            {"event_name": "lcp", "metadata": {"value": 4200}, "page_url": "https://a/"},
            [WebVital(t=5, name="LCP", value=4200.0, page_url="https://a/", event_id="e")],
        ),
        ("web_vital", {"event_name": "LCP", "metadata": {"value": "4200"}}, []),
        ("web_vital", {"event_name": "LCP", "metadata": {"value": True}}, []),
        ("web_vital", {"event_name": "LCP", "metadata": {"value": float("inf")}}, []),
        ("web_vital", {"event_name": "LCP"}, []),
        ("dom_change", {}, [Change(5, ChangeKind.DOM)]),
        ("network", {}, [Change(5, ChangeKind.NETWORK)]),
        ("visibility", {"event_name": "visible"}, [Change(5, ChangeKind.VISIBILITY)]),
        (
            "visibility",
            {"event_name": "hidden", "page_url": "https://a/"},
            [Change(5, ChangeKind.VISIBILITY), Leave(t=5, url="https://a/", hidden=True)],
        ),
        ("custom", {}, [Change(5, ChangeKind.CUSTOM)]),
        ("scroll", {"scroll_depth": 9}, [Change(5, ChangeKind.SCROLL)]),
        ("page_leave", {"page_url": "https://a/"}, [Leave(t=5, url="https://a/")]),
        ("mousemove", {}, []),
        ("", {}, []),
    ],
)
def test_an_event_as_signals(event_type: str, fields: dict[str, Any], expected: list[Signal]) -> None:
    assert signals(event_type, **fields) == expected


def test_a_click_carries_its_element_place_and_page() -> None:
    (click,) = signals(
        "click",
        x_position=10,
        y_position=20,
        element_tag="BUTTON",
        element_id="buy",
        element_class="btn",
        element_text="Buy",
        element_selector="main > #buy",
        page_url="https://a/",
    )
    assert isinstance(click, Click)
    assert click == Click(
        t=5,
        x=10,
        y=20,
        node=click.node,
        element=Element(tag="BUTTON", id="buy", classes="btn", text="Buy", selector="main > #buy"),
        page_url="https://a/",
        event_id="e",
    )
    assert click.node < 0


def test_clicks_on_one_element_have_one_node_and_on_others_another() -> None:
    def node(**fields: Any) -> int:
        (click,) = signals("click", x_position=1, y_position=1, **fields)
        assert isinstance(click, Click)
        return click.node

    assert node(element_selector="#a") == node(element_selector="#a", element_class="hover")
    assert node(element_selector="#a") != node(element_selector="#b")
    assert node(element_tag="li", element_text="one") != node(element_tag="li", element_text="two")
    assert node() == 0


@pytest.mark.parametrize("name", ["dblclick", "contextmenu", "auxclick"])
def test_what_is_no_primary_click_is_none(name: str) -> None:
    assert signals("click", event_name=name, x_position=1, y_position=1) == []


def test_a_click_made_by_a_script_is_none() -> None:
    assert signals("click", x_position=1, y_position=1, metadata={"trusted": False}) == []
    assert len(signals("click", x_position=1, y_position=1, metadata={"trusted": True})) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"x_position": 0, "y_position": 0}, NotJudged.KEYBOARD),
        ({"element_tag": "button"}, None),
        ({"element_tag": "a"}, NotJudged.LINK),
        ({"element_tag": "TEXTAREA"}, NotJudged.TEXT_ENTRY),
        ({"element_tag": "input"}, NotJudged.TEXT_ENTRY),
        ({"element_tag": "input", "metadata": {"type": "email"}}, NotJudged.TEXT_ENTRY),
        ({"element_tag": "input", "metadata": {"type": "submit"}}, None),
        ({"element_tag": "input", "metadata": {"type": ["submit"]}}, NotJudged.TEXT_ENTRY),
        ({"element_tag": "select"}, NotJudged.SELECT),
        ({"element_tag": "canvas"}, NotJudged.CANVAS),
        ({"element_tag": "video"}, NotJudged.MEDIA),
        ({}, None),
    ],
)
def test_which_structured_clicks_are_not_judged(fields: dict[str, Any], expected: NotJudged | None) -> None:
    (click,) = signals("click", **fields)
    assert isinstance(click, Click)
    assert click.not_judged is expected


def test_names_of_forms_and_fields_are_bounded() -> None:
    touch = signals("input", metadata={"form": "f" * 1000, "field": "g" * 1000})[1]
    assert touch == FormTouch(t=5, form="f" * 100, field="g" * 100)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (event("click", x_position=1, y_position=2), event("click", x_position=1, y_position=3)),
        (event("error", error_message="a"), event("error", error_message="b")),
        (event("web_vital", event_name="LCP"), event("web_vital", event_name="CLS")),
        (event("pageview", page_url="/a"), event("pageview", page_url="/b")),
    ],
)
def test_events_of_one_kind_and_time_are_told_apart_by_their_place(first: Event, second: Event) -> None:
    assert place_of(first) != place_of(second)
    assert place_of(first) == place_of(msgspec.structs.replace(first, id="other"))


@pytest.mark.parametrize(
    ("selector", "component"),
    [
        ("", ""),
        ("#buy", ""),
        ("main > div.card > button", "main"),
        ("main > form#cart > div > button.buy", "form#cart"),
        ("div[data-component=cart]>span>button", "div[data-component=cart]"),
        ("div > div > button", ""),
        ("body header nav.top a", "nav.top"),
    ],
)
def test_the_component_is_the_nearest_named_ancestor(selector: str, component: str) -> None:
    assert component_of(selector) == component


JSON: list[Any] = [None, True, False, 0, -1, 1.5, 2**63, "", "x", "submit", [], ["submit"], {}, {"a": [1]}]
METADATA = st.dictionaries(
    st.sampled_from(["trusted", "type", "referrer", "form", "field", "value", "other"]),
    st.sampled_from(JSON),
    max_size=7,
)


@given(
    event_type=st.sampled_from(["click", "pageview", "error", "input", "form_submit", "web_vital", "visibility", "x"]),
    tag=st.sampled_from(["", "input", "INPUT", "a", "div"]),
    metadata=METADATA,
)
def test_no_metadata_that_a_client_can_send_raises(event_type: str, tag: str, metadata: dict[str, Any]) -> None:
    for signal in signals(event_type, element_tag=tag, metadata=metadata):
        assert signal.t == 5
