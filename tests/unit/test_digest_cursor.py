"""Where the cursor turns back, and when that is told."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.signals import CursorTurn, Signal
from tests.digest_page import T0, URL, Event, Reader, el, incremental, page, pointer, read

SHOP = page(el(7, "p"), el(8, "canvas"))


def moves(places: Sequence[int], *, begin: int = 1_000, step: int = 100, node: int = 7, axis: str = "x") -> list[Event]:
    """Return one event for each place, as the cursor goes along an axis."""
    spots = [{"x": place, "y": 40} if axis == "x" else {"x": 40, "y": place} for place in places]
    return [
        incremental(begin + n * step, 1, positions=[{**spot, "id": node, "timeOffset": 0}])
        for n, spot in enumerate(spots)
    ]


def turns(found: Sequence[Signal]) -> list[CursorTurn]:
    return [signal for signal in found if isinstance(signal, CursorTurn)]


def times(*events: Event) -> list[int]:
    return [turn.t - T0 for turn in turns(read([*SHOP, *events]))]


SHAKE = [100, 200] * 4


def test_the_fourth_turn_within_two_seconds_tells_of_all_four() -> None:
    assert turns(read([*SHOP, *moves([100, 200, 100, 200, 100, 200])])) == [
        CursorTurn(T0 + 1_100 + 100 * n, axis="x", x=200 - 100 * (n % 2), y=40, page_url=URL, window="w")
        for n in range(4)
    ]


def test_three_turns_tell_nothing() -> None:
    assert times(*moves([100, 200, 100, 200, 100])) == []


def test_four_turns_within_more_than_two_seconds_tell_nothing() -> None:
    assert times(*moves([100, 200] * 3, step=667)) == []
    assert len(times(*moves([100, 200] * 3, step=666))) == 4


def test_further_turns_are_told_one_by_one_and_after_a_pause_held_back_again() -> None:
    assert times(*moves(SHAKE), *moves([100, 200] * 3, begin=9_000))[6:] == [9_100, 9_200, 9_300, 9_400]
    assert times(*moves(SHAKE), *moves([100, 200] * 2, begin=9_000))[6:] == []


def test_a_cursor_that_rests_before_it_goes_back_does_not_turn() -> None:
    assert times(*moves(SHAKE), *moves([100], begin=3_700))[6:] == [1_700]
    assert times(*moves(SHAKE), *moves([100], begin=3_701))[6:] == []


@pytest.mark.parametrize(("leg", "count"), [(29, 0), (30, 6)])
def test_a_trembling_hand_does_not_turn(leg: int, count: int) -> None:
    assert len(times(*moves([100, 100 + leg] * 4))) == count


def test_a_turn_is_at_the_farthest_place() -> None:
    zigzag = [100, 150, 200, 190, 150, 100, 110, 150, 200, 195, 150, 100, 105, 150, 200]
    assert times(*moves(zigzag, step=50)) == [1_100, 1_250, 1_400, 1_550]


def test_axes_count_apart() -> None:
    found = turns(read([*SHOP, *moves(SHAKE, axis="y")]))
    assert {turn.axis for turn in found} == {"y"}


def test_a_shake_across_chunks_is_told_like_one_in_a_single_chunk() -> None:
    events = [*SHOP, *moves(SHAKE)]
    whole = turns(read(events))
    reader = Reader()
    assert turns([signal for event in events for signal in reader.read([event])]) == whole


def test_positions_of_one_event_lie_before_it() -> None:
    places = [{"x": place, "y": 40, "id": 7, "timeOffset": 100 * n - 700} for n, place in enumerate(SHAKE)]
    assert times(incremental(2_000, 1, positions=places)) == [1_400, 1_500, 1_600, 1_700, 1_800, 1_900]


def test_a_cursor_over_a_canvas_or_with_its_button_down_is_not_followed() -> None:
    assert times(*moves(SHAKE, node=8)) == []
    assert times(pointer(1, 900, 7), *moves(SHAKE)) == []
    assert len(times(pointer(1, 800, 7), pointer(0, 900, 7), *moves(SHAKE))) == 6


def test_fingers_are_not_followed() -> None:
    assert times(*[{**move, "data": {**move["data"], "source": 6}} for move in moves(SHAKE)]) == []


@pytest.mark.parametrize("positions", [None, 3, [None], [{"x": 1}], [{"x": "a", "y": 1, "id": 1, "timeOffset": 0}]])
def test_damaged_positions_are_passed_over(positions: Any) -> None:
    assert len(times(incremental(900, 1, positions=positions), *moves(SHAKE))) == 6
