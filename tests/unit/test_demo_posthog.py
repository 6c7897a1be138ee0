"""posthog-js's requests as TraceFlow's: literals in, whole requests out."""

import base64
import gzip
from typing import Any

import orjson
import pytest

from deploy.demo.elements_chain import parse_chain, selector_of
from deploy.demo.posthog import convert_session

START = "2026-11-22T18:51:49.000Z"
START_MS = 1_795_373_509_000
PAGE = {"$current_url": "http://shop.test/m.html", "$viewport_width": 472, "$viewport_height": 944}
VIEW = PAGE | {
    "$referrer": "$direct",
    "title": "Mobile shop",
    "distinct_id": "visitor-1",
    "$raw_user_agent": "agent",
    "$screen_width": 400,
    "$screen_height": 800,
    "$timezone": "UTC",
    "$browser_language": "en-US",
}
BUTTON = (
    'button.primary:attr__class="primary"attr__id="dead"nth-child="1"nth-of-type="1"text="Buy now";body:nth-child="2"'
)


def request(*events: dict[str, Any], packed: bool = True, enveloped: bool = False) -> dict[str, Any]:
    body = orjson.dumps({"batch": events} if enveloped else list(events))
    return {"method": "POST", "body_b64": base64.b64encode(gzip.compress(body) if packed else body).decode()}


def event(name: str, properties: dict[str, Any], after_ms: int = 0) -> dict[str, Any]:
    return {"event": name, "timestamp": f"2026-11-22T18:51:49.{after_ms:03}Z", "properties": properties}


def snapshot(window_id: str, *items: dict[str, Any]) -> dict[str, Any]:
    return event("$snapshot", {"$window_id": window_id, "$snapshot_data": list(items)})


