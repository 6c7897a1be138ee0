"""Pages of a window, forms, errors."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.signals import (
    Change,
    ChangeKind,
    FormSubmit,
    FormTouch,
    Leave,
    PageView,
    PointerDown,
    ScriptError,
    Signal,
)
from tests.digest_page import (
    T0,
    URL,
    Event,
    Node,
    Reader,
    clicks,
    document,
    el,
    event,
    incremental,
    meta,
    mutation,
    page,
    pointer,
    press,
    read,
    snapshot,
    text,
)

OTHER = "https://shop.example/thanks"
BUTTON = el(7, "button", text(8, "Go"))


def of_kind(found: list[Signal], *kinds: type[Signal]) -> list[Signal]:
    return [signal for signal in found if isinstance(signal, kinds)]


def views(*events: Event) -> list[Signal]:
    return of_kind(read(events), PageView, Leave)


def load(t: int) -> list[Event]:
    return [event(0, t, {}), event(1, t, {})]


# Pages


def test_a_page_is_viewed_with_its_title() -> None:
    assert views(*page()) == [PageView(T0, url=URL, title="Cart", window="w")]


def test_another_page_leaves_the_first_and_answers_a_click() -> None:
    found = read([*page(BUTTON), *press(1_000, 7), *page(t=1_500, href=OTHER, title="Thanks")])
    assert of_kind(found, PageView, Leave, Change)[1:] == [
        Leave(T0 + 1_500, url=URL, window="w"),
        Change(T0 + 1_500, ChangeKind.NAVIGATION, window="w"),
        PageView(T0 + 1_500, url=OTHER, title="Thanks", window="w"),
        Change(T0 + 1_501, ChangeKind.SNAPSHOT, window="w"),
    ]


def test_a_page_loaded_again_is_viewed_again_and_not_left() -> None:
    assert views(*page(), *load(2_000), *page(t=2_001)) == [
        PageView(T0, url=URL, title="Cart", window="w"),
        PageView(T0 + 2_001, url=URL, title="Cart", window="w"),
    ]


def test_a_page_whose_snapshot_comes_with_the_next_chunk_is_viewed_once() -> None:
    reader = Reader()
    assert of_kind(reader.read([meta()]), PageView) == [PageView(T0, url=URL, window="w")]
    assert of_kind(reader.read([snapshot(1, document())]), PageView) == []


def test_a_checkout_of_a_page_that_has_changed_says_nothing() -> None:
    added = mutation(500, adds=[(6, None, el(9, "p"))])
    again = [meta(1_500), snapshot(1_501, document(BUTTON, el(9, "p")))]
    assert of_kind(read([*page(BUTTON), added, *press(1_000, 7), *again]), PageView, Change) == [
        PageView(T0, url=URL, title="Cart", window="w")
    ]


def test_a_load_that_follows_the_snapshot_of_its_page_announces_no_other() -> None:
    events = [event(0, 0, {}), *page(BUTTON), event(1, 300, {}), mutation(500, adds=[(6, None, el(9, "p"))])]
    again = [meta(1_500), snapshot(1_501, document(BUTTON, el(9, "p")))]
    assert [s.t - T0 for s in of_kind(read([*events, *again]), PageView)] == [0]


def test_a_checkout_whose_address_has_a_fragment_that_the_route_had_not_is_no_other_page() -> None:
    route = event(5, 400, {"tag": "$url_changed", "payload": {"href": OTHER}})
    events = [*page(BUTTON), route, mutation(500, adds=[(6, None, el(9, "p"))])]
    again = [meta(1_500, OTHER + "#top"), snapshot(1_501, document(BUTTON, el(9, "p")))]
    assert [s.t - T0 for s in of_kind(read([*events, *again]), PageView)] == [0, 400]


def test_a_checkout_of_a_page_that_lost_nodes_says_nothing() -> None:
    events = [*page(BUTTON, el(9, "p")), mutation(500, removes=[(6, 7)]), *press(1_000, 9)]
    lagging = document(el(9, "p"), el(12, "i"))
    assert of_kind(read([*events, meta(1_500), snapshot(1_501, lagging)]), PageView, Change) == [
        PageView(T0, url=URL, title="Cart", window="w")
    ]


def test_a_page_that_may_have_been_reloaded_answers_and_is_no_view() -> None:
    found = read([*page(BUTTON), *press(1_000, 7), *page(BUTTON, t=1_500)])
    assert of_kind(found, PageView, Change) == [
        PageView(T0, url=URL, title="Cart", window="w"),
        Change(T0 + 1_501, ChangeKind.SNAPSHOT, window="w"),
    ]


def test_a_reload_that_shows_another_document_is_a_view() -> None:
    found = read([*page(BUTTON), *press(1_000, 7), *page(BUTTON, el(9, "p"), t=1_500)])
    assert [s.t - T0 for s in of_kind(found, PageView)] == [0, 1_501]


@pytest.mark.parametrize("tag", ["$pageview", "$url_changed", "navigation"])
def test_a_route_is_viewed_and_leaves_nothing(tag: str) -> None:
    found = read([*page(BUTTON), *press(1_000, 7), event(5, 1_200, {"tag": tag, "payload": {"href": OTHER}})])
    assert of_kind(found, PageView, Leave, Change)[1:] == [
        Change(T0 + 1_200, ChangeKind.NAVIGATION, window="w"),
        PageView(T0 + 1_200, url=OTHER, window="w"),
    ]


@pytest.mark.parametrize("href", [URL, URL + "#top"])
def test_an_address_that_is_the_same_is_no_route(href: str) -> None:
    assert len(views(*page(), event(5, 1_200, {"tag": "$url_changed", "payload": {"href": href}}))) == 1


@pytest.mark.parametrize("data", [{"tag": ["x"]}, {"tag": "$pageview"}, {"tag": "x", "payload": {"href": OTHER}}, {}])
def test_other_custom_events_say_nothing(data: dict[str, Any]) -> None:
    assert len(views(*page(), event(5, 1_200, data))) == 1


def test_a_hidden_window_is_left_for_now() -> None:
    found = read([*page(BUTTON), *press(1_000, 7), event(5, 1_200, {"tag": "window hidden"})])
    assert of_kind(found, Leave, Change) == [
        Change(T0 + 1_200, ChangeKind.VISIBILITY, window="w"),
        Leave(T0 + 1_200, url=URL, window="w", hidden=True),
    ]


def test_a_document_that_is_damaged_is_unknown_until_the_next() -> None:
    found = read([meta(), snapshot(1, el(1, "p", el(1, "p"))), *press(1_000, 7), *page(BUTTON, t=2_000, href=OTHER)])
    assert [c.node for c in clicks(found)] == [7]
    assert clicks(found)[0].element is None
    assert of_kind(read([*page(BUTTON), *press(1_000, 7)]), PointerDown)


# Windows


def test_what_a_window_tells_does_not_depend_on_the_chunks_of_others() -> None:
    windows = {"w": [*page(BUTTON), *press(1_500, 7)], "popup": page(t=2_000, href=OTHER)}
    one, other = Reader(), Reader()
    told = {name: one.read(events, window=name) for name, events in windows.items()}
    assert told == {name: other.read(events, window=name) for name, events in reversed(windows.items())}
    assert of_kind(told["popup"], PageView, Change) == [PageView(T0 + 2_000, OTHER, "Cart", window="popup")]


# Forms


def form(*fields: Node, **attributes: Any) -> list[Event]:
    submit = el(30, "button", text(31, "Send"))
    return page(el(7, "form", *fields, submit, id="signup", **attributes))


EMAIL = el(8, "input", type="email", name="email")


def typed(t: int, node: int, value: str = "a", *, checked: bool = False, **more: Any) -> Event:
    return incremental(t, 5, id=node, text=value, isChecked=checked, **more)


def forms(*events: Event) -> list[Signal]:
    return of_kind(read(events), FormTouch, FormSubmit)


TOUCH = FormTouch(T0 + 1_000, form="#signup", field="email", page_url=URL, window="w")
SUBMIT = FormSubmit(T0 + 5_090, form="#signup", page_url=URL, window="w")


def test_a_field_that_has_the_focus_is_touched_once() -> None:
    events = [pointer(5, 900, 8), typed(1_000, 8, "a"), typed(1_100, 8, "ab")]
    assert forms(*form(EMAIL), *events) == [TOUCH]


def test_nothing_that_was_typed_is_ever_sent() -> None:
    reader = Reader()
    digest = reader.digest([*form(EMAIL), pointer(5, 900, 8), typed(1_000, 8, "secret"), *press(2_000, 8)])
    assert "secret" not in str(digest)
    assert reader.session is not None
    assert b"secret" not in reader.logic.encode(reader.session)


def test_a_box_that_was_pressed_is_touched() -> None:
    box = el(8, "input", type="checkbox", name="news")
    assert [s.t - T0 for s in forms(*form(box), *press(1_000, 8), typed(1_095, 8, "on", checked=True))] == [1_095]


def test_what_the_page_fills_in_itself_is_no_touch() -> None:
    assert forms(*form(EMAIL), typed(1_000, 8)) == []
    assert forms(*form(EMAIL), pointer(5, 900, 8), typed(1_000, 8, userTriggered=False)) == []


def test_a_field_without_a_form_is_no_touch() -> None:
    assert forms(*page(EMAIL), pointer(5, 900, 8), typed(1_000, 8)) == []


def test_a_click_on_a_submit_control_sends_the_form() -> None:
    assert forms(*form(EMAIL), *press(5_000, 30)) == [SUBMIT]


def test_a_field_may_be_touched_again_after_a_submit() -> None:
    events = [pointer(5, 900, 8), typed(1_000, 8), *press(5_000, 30), pointer(5, 6_000, 8), typed(6_100, 8)]
    assert [type(s) for s in forms(*form(EMAIL), *events)] == [FormTouch, FormSubmit, FormTouch]


@pytest.mark.parametrize(
    ("field", "filled", "is_sent"),
    [
        (el(8, "input", name="a", required=""), [], False),
        (el(8, "input", name="a", required=""), [typed(1_000, 8, "x")], True),
        (el(8, "input", name="a", required=""), [typed(1_000, 8, "x"), typed(1_001, 8, "")], False),
        (el(8, "input", name="a", required="", value="given"), [], True),
        (el(8, "input", name="a", required="", disabled=""), [], True),
        (el(8, "input", type="checkbox", required=""), [], False),
        (el(8, "input", type="checkbox", required=""), [typed(1_000, 8, "on", checked=True)], True),
        (el(8, "textarea", required=""), [], False),
    ],
)
def test_a_form_with_an_empty_required_field_is_not_sent(field: Node, filled: list[Event], is_sent: bool) -> None:
    found = forms(*form(field), pointer(5, 900, 8), *filled, *press(5_000, 30))
    assert (SUBMIT in found) == is_sent


def test_a_form_without_validation_is_sent_as_it_is() -> None:
    assert forms(*form(el(8, "input", required=""), novalidate=""), *press(5_000, 30)) == [SUBMIT]


@pytest.mark.parametrize("kind", [{"type": "button"}, {"type": "reset"}, {"disabled": ""}])
def test_other_buttons_send_nothing(kind: dict[str, str]) -> None:
    assert forms(*page(el(7, "form", el(30, "button", **kind))), *press(5_000, 30)) == []


def test_a_button_elsewhere_that_names_the_form_sends_it() -> None:
    body = [el(7, "form", EMAIL, id="signup"), el(30, "button", form="signup")]
    events = [pointer(5, 900, 8), typed(1_000, 8), *press(5_000, 30)]
    assert forms(*page(*body), *events) == [TOUCH, SUBMIT]


def test_a_button_that_passes_its_click_on_to_the_submit_control_sends_the_form() -> None:
    body = [el(7, "form", EMAIL, el(30, "button", hidden=""), id="signup"), el(32, "button")]
    relayed = pointer(2, 5_091, 30, x=0, y=0)
    assert forms(*page(*body), *press(5_000, 32), relayed) == [replace(SUBMIT, t=T0 + 5_091)]


@pytest.mark.parametrize("button", [[], [el(30, "button", type="button")]], ids=["no button", "a scripted one"])
def test_what_becomes_of_a_form_without_a_submit_control_is_not_known(button: list[Node]) -> None:
    body = page(el(7, "form", EMAIL, *button, id="search"))
    assert forms(*body, pointer(5, 900, 8), typed(1_000, 8)) == []


def test_enter_sends_a_form_through_its_button() -> None:
    assert forms(*form(EMAIL), pointer(2, 5_090, 30, x=0, y=0)) == [SUBMIT]


# Errors


def console(t: int, *arguments: Any, level: str = "error", **more: Any) -> Event:
    payload = {"level": level, "payload": list(arguments), "trace": ["f (/a.js:1:2)", "g (/a.js:3:4)"]} | more
    return event(6, t, {"plugin": "rrweb/console@1", "payload": payload})


def errors(*events: Event) -> list[Signal]:
    return of_kind(read([*page(), *events]), ScriptError)


def test_an_uncaught_error_of_the_console_is_told() -> None:
    assert errors(console(1_000, '"Uncaught TypeError: x is undefined"')) == [
        ScriptError(
            T0 + 1_000,
            message="Uncaught TypeError: x is undefined",
            stack="f (/a.js:1:2)\ng (/a.js:3:4)",
            page_url=URL,
        )
    ]


@pytest.mark.parametrize("argument", ['"Error: no shop"', "RangeError: x\nEnd of stack", '"Unhandled rejection: x"'])
def test_an_exception_that_the_page_logged_is_told(argument: str) -> None:
    assert len(errors(console(1_000, '"Saving failed"', argument))) == 1


@pytest.mark.parametrize(
    "told",
    [
        console(1_000, '"gift wrap not available"'),
        console(1_000, '"Error: x"', level="warn"),
        console(1_000, {"a": 1}),
        event(6, 1_000, {"plugin": "other", "payload": {"level": "error", "payload": ['"Error: x"']}}),
        event(6, 1_000, {"plugin": "rrweb/console@1", "payload": None}),
    ],
)
def test_what_is_no_exception_is_not_told(told: Event) -> None:
    assert errors(told) == []


def test_an_error_is_cut_and_holds_no_nul() -> None:
    (found,) = errors(console(1_000, "Error: \0" + "x" * 5_000))
    assert isinstance(found, ScriptError)
    assert (found.message[:8], len(found.message)) == ("Error: \ufffd", 1_000)
