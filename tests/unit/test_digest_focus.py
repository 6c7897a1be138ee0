"""What the coming and going of the focus shows, by the page's style sheets alone, and when it leaves the page."""

from typing import Any

import pytest

from schemas.signals import Change, ChangeKind
from stream_processors.digest import sheets
from stream_processors.digest.sheets import holders_in, kept_text, of_text, read_holders
from tests.digest_page import T0, Event, Node, changes, el, pointer, press, read, snapshot, text

MENU_CSS = ".dd ul { display: none; }.dd:focus-within ul { display: block; }"
TAP_CSS = "li:hover > .sub { visibility: visible }"


@pytest.mark.parametrize(
    ("css", "holders"),
    [
        (MENU_CSS, "w.dd"),
        ("#a.b.c:focus-within > .list{opacity:1}", "w#a.b.c"),
        (".btn:focus + .menu { max-height: 90px }", "f.btn"),
        (".btn:focus ~ .menu { left: 0 }", "f.btn"),
        (".x, nav.dd:not(.off):focus-within .y { display: flex }", "wnav.dd"),
        ("@media (min-width: 1px) { .group:focus-within .group-focus-within\\:block { display: block } }", "w.group"),
        (TAP_CSS, "hli"),
        (".a:hover ul, .b:hover ul { display: block }", "h.a\nh.b"),
    ],
)
def test_a_rule_that_shows_another_element_is_kept_by_what_holds_it(css: str, holders: str) -> None:
    assert holders_in(css) == holders


@pytest.mark.parametrize(
    "css",
    [
        ".dd:focus-within { display: block }",
        ".dd:focus-within ul { color: red }",
        ".btn:focus { outline: 1px }",
        ".btn:hover::after { width: 100% }",
        ".btn:hover .line::after { width: 100% }",
        ".btn:focus-visible + .ring { display: block }",
        "body:hover .x { display: block }",
        ":hover .x { display: block }",
        ".dd:focus-within ul { display: block",
        ".dd:focus-within ul",
        "",
    ],
)
def test_how_a_control_feels_is_not_kept(css: str) -> None:
    assert holders_in(css) == ""


def test_a_sheet_of_any_size_keeps_little() -> None:
    css = "".join(f".c{n}:hover .m{n} {{ display: block }}" for n in range(20_000))
    assert len(holders_in(css).splitlines()) == sheets.MAX_HOLDERS


def test_a_sheet_recorded_as_text_is_kept_likewise() -> None:
    assert of_text(kept_text(MENU_CSS)) == "w.dd"
    assert kept_text(MENU_CSS) != kept_text(MENU_CSS + "a{}")
    assert of_text("w.dd") == ""


def test_holders_are_found_by_tag_id_and_classes() -> None:
    (holder,) = read_holders("wli#a.b.c")
    assert holder.matches("li", {"id": "a", "class": "c x b"})
    assert not holder.matches("ul", {"id": "a", "class": "b c"})
    assert not holder.matches("li", {"id": "a", "class": "b"})
    assert not holder.matches("li", {"class": "b c"})


def sheet(css: str, *, as_text: bool = False) -> Node:
    if as_text:
        return el(30, "style", {"type": 3, "id": 31, "textContent": css, "isStyle": True})
    return {"type": 2, "id": 30, "tagName": "link", "attributes": {"_cssText": css}, "childNodes": []}


def shop(css: str = MENU_CSS, *, as_text: bool = False) -> list[Event]:
    menu = el(7, "div", el(8, "button"), el(9, "ul", el(10, "li", text(11, "One")), el(12, "input")), class_="row dd")
    head = el(3, "head", sheet(css, as_text=as_text))
    body = el(6, "body", menu, el(14, "p", text(15, "Terms")), el(16, "button"))
    return [snapshot(0, {"type": 0, "id": 1, "childNodes": [el(2, "html", head, body)]})]


def clicked(t: int, node: int, *, gone: int = 0, got: int = 0) -> list[Event]:
    """Return a click with the focus events of its pointer-down."""
    down, *rest = press(t, node)
    focus = [pointer(6, t + 1, gone)] * bool(gone) + [pointer(5, t + 2, got)] * bool(got)
    return [down, *focus, *rest]


def sent(*events: Event, css: str = MENU_CSS, as_text: bool = False) -> list[Change]:
    return changes(read([*shop(css, as_text=as_text), *events]))


def change(t: int, what: ChangeKind = ChangeKind.DOM, **more: Any) -> Change:
    return Change(T0 + t, what, window="w", **more)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_menu_that_opens_with_the_focus_answers_the_click(*, as_text: bool) -> None:
    assert sent(*clicked(1_000, 8, got=8), as_text=as_text) == [change(1_002, node=7, place="@focus")]


def test_a_menu_that_closes_as_the_focus_leaves_answers_the_click() -> None:
    events = [*clicked(1_000, 8, got=8), *clicked(4_000, 14, gone=8)]
    assert sent(*events)[1:] == [change(4_001, node=7, place="@focus")]


def test_focus_that_moves_within_a_menu_shows_nothing() -> None:
    events = [*clicked(1_000, 8, got=8), *clicked(4_000, 12, gone=8, got=12)]
    assert sent(*events)[1:] == [
        change(4_001, node=7, place="@focus"),
        change(4_002, node=7, place="@focus", undoes=T0 + 4_001),
    ]


def test_a_button_elsewhere_that_takes_the_focus_shows_nothing() -> None:
    assert sent(*clicked(1_000, 16, got=16)) == []


def test_what_stands_beside_the_focus_needs_the_focus_itself() -> None:
    css = ".dd:focus + p { display: block }"
    assert sent(*clicked(1_000, 8, got=8), css=css) == []
    assert sent(*clicked(1_000, 14, got=7), css=css)[-1] == change(1_002, node=7, place="@focus")


def test_a_tap_opens_what_is_shown_under_the_pointer_and_closes_it_elsewhere() -> None:
    def tap(t: int, node: int) -> list[Event]:
        return [pointer(7, t, node), pointer(9, t + 60, node), pointer(2, t + 90, node)]

    css = ".dd:hover ul { display: block }"
    events = [*tap(1_000, 8), *tap(4_000, 10), *tap(8_000, 14)]
    assert sent(*events, css=css) == [
        change(1_090, node=7, place="@hover"),
        change(8_090, node=7, place="@hover"),
    ]
    assert sent(*press(1_000, 8), css=css) == []


def test_focus_that_goes_although_nothing_is_pressed_went_to_another_window() -> None:
    assert sent(*clicked(1_000, 16, got=16), pointer(6, 1_200, 16)) == [change(1_200, ChangeKind.VISIBILITY)]


def test_focus_that_goes_as_the_pointer_goes_down_is_no_answer() -> None:
    assert sent(*clicked(1_000, 14, gone=16)) == []


def test_after_a_tap_the_focus_goes_with_its_mouse_events() -> None:
    tap = [pointer(7, 1_000, 14), pointer(9, 1_060, 14), pointer(6, 1_080, 16), pointer(2, 1_090, 14)]
    assert sent(*tap) == []


def test_a_page_of_a_script_that_moves_the_focus_all_the_time_is_looked_through_a_limited_number_of_times() -> None:
    events = [pointer(5 + n % 2, 1_100, 8) for n in range(3_000)]
    assert len(sent(*press(1_000, 8), *events)) < 1_000