def item(kind: int, data: Any, after_ms: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": kind, "data": data, "timestamp": START_MS + after_ms, **more}


def click_at(after_ms: int, x: int, y: int) -> dict[str, Any]:
    return item(3, {"source": 2, "type": 2, "id": 7, "x": x, "y": y}, after_ms)


def converted(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = convert_session("s", [request(event("$pageview", VIEW)), *requests])["requests"]
    return found[1:]


def test_a_session_says_who_it_was_and_how_long() -> None:
    session = convert_session(
        "touch", [{"method": "GET"}, request(event("$pageview", VIEW), event("$pageview", VIEW, 900))]
    )
    assert session == {
        "name": "touch",
        "visitor_id": "visitor-1",
        "user_agent": "agent",
        "context": {
            "screen_resolution": "400x800",
            "custom_properties": {"timezone": "UTC", "language": "en-US"},
        },
        "duration_ms": 900,
        "requests": [
            {
                "events": [
                    {
                        "event_type": "pageview",
                        "timestamp": after_ms,
                        "page_url": "http://shop.test/m.html",
                        "page_title": "Mobile shop",
                        "metadata": {"referrer": ""},
                    }
                    for after_ms in (0, 900)
                ]
            }
        ],
    }


def test_a_click_takes_its_place_from_its_twin_in_the_recording() -> None:
    click = event(
        "$autocapture", PAGE | {"$event_type": "click", "$elements_chain": BUTTON, "$el_text": "Buy now"}, 457
    )
    assert converted(request(snapshot("w", click_at(460, 31, 42))), request(click))[1] == {
        "events": [
            {
                "event_type": "click",
                "timestamp": 457,
                "page_url": "http://shop.test/m.html",
                "element_tag": "button",
                "element_id": "dead",
                "element_class": "primary",
                "element_text": "Buy now",
                "element_selector": "#dead",
                "viewport_width": 472,
                "viewport_height": 944,
                "x_position": 31,
                "y_position": 42,
            }
        ]
    }


def test_two_clicks_do_not_share_a_twin_and_a_far_one_is_none() -> None:
    clicks = [
        event("$autocapture", PAGE | {"$event_type": "click", "$elements_chain": BUTTON}, after_ms)
        for after_ms in (100, 180, 600)
    ]
    _, batch = converted(request(snapshot("w", click_at(105, 1, 1), click_at(185, 2, 2))), request(*clicks))
    assert [event.get("x_position") for event in batch["events"]] == [1, 2, None]


def test_changes_of_fields_and_verdicts_of_posthog_are_left_out() -> None:
    change = event("$autocapture", PAGE | {"$event_type": "change", "$elements_chain": BUTTON})
    assert converted(request(change), request(event("$rageclick", PAGE)), request(event("$$heatmap", PAGE))) == []


def test_an_exception_becomes_an_error_with_its_stack() -> None:
    frame = {"function": "pay", "filename": "http://shop.test/app.js", "lineno": 11, "colno": 47}
    cause = {"type": "TypeError", "value": "x is undefined", "stacktrace": {"frames": [frame]}}
    (batch,) = converted(request(event("$exception", PAGE | {"$exception_list": [cause]}, 5)))
    assert batch["events"] == [
        {
            "event_type": "error",
            "timestamp": 5,
            "page_url": "http://shop.test/m.html",
            "error_message": "TypeError: x is undefined",
            "error_stack": "TypeError: x is undefined\n    at pay (http://shop.test/app.js:11:47)",
        }
    ]


def test_each_web_vital_is_an_event_at_its_own_time_and_page() -> None:
    def vital(value: float, after_ms: int) -> dict[str, Any]:
        return {"value": value, "rating": "good", "$current_url": "http://shop.test/", "timestamp": START_MS + after_ms}

    properties = PAGE | {"$web_vitals_LCP_event": vital(948, 30), "$web_vitals_CLS_event": vital(0.01, 40)}
    (batch,) = converted(request(event("$web_vitals", properties, 500)))
    assert batch["events"] == [
        {
            "event_type": "web_vital",
            "timestamp": after_ms,
            "page_url": "http://shop.test/",
            "event_name": name,
            "metadata": {"value": value, "rating": "good"},
        }
        for name, value, after_ms in (("LCP", 948, 30), ("CLS", 0.01, 40))
    ]


def test_a_page_that_is_left_says_how_long_and_how_far() -> None:
    properties = PAGE | {"$prev_pageview_duration": 32.251, "$prev_pageview_max_scroll_percentage": 0.5}
    (batch,) = converted(request(event("$pageleave", properties, 7)))
    assert batch["events"] == [
        {
            "event_type": "page_leave",
            "timestamp": 7,
            "page_url": "http://shop.test/m.html",
            "time_on_page_ms": 32251,
            "scroll_depth": 50,
        }
    ]


def test_chunks_are_grouped_by_request_and_window_and_counted_by_window() -> None:
    requests = [
        request(snapshot("a", item(4, {}, 1)), snapshot("b", item(4, {}, 2)), snapshot("a", item(3, {}, 3))),
        request(snapshot("b", item(3, {}, 4))),
    ]
    assert [(r["window_id"], r["seq"], [e["timestamp"] for e in r["events"]]) for r in converted(*requests)] == [
        ("a", 0, [1, 3]),
        ("b", 0, [2]),
        ("b", 1, [4]),
    ]


def test_what_is_in_a_chunk_stays_as_it_came_but_for_its_times() -> None:
    packed = item(2, "\x1f\x8b\x08\x00\x00", 10, cv="2024-10")
    remote = item(5, {"tag": "$remote_config_received", "payload": {"cache_timestamp": START_MS - 400}}, 20)
    moves = item(3, {"source": 1, "positions": [{"x": 1, "y": 2, "timeOffset": -50}]}, 30)
    (chunk,) = converted(request(snapshot("w", packed, remote, moves)))
    assert chunk["events"] == [
        packed | {"timestamp": 10},
        {
            "type": 5,
            "timestamp": 20,
            "data": {"tag": "$remote_config_received", "payload": {"cache_timestamp": -400}},
        },
        moves | {"timestamp": 30},
    ]


@pytest.mark.parametrize("form", [{"packed": False}, {"enveloped": True}])
def test_plain_and_enveloped_bodies_are_read_too(form: dict[str, bool]) -> None:
    assert len(converted(request(event("$pageview", VIEW, 1), **form))) == 1


@pytest.mark.parametrize(
    ("chain", "selector"),
    [
        ('a.btn:attr__id="go"nth-of-type="3";body:', "#go"),
        ('li:nth-of-type="2";ul:attr__id="list"nth-of-type="1";body:', "#list > li:nth-of-type(2)"),
        ('b:nth-of-type="1";p:nth-of-type="4";body:nth-of-type="1"', "body > p:nth-of-type(4) > b:nth-of-type(1)"),
        ('i:text="a; b: \\"c\\""nth-of-type="5";body:', "body > i:nth-of-type(5)"),
    ],
)
def test_a_selector_starts_at_the_nearest_id(chain: str, selector: str) -> None:
    assert selector_of(parse_chain(chain)) == selector


def test_escaped_quotes_and_semicolons_stay_in_their_value() -> None:
    (element,) = parse_chain('button:attr__class="a;b"text="say \\"hi\\""')
    assert element == ("button", {"attr__class": "a;b", "text": 'say "hi"'})
