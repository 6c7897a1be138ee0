"""What the user did with the pointer: clicks, presses, and what is neither."""

from typing import Any

import pytest

from schemas.signals import Click, Element, NotJudged, PointerDown
from tests.digest_page import (
    T0,
    URL,
    Event,
    Reader,
    clicks,
    el,
    meta,
    page,
    pointer,
    press,
    read,
    text,
)

DOWN, UP, CLICK, MENU, DOUBLE, TOUCH, LIFT, CANCEL = 1, 0, 2, 3, 4, 7, 9, 10
BUTTON = el(7, "button", el(8, "svg"), text(9, "Pay"), id="pay")
DISABLED = el(10, "button", text(11, "Ship"), id="ship", disabled="")
SHOP = page(BUTTON, DISABLED, el(12, "p", text(13, "Terms")))
PAY = Element(tag="button", id="pay", text="Pay", selector="#pay")


def pressed(*events: Event) -> list[tuple[int, int, bool]]:
    """Return time, node and `press` of each click."""
    return [(c.t - T0, c.node, c.press) for c in clicks(read([*SHOP, *events]))]


def why(*body: Any, hit: int = 7) -> NotJudged | None:
    """Return why a click on a node is not judged."""
    (click,) = clicks(read([*page(*body), *press(1_000, hit)]))
    return click.not_judged


def test_a_click_is_told_whole() -> None:
    found = read([*SHOP, *press(1_000, 8, x=3, y=4)])
    assert [s for s in found if isinstance(s, Click | PointerDown)] == [
        PointerDown(T0 + 1_000, window="w", node=7),
        Click(T0 + 1_090, x=3, y=4, window="w", node=7, element=PAY, page_url=URL, down=T0 + 1_000),
    ]


def test_what_is_hit_within_a_control_is_the_control_and_elsewhere_the_node_itself() -> None:
    assert pressed(*press(1_000, 9), *press(3_000, 12)) == [(1_090, 7, False), (3_090, 12, False)]


def test_coordinates_with_a_fraction_are_rounded() -> None:
    click = pointer(CLICK, 1_000, 7)
    click["data"] |= {"x": 10.6, "y": -3.5}
    (found,) = clicks(read([*SHOP, click]))
    assert (found.x, found.y) == (11, -4)


def test_a_click_without_a_pointer_down_counts() -> None:
    (found,) = clicks(read([*SHOP, pointer(CLICK, 1_000, 7)]))
    assert (found.t, found.down) == (T0 + 1_000, 0)


def test_a_double_click_gives_its_two_clicks_and_no_third() -> None:
    both = [*press(1_000, 7), *press(1_200, 7), pointer(DOUBLE, 1_291, 7)]
    assert pressed(*both) == [(1_090, 7, False), (1_290, 7, False)]


def test_a_context_menu_is_no_click() -> None:
    assert pressed(pointer(DOWN, 1_000, 10), pointer(MENU, 1_010, 10), pointer(UP, 1_090, 10)) == []
    assert pressed(pointer(DOWN, 1_000, 10), pointer(UP, 1_090, 10), pointer(MENU, 1_091, 10)) == []


def test_a_drag_of_more_than_8_px_is_no_click() -> None:
    def drag(px: int) -> list[Event]:
        return [pointer(DOWN, 1_000, 12, x=10), pointer(UP, 1_400, 12, x=10 + px), pointer(CLICK, 1_401, 12, x=10 + px)]

    assert pressed(*drag(8)) == [(1_401, 12, False)]
    assert pressed(*drag(9)) == []


def test_a_long_drag_is_no_click_either() -> None:
    assert pressed(pointer(DOWN, 1_000, 12), pointer(UP, 9_000, 12, x=400), pointer(CLICK, 9_001, 12, x=400)) == []


def test_a_keyboard_click_is_not_judged() -> None:
    (found,) = clicks(read([*SHOP, pointer(CLICK, 1_000, 7, x=0, y=0)]))
    assert found == Click(T0 + 1_000, window="w", node=7, element=PAY, page_url=URL, not_judged=NotJudged.KEYBOARD)


# Presses


def test_a_press_on_a_disabled_control_is_a_click_at_its_pointer_down() -> None:
    found = read([*SHOP, pointer(DOWN, 1_000, 10), pointer(UP, 1_100, 10), meta(3_000)])
    assert clicks(found) == [
        Click(
            T0 + 1_000,
            x=50,
            y=60,
            window="w",
            node=10,
            element=Element(tag="button", id="ship", text="Ship", selector="#ship"),
            page_url=URL,
            press=True,
            down=T0 + 1_000,
        )
    ]


def test_a_press_within_a_disabled_fieldset_is_a_click() -> None:
    body = page(el(7, "fieldset", el(8, "button", text(9, "Pay")), disabled=True))
    assert [c.node for c in clicks(read([*body, *press(1_000, 8)[:2]]))] == [8]


