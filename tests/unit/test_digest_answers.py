"""Which changes are sent as possible answers to a click, and with which marks."""

from typing import Any

import pytest

from schemas.signals import Change, ChangeKind
from stream_processors.digest import answers, formers
from stream_processors.digest.background import Background
from tests.digest_page import (
    T0,
    Event,
    Reader,
    changes,
    el,
    event,
    incremental,
    mutation,
    page,
    pointer,
    press,
    read,
    text,
)

SHOP = page(
    el(7, "button", text(8, "Pay"), class_="btn"),
    el(9, "p", text(10, "3 items"), id="count"),
    el(11, "div", el(12, "i"), id="toasts"),
    el(13, "canvas"),
    t=0,
)
CLICK = press(1_000, 7)
"""Down at 1,000, click at 1,090."""


def sent(*events: Event) -> list[Change]:
    return changes(read([*SHOP, *events]))


def change(t: int, what: ChangeKind = ChangeKind.DOM, **more: Any) -> Change:
    return Change(T0 + t, what, window="w", **more)


# What is near a click


@pytest.mark.parametrize("t", [850, 1_000, 1_090, 3_690])
def test_a_change_near_a_click_is_sent(t: int) -> None:
    events = sorted([*CLICK, mutation(t, texts=[(10, "4 items")])], key=lambda e: int(e["timestamp"]))
    assert sent(*events) == [change(t, node=10, place="#text")]


def test_a_change_that_is_not_near_a_click_is_not_sent() -> None:
    assert sent(mutation(849, texts=[(10, "4 items")]), *CLICK) == []


# Late answers


@pytest.mark.parametrize(("t", "is_sent"), [(3_691, True), (11_190, True), (11_191, False)])
def test_a_click_without_an_answer_is_followed_for_ten_seconds(t: int, is_sent: bool) -> None:
    assert sent(*CLICK, mutation(t, texts=[(10, "4 items")])) == [change(t, node=10, place="#text")] * is_sent


def test_only_the_first_of_late_answers_is_sent() -> None:
    late = [mutation(4_000, texts=[(10, "a")]), mutation(5_000, attributes=[(9, {"class": "x"})])]
    assert [c.t - T0 for c in sent(*CLICK, *late)] == [4_000]


def test_a_click_with_an_answer_is_followed_no_longer() -> None:
    answers_ = [mutation(1_200, texts=[(10, "a")]), mutation(4_000, attributes=[(9, {"class": "x"})])]
    assert [c.t - T0 for c in sent(*CLICK, *answers_)] == [1_200]


@pytest.mark.parametrize(
    "told",
    [
        incremental(3_900, 3, id=1, x=0, y=80),
        incremental(3_900, 5, id=7, text="x", isChecked=False),
        pointer(1, 2_000, 9),
    ],
    ids=["scrolls", "types", "presses something"],
)
def test_a_user_who_does_something_else_waits_no_longer(told: Event) -> None:
    assert [c for c in sent(*CLICK, told, mutation(4_000, texts=[(10, "a")])) if c.what is ChangeKind.DOM] == []


def test_so_late_a_place_that_had_changed_before_answers_nothing() -> None:
    before = mutation(900, texts=[(10, "a")])
    assert [c.t - T0 for c in sent(before, *press(1_200, 7), mutation(5_000, texts=[(10, "b")]))] == []
    assert [c.t - T0 for c in sent(before, *press(1_200, 7), mutation(3_000, texts=[(10, "b")]))] == [3_000]


@pytest.mark.parametrize("source", [3, 14])
def test_so_late_only_what_is_built_or_drawn_is_an_answer(source: int) -> None:
    assert sent(*CLICK, incremental(4_000, source, id=1, ranges=[])) == []


def test_a_press_that_becomes_no_click_is_followed_for_a_while() -> None:
    down = pointer(1, 1_000, 9)
    assert sent(down, mutation(2_500, texts=[(10, "x")])) == [change(2_500, node=10, place="#text")]
    assert sent(down, mutation(2_501, texts=[(10, "x")])) == []


def test_a_change_before_a_click_without_a_pointer_down_is_sent() -> None:
    events = [mutation(850, texts=[(10, "x")]), pointer(2, 1_000, 7)]
    assert sent(*events) == [change(850, node=10, place="#text")]


