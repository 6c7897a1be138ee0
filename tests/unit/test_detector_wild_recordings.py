"""Recordings as they come in the wild, through both stages: what is missing or confused is unknown, not dead."""

import gzip
import zlib
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.digest import build_logic
from stream_processors.offline.stages import Stages, judge
from stream_processors.offline.timetable import Arrival
from tests.digest_page import KEY, T0, Event, el, incremental, meta, mutation, page, pointer, press, text

GAP_MS = 60_000
SHOP = page(el(7, "button", text(8, "Pay")), el(9, "p", text(10, "3 items")), el(11, "button", disabled=""))
ANSWER = mutation(5_900, texts=[(10, "4 items")])
PRESS = press(5_000, 7)
"""Down at 5,000, click at 5,090."""


def chunk(*events: Any, at: int, seq: int, window: str = "w", body: bytes | None = None) -> Arrival:
    header = {
        "v": 1,
        "project_id": "p",
        "session_id": "s",
        "window_id": window,
        "seq": seq,
        "received_at": T0 + at,
        "encoding": "identity",
        "codec": "json",
        "settings": {"version": 1},
    }
    headers = [("kind", b"chunk"), ("meta", orjson.dumps(header))]
    return Arrival(T0 + at, "chunk", KEY, orjson.dumps(events) if body is None else body, headers)


def found(*arrivals: Arrival) -> list[tuple[str, int]]:
    """Return kind and time of what both stages find."""
    outcome = judge(arrivals, Stages(build_logic({}), AnalyzeLogic(gap_ms=GAP_MS)), gap_ms=GAP_MS)
    assert outcome.parked == []
    return [(finding.kind, finding.timestamp - T0) for finding in outcome.findings]


DEAD = [("dead_click", 5_090)]
FIRST = chunk(*SHOP, at=4_000, seq=0)


def test_a_click_that_nothing_follows_is_dead() -> None:
    assert found(FIRST, chunk(*PRESS, at=9_000, seq=1)) == DEAD


def test_a_click_is_alive_whichever_chunk_brings_its_answer() -> None:
    assert found(FIRST, chunk(*PRESS, ANSWER, at=9_000, seq=1)) == []
    assert found(FIRST, chunk(*PRESS, at=5_200, seq=1), chunk(ANSWER, at=9_000, seq=2)) == []


def test_a_missing_chunk_leaves_the_click_before_it_unknown() -> None:
    assert found(FIRST, chunk(*PRESS, at=5_200, seq=1), chunk(pointer(0, 9_000, 9), at=9_500, seq=3)) == []


def test_an_answer_that_comes_after_its_successor_leaves_the_click_unknown() -> None:
    late = [chunk(incremental(8_000, 4), at=8_500, seq=3), chunk(ANSWER, at=9_000, seq=2)]
    assert found(FIRST, chunk(*PRESS, at=5_200, seq=1), *late) == []


def test_a_click_that_comes_after_its_successor_is_not_dead() -> None:
    assert found(FIRST, chunk(ANSWER, at=8_500, seq=2), chunk(*PRESS, at=9_000, seq=1)) == []


def test_chunks_that_come_twice_change_nothing() -> None:
    chunks = [FIRST, chunk(*PRESS, at=9_000, seq=1)]
    again = [arrival._replace(at=arrival.at + 3_000) for arrival in chunks]
    assert found(*sorted([*chunks, *again], key=lambda arrival: arrival.at)) == DEAD


def test_without_a_snapshot_at_the_start_no_click_is_dead() -> None:
    assert found(chunk(meta(0), *PRESS, at=9_000, seq=0)) == []


def test_without_a_snapshot_at_the_start_hammering_is_rage_all_the_same() -> None:
    hammering = [event for n in range(5) for event in press(5_000 + 300 * n, 7)]
    assert found(chunk(meta(0), *hammering, at=9_000, seq=0)) == [("rage_click", 5_090)]


def test_a_snapshot_that_comes_later_lets_clicks_be_judged() -> None:
    assert found(chunk(meta(0), *press(2_000, 7), *page(el(7, "button"), t=4_000), *PRESS, at=9_000, seq=0)) == DEAD


def test_what_happens_in_another_window_answers_nothing() -> None:
    other = [chunk(*SHOP, at=4_000, seq=0, window="v"), chunk(ANSWER, at=9_500, seq=1, window="v")]
    assert found(FIRST, other[0], chunk(*PRESS, at=9_000, seq=1), other[1]) == DEAD