@pytest.mark.parametrize(
    ("down", "up"),
    [
        (pointer(DOWN, 1_000, 7), pointer(UP, 1_100, 7)),
        (pointer(DOWN, 1_000, 10), pointer(UP, 1_601, 10)),
        (pointer(DOWN, 1_000, 10), pointer(UP, 1_100, 12)),
        (pointer(DOWN, 1_000, 10, x=5), pointer(UP, 1_100, 10, x=12)),
    ],
    ids=["enabled", "held too long", "another node", "moved"],
)
def test_what_is_no_press_gives_none(down: Event, up: Event) -> None:
    assert pressed(down, up) == []


def test_a_press_is_sent_at_the_end_of_its_chunk_and_its_click_is_not_counted_again() -> None:
    reader = Reader()
    first = reader.read([*SHOP, pointer(DOWN, 1_000, 10), pointer(UP, 1_100, 10)])
    second = reader.read([pointer(CLICK, 1_101, 10), *press(2_000, 7)])
    assert [(c.t - T0, c.press) for c in clicks(first)] == [(1_000, True)]
    assert [(c.t - T0, c.press) for c in clicks(second)] == [(2_090, False)]


def test_a_press_on_an_option_is_none() -> None:
    body = page(el(7, "select", el(8, "option"), disabled=""))
    assert clicks(read([*body, *press(1_000, 8)[:2]])) == []


# Touch


def tap(t: int, node: int, *, click_after: int = 30) -> list[Event]:
    return [pointer(TOUCH, t, node), pointer(LIFT, t + 40, node), pointer(CLICK, t + 40 + click_after, node)]


def test_a_tap_is_one_click_however_late_it_comes() -> None:
    assert pressed(*tap(1_000, 7), *tap(3_000, 7, click_after=700)) == [(1_070, 7, False), (3_740, 7, False)]


def test_the_mouse_events_that_follow_a_tap_are_its_twins() -> None:
    events = [*tap(1_000, 7)[:2], pointer(DOWN, 1_045, 7), pointer(UP, 1_046, 7), pointer(CLICK, 1_047, 7)]
    found = [s for s in read([*SHOP, *events]) if isinstance(s, Click | PointerDown)]
    assert [(type(s), s.t - T0) for s in found] == [(PointerDown, 1_000), (Click, 1_047)]


def test_a_tap_without_a_click_is_a_press() -> None:
    assert pressed(*tap(1_000, 7)[:2], *press(3_000, 12)) == [(1_000, 7, True), (3_090, 12, False)]


def test_taps_on_a_disabled_control_are_presses_each() -> None:
    events = [event for t in (1_000, 1_150, 1_300) for event in tap(t, 10)[:2]]
    assert pressed(*events) == [(1_000, 10, True), (1_150, 10, True), (1_300, 10, True)]


def test_a_tap_at_the_end_of_a_chunk_waits_for_its_click() -> None:
    reader = Reader()
    assert clicks(reader.read([*SHOP, *tap(1_000, 7)[:2]])) == []
    assert [(c.t - T0, c.press) for c in clicks(reader.read(tap(1_000, 7)[2:]))] == [(1_070, False)]


def test_a_tap_at_the_end_of_a_chunk_without_a_click_is_a_press_of_the_next() -> None:
    reader = Reader()
    reader.read([*SHOP, *tap(1_000, 7)[:2]])
    assert [(c.t - T0, c.press) for c in clicks(reader.read([meta(2_000)]))] == [(1_000, True)]


def test_a_tap_that_stops_a_rolling_page_is_no_press() -> None:
    scroll = {"type": 3, "timestamp": T0 + 900, "data": {"source": 3, "id": 1, "x": 0, "y": 5}}
    assert pressed(scroll, *tap(1_000, 7)[:2], meta(3_000)) == []


def test_a_touch_that_was_cancelled_is_no_press() -> None:
    assert pressed(pointer(TOUCH, 1_000, 7), pointer(CANCEL, 1_010, 7), pointer(LIFT, 1_020, 7), meta(3_000)) == []


# Labels


def test_a_label_and_its_control_are_one_click() -> None:
    body = page(el(7, "label", text(8, "News")), el(9, "input", type="checkbox"))
    events = [*press(1_000, 7), pointer(CLICK, 1_092, 9)]
    assert [(c.node, c.not_judged) for c in clicks(read([*body, *events]))] == [(7, None)]


def test_a_label_is_judged_as_its_control_is() -> None:
    body = page(el(7, "label", text(8, "Upload")), el(9, "input", type="file"))
    events = [*press(1_000, 7), pointer(CLICK, 1_092, 9)]
    assert [(c.node, c.not_judged) for c in clicks(read([*body, *events]))] == [(7, NotJudged.SELECT)]


def test_two_clicks_41_ms_apart_are_no_twins() -> None:
    assert pressed(pointer(CLICK, 1_000, 7), pointer(CLICK, 1_041, 12)) == [(1_000, 7, False), (1_041, 12, False)]