def test_what_was_near_a_click_of_the_last_chunk_is_sent() -> None:
    reader = Reader()
    reader.read([*SHOP, *CLICK])
    assert changes(reader.read([mutation(3_000, texts=[(10, "x")])])) == [change(3_000, node=10, place="#text")]


def test_what_came_at_the_end_of_the_last_chunk_is_sent_with_the_click_of_the_next() -> None:
    reader = Reader()
    assert changes(reader.read([*SHOP, mutation(950, texts=[(10, "x")])])) == []
    assert changes(reader.read(CLICK)) == [change(950, node=10, place="#text")]


def test_the_first_change_of_each_place_is_sent() -> None:
    events = [
        mutation(1_100, texts=[(10, "a")], attributes=[(9, {"class": "x", "title": "y"})]),
        mutation(1_200, texts=[(10, "b")], adds=[(9, None, el(20, "b"))]),
        mutation(1_300, texts=[(10, "c")], adds=[(9, None, el(21, "b"))]),
    ]
    assert sent(*CLICK, *events) == [
        change(1_100, node=10, place="#text"),
        change(1_100, node=9, place="class"),
        change(1_100, node=9, place="title"),
        change(1_200, node=9),
    ]


def test_each_pointer_down_begins_anew() -> None:
    events = [*CLICK, mutation(1_100, texts=[(10, "a")]), *press(1_300, 7), mutation(1_400, texts=[(10, "b")])]
    assert sent(*events) == [change(1_100, node=10, place="#text"), change(1_400, node=10, place="#text")]


def test_a_node_inside_another_new_one_is_no_place_of_its_own() -> None:
    adds = [(11, None, el(20, "div")), (20, None, el(21, "b")), (21, None, text(22, "Done"))]
    assert sent(*CLICK, mutation(1_100, adds=adds)) == [change(1_100, node=11)]


def test_of_a_page_rendered_anew_a_few_changes_tell_enough() -> None:
    many = mutation(1_100, attributes=[(9, {f"data-{n}": "x" for n in range(50)})])
    assert len(sent(*CLICK, many)) == answers.MAX_SENT


@pytest.mark.parametrize("tag", ["script", "noscript", "meta", "template"])
def test_what_nobody_sees_is_not_sent(tag: str) -> None:
    assert sent(*CLICK, mutation(1_100, adds=[(6, None, el(20, tag))])) == []
    assert sent(*CLICK, mutation(1_100, adds=[(6, None, el(20, tag)), (6, None, el(21, "p"))])) == [
        change(1_100, node=6)
    ]


# The same again


def test_the_same_text_written_again_is_no_change() -> None:
    again = mutation(1_100, removes=[(9, 10)], adds=[(9, None, text(20, "3 items"))])
    assert sent(*CLICK, again) == []


def test_another_text_written_in_its_place_is_a_change() -> None:
    other = mutation(1_100, removes=[(9, 10)], adds=[(9, None, text(20, "4 items"))])
    assert sent(*CLICK, other) == [change(1_100, node=9)]


def test_the_same_value_set_again_is_no_change() -> None:
    same = mutation(1_100, texts=[(10, "3 items")], attributes=[(7, {"class": "btn"})])
    assert sent(*CLICK, same) == []


def test_a_list_rendered_anew_with_equal_content_is_no_change() -> None:
    new_list = [(11, None, el(20, "i"))]
    assert sent(*CLICK, mutation(1_100, removes=[(11, 12)], adds=new_list)) == []


def test_equal_content_at_another_place_is_a_change() -> None:
    shop = page(el(7, "button"), el(9, "ul", el(10, "li", text(11, "a")), el(12, "li", text(13, "b"))))
    to_the_end = mutation(1_100, removes=[(9, 10)], adds=[(9, None, el(20, "li", text(21, "a")))])
    assert changes(read([*shop, *CLICK, to_the_end])) == [change(1_100, node=9)]


def test_a_list_too_long_to_be_compared_counts_as_changed() -> None:
    rows = [el(20 + n, "li") for n in range(formers.MAX_CHILDREN + 1)]
    again = mutation(1_100, removes=[(9, 20)], adds=[(9, 21, el(500, "li"))])
    assert changes(read([*page(el(7, "button"), el(9, "ul", *rows)), *CLICK, again])) == [change(1_100, node=9)]