HOUR = 3_600_000


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forth", "back"])
def test_a_clock_that_jumps_between_chunks_leaves_the_open_click_unknown(jump: int) -> None:
    answer = {**ANSWER, "timestamp": ANSWER["timestamp"] + jump}
    assert found(FIRST, chunk(*PRESS, at=5_200, seq=1), chunk(answer, at=7_000, seq=2)) == []


def test_a_clock_that_jumps_back_within_a_chunk_leaves_the_open_click_unknown() -> None:
    answer = {**ANSWER, "timestamp": ANSWER["timestamp"] - HOUR}
    assert found(FIRST, chunk(*PRESS, answer, at=7_000, seq=1)) == []


@pytest.mark.parametrize("jump", [300_000, -300_000], ids=["forth", "back"])
def test_after_a_jump_clicks_are_judged_as_before(jump: int) -> None:
    later = [{**event, "timestamp": event["timestamp"] + jump} for event in press(20_000, 7)]
    away = {"timestamp": T0 + jump + 12_000, **{k: v for k, v in pointer(0, 0, 9).items() if k != "timestamp"}}
    chunks = [chunk(away, at=13_000, seq=1), chunk(*later, at=21_000, seq=2)]
    assert found(FIRST, *chunks) == [("dead_click", 20_090 + jump)]


def test_a_chunk_that_was_held_back_is_no_jump() -> None:
    offline = [chunk(*PRESS, at=400_000, seq=1), chunk(pointer(0, 400_500, 9), at=401_000, seq=2)]
    assert found(FIRST, *offline) == DEAD


def test_masked_texts_that_stay_the_same_answer_as_little_as_others() -> None:
    masked = mutation(5_900, texts=[(10, "* *****")])
    shop = page(el(7, "button", text(8, "***")), el(9, "p", text(10, "* *****")))
    assert found(chunk(*shop, *PRESS, masked, at=9_000, seq=0)) == DEAD
    assert found(chunk(*shop, *PRESS, mutation(5_900, texts=[(10, "** *****")]), at=9_000, seq=0)) == []


def packed(events: Sequence[Event]) -> list[Any]:
    return [zlib.compress(orjson.dumps(event)).decode("latin-1") for event in events]


def of_posthog(event: Event) -> Event:
    """Compress what posthog-js compresses."""

    def squeeze(value: Any) -> str:
        return gzip.compress(orjson.dumps(value)).decode("latin-1")

    data = event["data"]
    if event["type"] == 2:
        return event | {"data": squeeze(data), "cv": "2024-10"}
    if data.get("source") == 0:
        lists = {name: squeeze(data[name]) for name in ("texts", "attributes", "removes", "adds")}
        return event | {"data": data | lists, "cv": "2024-10"}
    return event


@pytest.mark.parametrize("form", [list, packed, lambda events: [of_posthog(event) for event in events]])
def test_each_form_of_events_says_the_same(form: Any) -> None:
    assert found(chunk(*form([*SHOP, *PRESS]), at=9_000, seq=0)) == DEAD
    assert found(chunk(*form([*SHOP, *PRESS, ANSWER]), at=9_000, seq=0)) == []


def test_a_recording_of_rrweb_1_is_read_as_well() -> None:
    """No pointer types, no user flags, whole style strings; texts of sheets as text nodes; Load before the snapshot."""
    style = el(30, "style", {"type": 3, "id": 31, "textContent": "a{}", "isStyle": True})
    started = [{"type": 0, "timestamp": T0, "data": {}}, {"type": 1, "timestamp": T0 + 5, "data": {}}]
    restyled = mutation(5_900, attributes=[(9, {"style": "color: red;"})])
    shop = page(style, el(7, "button"), el(9, "p"))
    assert found(chunk(*started, *shop, *PRESS, at=9_000, seq=0)) == DEAD
    assert found(chunk(*started, *shop, *PRESS, restyled, at=9_000, seq=0)) == []


def test_touch_and_mouse_twins_are_one_click_and_keys_none() -> None:
    tap = [pointer(7, 5_000, 7), pointer(9, 5_060, 7), pointer(1, 5_080, 7), pointer(0, 5_081, 7), pointer(2, 5_090, 7)]
    keys = [pointer(2, 8_000 + 400 * n, 7, x=0, y=0) for n in range(4)]
    assert found(chunk(*SHOP, *tap, *keys, at=12_000, seq=0)) == DEAD