# What cannot be judged


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        (el(7, "button"), None),
        (el(7, "input", type="text"), NotJudged.TEXT_ENTRY),
        (el(7, "input"), NotJudged.TEXT_ENTRY),
        (el(7, "input", type="DATE"), NotJudged.TEXT_ENTRY),
        (el(7, "textarea"), NotJudged.TEXT_ENTRY),
        (el(7, "input", type="text", disabled=""), None),
        (el(7, "input", type="checkbox"), None),
        (el(7, "input", type="range"), None),
        (el(7, "input", type="submit"), None),
        (el(7, "input", type="file"), NotJudged.SELECT),
        (el(7, "select"), NotJudged.SELECT),
        (el(7, "canvas"), NotJudged.CANVAS),
        (el(7, "video"), NotJudged.MEDIA),
        (el(7, "audio"), NotJudged.MEDIA),
        (el(7, "div", contenteditable=""), NotJudged.EDITABLE),
        (el(7, "div", contenteditable="false"), None),
        (el(7, "div", role="textbox"), NotJudged.EDITABLE),
        (el(7, "a", href="/x"), NotJudged.LINK),
        (el(7, "a", href="#part"), NotJudged.LINK),
        (el(7, "a", href="https://shop.example/cart#"), None),
        (el(7, "a", href="#"), None),
        (el(7, "a", href="JavaScript:void(0)"), None),
        (el(7, "a"), None),
        (el(7, "a", href="/x", download=""), NotJudged.DOWNLOAD),
        (el(7, "a", href="/x", target="_blank"), NotJudged.NEW_WINDOW),
        (el(7, "a", href="/x", target="_self"), NotJudged.LINK),
        (el(7, "button", popovertarget="menu"), NotJudged.POPOVER),
        (el(7, "button", commandfor="menu"), NotJudged.POPOVER),
    ],
    ids=lambda value: value if isinstance(value, str) else str((value or {}).get("attributes", "")),
)
def test_why_a_click_is_not_judged(element: Any, reason: NotJudged | None) -> None:
    assert why(element) == reason


def test_an_ancestor_makes_a_click_unjudged_too() -> None:
    assert why(el(7, "a", el(8, "b", text(9, "More")), href="/x"), hit=8) == NotJudged.LINK


def test_a_strong_reason_goes_before_a_link() -> None:
    assert why(el(7, "a", el(8, "canvas"), href="/x"), hit=8) == NotJudged.CANVAS


def test_a_node_that_the_recording_does_not_know_is_not_judged() -> None:
    (found,) = clicks(read([*SHOP, *press(1_000, 99)]))
    assert (found.node, found.element, found.not_judged) == (99, None, NotJudged.UNKNOWN_NODE)


def test_without_a_document_no_node_is_known() -> None:
    (found,) = clicks(read(press(1_000, 7)))
    assert found.not_judged == NotJudged.UNKNOWN_NODE


@pytest.mark.parametrize(
    "body",
    [
        el(7, "x-votes"),
        el(7, "iframe"),
        el(7, "embed"),
    ],
)
def test_what_has_no_inside_in_the_recording_is_not_judged(body: Any) -> None:
    assert why(body) == NotJudged.CANVAS


@pytest.mark.parametrize(
    "body",
    [
        el(7, "x-votes", text(8, "Vote")),
        el(9, "button", el(7, "x-icon")),
    ],
)
def test_a_custom_element_whose_inside_or_control_is_known_is_judged(body: Any) -> None:
    assert why(body) is None


@pytest.mark.parametrize(
    "body",
    [
        el(9, "div", el(10, "canvas"), text(11, " "), el(7, "button")),
        el(9, "div", el(12, "nav", el(7, "button"), el(13, "button")), el(14, "div", el(10, "canvas"))),
    ],
    ids=["beside it", "in the bar above"],
)
def test_a_control_beside_a_canvas_draws_on_it(body: Any) -> None:
    assert why(body) == NotJudged.CANVAS


@pytest.mark.parametrize(
    "body",
    [
        el(9, "div", el(10, "canvas"), el(12, "p", text(13, "x")), el(7, "button")),
        el(9, "div", el(10, "canvas"), el(7, "p", text(8, "x"))),
    ],
    ids=["something between", "no control"],
)
def test_what_is_farther_from_a_canvas_is_judged(body: Any) -> None:
    assert why(body) is None


@pytest.mark.parametrize(
    ("passed_on", "reason"),
    [
        (el(9, "input", type="file"), NotJudged.SELECT),
        (el(9, "a", href="blob:x", download=""), NotJudged.DOWNLOAD),
        (el(9, "a", href="https://other.example/", target="_blank"), NotJudged.NEW_WINDOW),
        (el(9, "button"), None),
    ],
    ids=["file picker", "download", "new tab", "another button"],
)
def test_a_click_is_judged_by_what_its_handler_clicks(passed_on: Any, reason: NotJudged | None) -> None:
    events = [*press(1_000, 7), pointer(CLICK, 1_092, 9, x=0, y=0)]
    (click,) = clicks(read([*page(el(7, "button"), passed_on), *events]))
    assert (click.node, click.not_judged) == (7, reason)


def test_a_key_pressed_later_makes_a_click_of_its_own() -> None:
    events = [*press(1_000, 7), pointer(CLICK, 1_191, 10, x=0, y=0)]
    assert [c.not_judged for c in clicks(read([*SHOP, *events]))] == [None, NotJudged.KEYBOARD]