def test_without_a_document_every_change_counts() -> None:
    again = mutation(1_100, removes=[(9, 10)], adds=[(9, None, text(20, "3 items"))])
    assert changes(read([*CLICK, again])) == [change(1_100, node=9)]


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ("btn", "btn focus-visible", False),
        ("btn", "btn Mui-focusVisible", False),
        ("btn", "btn is-hovered btn--pressed", False),
        (None, "focused", False),
        ("btn focus", None, True),
        ("btn", "btn active", True),
        ("btn", "btn focus open", True),
        ("pressed-flowers", "fresh-flowers", True),
    ],
)
def test_classes_that_only_say_how_a_control_feels_are_no_change(
    before: str | None, after: str | None, seen: bool
) -> None:
    shop = page(el(7, "button", **({"class_": before} if before else {})))
    found = changes(read([*shop, *CLICK, mutation(1_100, attributes=[(7, {"class": after})])]))
    assert bool(found) == seen


@pytest.mark.parametrize("name", ["tabindex", "data-focus", "data-hovered", "data-pressed", "data-focus-visible-added"])
def test_attributes_that_only_say_how_a_control_feels_are_no_change(name: str) -> None:
    assert sent(*CLICK, mutation(1_100, attributes=[(7, {name: ""})])) == []


# Undone


def test_what_the_control_takes_back_within_900_ms_is_told_as_undone() -> None:
    feel = [
        mutation(1_010, attributes=[(7, {"class": "btn busy"})]),
        mutation(1_910, attributes=[(7, {"class": "btn"})]),
    ]
    assert sent(*sorted([*CLICK, *feel], key=lambda e: int(e["timestamp"]))) == [
        change(1_010, node=7, place="class"),
        change(1_910, node=7, place="class", undoes=T0 + 1_010),
    ]


def test_what_the_control_takes_back_later_was_seen() -> None:
    copied = [
        mutation(1_100, texts=[(8, "Copied!")]),
        mutation(2_001, texts=[(8, "Pay")]),
    ]
    assert sent(*CLICK, *copied) == [change(1_100, node=8, place="#text")]


def test_a_ripple_inside_the_control_is_undone() -> None:
    ripple = [mutation(1_100, adds=[(7, None, el(20, "span"))]), mutation(1_700, removes=[(7, 20)])]
    assert sent(*CLICK, *ripple) == [change(1_100, node=7), change(1_700, node=7, undoes=T0 + 1_100)]


def test_a_text_that_returns_in_new_nodes_is_undone() -> None:
    blink = [
        mutation(1_100, removes=[(7, 8)], adds=[(7, None, text(20, "..."))]),
        mutation(1_500, removes=[(7, 20)], adds=[(7, None, text(21, "Pay"))]),
    ]
    assert sent(*CLICK, *blink) == [change(1_100, node=7), change(1_500, node=7, undoes=T0 + 1_100)]


@pytest.mark.parametrize(("lasted", "undone"), [(100, True), (101, False)])
def test_elsewhere_only_a_flicker_is_undone(lasted: int, undone: bool) -> None:
    toast = [mutation(1_100, adds=[(11, None, el(20, "p"))]), mutation(1_100 + lasted, removes=[(11, 20)])]
    found = sent(*CLICK, *toast)
    assert [c.undoes for c in found if c.undoes] == ([T0 + 1_100] if undone else [])


def test_an_undone_place_that_changes_again_is_sent_again() -> None:
    events = [
        mutation(1_100, attributes=[(7, {"class": "btn busy"})]),
        mutation(1_200, attributes=[(7, {"class": "btn"})]),
        mutation(1_300, attributes=[(7, {"class": "btn open"})]),
    ]
    assert [(c.t - T0, c.undoes) for c in sent(*CLICK, *events)] == [(1_100, 0), (1_200, T0 + 1_100), (1_300, 0)]


def test_a_change_undone_in_the_next_chunk_is_undone() -> None:
    reader = Reader()
    reader.read([*SHOP, *CLICK, mutation(1_100, adds=[(7, None, el(20, "span"))])])
    assert changes(reader.read([mutation(1_300, removes=[(7, 20)])])) == [change(1_300, node=7, undoes=T0 + 1_100)]


def test_a_toggle_that_another_click_takes_back_is_not_undone() -> None:
    on, off = [(9, {"class": "open"})], [(9, {"class": None})]
    events = [*CLICK, mutation(1_100, attributes=on), *press(1_150, 9), mutation(1_250, attributes=off)]
    assert [c.undoes for c in sent(*events)] == [0, 0]


# Lone removals


def test_a_removal_alone_is_marked() -> None:
    assert sent(*CLICK, mutation(2_000, removes=[(11, 12)])) == [change(2_000, node=11, lone=True)]


@pytest.mark.parametrize("apart", [-31, -30, 30, 31])
def test_a_removal_is_not_alone_if_something_comes_within_30_ms(apart: int) -> None:
    events = [mutation(2_000, removes=[(11, 12)]), mutation(2_000 + apart, texts=[(10, "x")])]
    found = sent(*CLICK, *sorted(events, key=lambda e: int(e["timestamp"])))
    assert [c.lone for c in found if c.node == 11] == [abs(apart) > 30]


def test_a_removal_around_the_pressed_control_is_not_alone() -> None:
    dialog = page(el(7, "div", el(8, "button")))
    found = changes(read([*dialog, *press(1_000, 8), mutation(1_100, removes=[(6, 7)])]))
    assert found == [change(1_100, node=6)]


def test_a_place_that_first_lost_nodes_and_then_gained_some_is_sent_for_both() -> None:
    events = [mutation(1_500, removes=[(11, 12)]), mutation(2_500, adds=[(11, None, el(20, "p"))])]
    assert sent(*CLICK, *events) == [change(1_500, node=11, lone=True), change(2_500, node=11)]


# Background


def ticks(*times: int, node: int = 10) -> list[Event]:
    return [mutation(t, texts=[(node, f"tick {t}")]) for t in times]


def test_a_place_that_changes_in_idle_moments_is_background() -> None:
    events = [*ticks(1_000, 2_500), *press(3_000, 7), *ticks(3_200)]
    assert sent(*events) == [change(3_200, node=10, place="#text", background=True)]


@pytest.mark.parametrize(
    "moments",
    [(2_500,), (1_000, 2_499), (700, 2_500), (1_000, 1_050, 1_060)],
    ids=["once", "within a moment", "while the page loads", "a burst"],
)
def test_too_little_was_seen_to_call_it_background(moments: tuple[int, ...]) -> None:
    events = [*ticks(*moments), *press(3_000, 7), *ticks(3_200)]
    assert [c.background for c in sent(*events)] == [False]


def test_what_changes_within_2600_ms_of_an_input_is_not_learned() -> None:
    scroll = incremental(900, 3, id=1, x=0, y=9)
    events = [scroll, *ticks(1_500, 3_499), *press(3_600, 7), *ticks(3_700)]
    assert [c.background for c in sent(*events)] == [False]


def test_background_is_known_from_the_second_moment_on_and_never_backwards() -> None:
    events = [*ticks(1_000), *press(1_200, 7), *ticks(1_300, 4_900), *press(5_100, 7), *ticks(5_200)]
    assert [(c.t - T0, c.background) for c in sent(*events)] == [(1_300, False), (5_200, True)]


def test_another_place_of_the_same_node_is_no_background() -> None:
    turning = [mutation(t, attributes=[(9, {"title": str(t)})]) for t in (1_000, 2_500)]
    events = [*turning, *press(3_000, 7), mutation(3_200, attributes=[(9, {"class": "x"})])]
    assert [c.background for c in sent(*events)] == [False]


def test_a_new_page_has_no_background_yet() -> None:
    events = [*ticks(1_000, 2_500), *page(el(9, "p", text(10, "x")), t=2_600, href="/other"), *press(3_000, 9)]
    assert [c.background for c in sent(*events, *ticks(3_200)) if c.node == 10] == [False]


def test_background_of_the_last_chunk_is_remembered() -> None:
    reader = Reader()
    reader.read([*SHOP, *ticks(1_000, 2_500)])
    assert [c.background for c in changes(reader.read([*press(3_000, 7), *ticks(3_200)]))] == [True]


def test_the_oldest_place_is_forgotten_beyond_the_bound() -> None:
    many = [mutation(t, attributes=[(9, {f"a{n}": str(t)}) for n in range(40)]) for t in (1_000,)]
    more = [mutation(1_001 + i, attributes=[(9, {f"b{i}-{n}": "x"}) for n in range(60)]) for i in range(8)]
    events = [*ticks(900), *many, *more, *ticks(2_900), *press(3_000, 7), *ticks(3_200)]
    assert [c.background for c in sent(*events)] == [False]


TIP = [5_000, 10_010, 14_990, 20_000]


def test_a_place_that_changes_to_a_beat_is_background_although_somebody_clicks_all_the_time() -> None:
    clicking = [event for t in (4_000, 8_000, 13_000, 18_500) for event in press(t, 7)]
    events = sorted([*clicking, *ticks(*TIP)], key=lambda e: int(e["timestamp"]))
    assert [(c.t - T0, c.background) for c in sent(*events)] == [
        (5_000, False),
        (10_010, False),
        (14_990, False),
        (20_000, True),
    ]


def test_two_equal_pauses_are_no_beat_yet() -> None:
    events = [*press(8_000, 7), *ticks(TIP[1]), *press(13_500, 7), *ticks(TIP[2]), *press(18_500, 7), *ticks(TIP[3])]
    assert [c.background for c in sent(*events)] == [False] * 3


def test_evenly_made_clicks_are_no_beat() -> None:
    events = [e for t in range(2_000, 14_000, 2_000) for e in (*press(t, 7), *ticks(t + 120))]
    assert [c.background for c in sent(*events)] == [False] * 6


FEED = [2_000, 3_800, 5_600, 7_400]


@pytest.mark.parametrize(
    ("t", "is_background"),
    [(7_840, True), (7_860, False), (9_130, False), (9_150, True), (9_560, True)],
    ids=["just after its beat", "between beats", "short of a beat", "a beat", "a beat that comes late"],
)
def test_a_change_between_the_beats_of_a_place_is_none_of_its_own(t: int, is_background: bool) -> None:
    events = [*ticks(*FEED), *press(7_560, 7), *ticks(t)]
    assert [c.background for c in sent(*events)] == [is_background]


def test_a_place_that_lost_its_beat_has_to_show_a_new_one() -> None:
    events = [*ticks(*FEED), *press(7_560, 7), *ticks(8_000, 8_500)]
    assert [(c.t - T0, c.background) for c in sent(*events)] == [(8_000, False), (8_500, True)]


def test_next_on_a_carousel_is_answered_at_once() -> None:
    turning = ticks(2_000, 7_000, 12_000, 17_000, 22_000)
    assert [c.background for c in sent(*turning, *press(22_200, 7), *ticks(22_330))] == [False]
    assert [c.background for c in sent(*turning, *press(22_200, 7), *ticks(22_700))] == [True]


def test_where_much_moves_no_change_is_prompt() -> None:
    prices = [e for t in range(1_100, 22_000, 700) for e in ticks(t, node=8)]
    turning = ticks(2_000, 7_000, 12_000, 17_000, 22_000)
    events = sorted([*prices, *turning], key=lambda e: int(e["timestamp"]))
    assert [c.background for c in sent(*events, *press(22_200, 7), *ticks(22_340))] == [True]


def scrolls(*times: int, node: int = 11) -> list[Event]:
    return [incremental(t, 3, id=node, x=t % 1_000, y=0) for t in times]


def test_a_marquee_is_no_input_and_answers_nothing() -> None:
    moving = scrolls(*range(1_000, 14_000, 100))
    events = sorted(
        [*moving, *ticks(12_000, 13_600), *press(14_000, 7), *ticks(14_250)], key=lambda e: int(e["timestamp"])
    )
    assert sent(*events, *scrolls(14_050)) == [change(14_250, node=10, place="#text", background=True)]


def test_who_scrolls_is_idle_only_a_while_later() -> None:
    events = [*scrolls(*range(1_000, 5_000, 100)), *ticks(6_000, 7_400), *press(7_600, 7), *ticks(7_900)]
    assert [c.background for c in sent(*events)] == [False]


def test_a_state_of_the_first_format_is_read() -> None:
    old = [T0, T0 + 500, [[10, "#text", 2, T0 + 1_000, T0 + 2_500]]]
    assert Background.load(old).is_own((10, "#text"), T0 + 9_000)


# Other kinds


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (incremental(1_100, 3, id=1, x=0, y=80), change(1_100, ChangeKind.SCROLL, node=1)),
        (incremental(1_100, 5, id=7, text="x", isChecked=False), change(1_100, ChangeKind.INPUT, node=7)),
        (incremental(1_100, 7, id=13, type=0), change(1_100, ChangeKind.MEDIA, node=13, place="@media0")),
        (incremental(1_100, 8, id=4, adds=[]), change(1_100, ChangeKind.STYLE, place="@style8")),
        (incremental(1_100, 13, id=4), change(1_100, ChangeKind.STYLE, place="@style13")),
        (incremental(1_100, 15, id=1), change(1_100, ChangeKind.STYLE, place="@style15")),
        (incremental(1_100, 9, id=13), change(1_100, ChangeKind.CANVAS, node=13, place="@canvas")),
        (incremental(1_100, 4, width=800, height=600), change(1_100, ChangeKind.VISIBILITY)),
        (event(5, 1_100, {"tag": "window visible"}), change(1_100, ChangeKind.VISIBILITY)),
    ],
    ids=lambda value: value.what if isinstance(value, Change) else "",
)
def test_each_kind_of_change_is_sent(told: Event, expected: Change) -> None:
    assert sent(*CLICK, told) == [expected]


@pytest.mark.parametrize("source", [1, 6, 10, 11, 12, 16, 99])
def test_what_shows_nothing_is_not_sent(source: int) -> None:
    assert sent(*CLICK, incremental(1_100, source, id=7, positions=[])) == []


def selection(t: int, *, end: int) -> Event:
    return incremental(t, 14, ranges=[{"start": 10, "startOffset": 0, "end": 10, "endOffset": end}])


def test_a_selection_is_a_change_when_text_is_marked_and_when_it_no_longer_is() -> None:
    assert sent(*CLICK, selection(1_100, end=4)) == [change(1_100, ChangeKind.SELECTION)]
    assert sent(selection(500, end=4), *CLICK, selection(1_100, end=0)) == [change(1_100, ChangeKind.SELECTION)]


def test_a_caret_is_no_selection() -> None:
    assert sent(*CLICK, selection(1_100, end=0)) == []


def test_focus_counts_where_it_moves_away_from_what_was_pressed() -> None:
    assert sent(*CLICK, pointer(5, 1_095, 7)) == []
    assert sent(*CLICK, pointer(5, 1_095, 6)) == []
    assert sent(*CLICK, pointer(5, 1_095, 9)) == [change(1_095, ChangeKind.FOCUS, node=9)]


def request(t: int, **more: Any) -> Event:
    made = {"name": "https://shop.example/api?n=1", "initiatorType": "fetch", "timestamp": T0 + t} | more
    return event(6, t + 200, {"plugin": "rrweb/network@1", "payload": {"requests": [made]}})


def test_a_request_of_a_script_is_a_change_when_it_begins() -> None:
    assert sent(*CLICK, request(1_100)) == [
        change(1_100, ChangeKind.NETWORK, place="@https://shop.example/api"),
    ]


def test_a_request_that_began_long_before_the_click_does_not_stand_for_the_one_that_it_made() -> None:
    slow = request(500)
    slow["timestamp"] = T0 + 1_095
    assert [c.t - T0 for c in sent(*CLICK, slow, request(1_100))] == [1_100]


@pytest.mark.parametrize("kind", ["img", "script", "navigation", None, ["fetch"]])
def test_a_request_of_the_browser_is_none(kind: Any) -> None:
    assert sent(*CLICK, request(1_100, initiatorType=kind)) == []


def test_requests_that_are_made_all_the_time_are_background() -> None:
    events = [request(1_000), request(2_600), *press(3_000, 7), request(3_200)]
    assert [c.background for c in sent(*events)] == [True]
