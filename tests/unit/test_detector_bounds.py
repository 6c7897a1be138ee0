"""What both stages remember of a session that goes on for twelve hours, and of a hostile one: bounded."""

import random
from collections.abc import Iterator
from typing import Any

import orjson

from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.digest import build_logic
from stream_processors.fold.logic import LogRecord, Output
from stream_processors.fold.partition import PartitionFold
from stream_processors.offline.timetable import Arrival, events_log, recordings_log
from tests.digest_page import KEY, T0, Event, Reader, el, event, incremental, mutation, page, pointer, press, text

MINUTE = 60_000
HOURS = 12


def chunk(events: list[Any], *, at: int, seq: int) -> Arrival:
    header = {
        "v": 1,
        "project_id": "p",
        "session_id": "s",
        "window_id": f"w{seq % 2}",
        "seq": seq // 2,
        "received_at": T0 + at,
        "encoding": "identity",
        "codec": "json",
        "settings": {"version": 1},
    }
    headers = [("kind", b"chunk"), ("meta", orjson.dumps(header))]
    return Arrival(T0 + at, "chunk", KEY, orjson.dumps(events), headers)


def minute(t: int, number: int) -> list[Event]:
    """Return a minute of somebody at work: a view, clicks dead and live, typing, rage, an error, shaking, a feed."""
    node = 100 + 20 * number
    made = [
        event(5, t, {"tag": "$pageview", "payload": {"href": f"https://shop.example/item/{number}"}}),
        *press(t + 2_000, 7),
        *press(t + 8_000, 9),
        mutation(t + 8_200, adds=[(9, None, el(node, "li", text(node + 1, f"row {number}")))]),
        *(mutation(t + 8_300, removes=[(9, node - 200)]) for _ in range(number >= 10)),
        pointer(5, t + 12_000, 12),
        incremental(t + 12_100, 5, id=12, text="x", isChecked=False),
        *(e for n in range(4) for e in press(t + 20_000 + 300 * n, 7)),
        event(
            6, t + 30_000, {"plugin": "rrweb/console@1", "payload": {"level": "error", "payload": [f"Error: {number}"]}}
        ),
        *(mutation(t + 32_000 + 2_000 * n, texts=[(10, f"{n}")]) for n in range(10)),
        incremental(t + 53_000, 3, id=1, x=0, y=number),
    ]
    spots = [{"x": 100 + 100 * (n % 2), "y": 5, "id": 9, "timeOffset": 100 * n - 2_000} for n in range(20)]
    return [*made, incremental(t + 56_000, 1, positions=spots)]


def working_day() -> Iterator[Arrival]:
    form = el(11, "form", el(12, "input", name="q"), el(13, "button"))
    shop = page(el(7, "button", text(8, "Pay")), el(9, "ul"), el(14, "p", text(10, "0")), form)
    for number in range(HOURS * 60):
        t = number * MINUTE
        events = [*shop, *minute(t + 1_000, number)] if number < 2 else minute(t + 1_000, number)
        yield chunk(events, at=t + 59_000, seq=number)
        yield Arrival(T0 + t + 59_500, "tick")


def folded(fold: PartitionFold[Any], records: list[LogRecord]) -> tuple[list[int], list[Output]]:
    """Return the size of the state after each hour, and what was sent."""
    per_hour = len(records) // HOURS
    sizes: list[int] = []
    outputs: list[Output] = []
    for hour in range(HOURS):
        batch = fold.apply(records[hour * per_hour : (hour + 1) * per_hour])
        assert batch.parked == ()
        outputs += batch.outputs
        sizes.append(max(len(fact) for key, fact in fold.facts.items() if KEY in key))
    return sizes, outputs


def test_a_session_of_twelve_hours_stops_growing() -> None:
    timetable = list(working_day())
    digest, outputs = folded(PartitionFold(build_logic({})), recordings_log(timetable))
    analyze, _ = folded(PartitionFold(AnalyzeLogic()), events_log(timetable, outputs))
    # deltas of a document grow to 16 kB in each of the two windows, then a new base is made
    assert max(digest) < 45_000, digest
    # the list of pages grows until it is full, after three hours and a half here
    assert max(analyze) < 40_000, analyze
    assert max(analyze[4:]) <= 1.1 * max(analyze[:4]), analyze


def hostile(rnd: random.Random) -> list[Event]:
    """Return events that fill whatever the digest remembers: places, beats, holders, scrolls, touches, turns."""
    css = "".join(f".{'c' * 60}{n}:focus-within .x{{display:block}}" for n in range(200))
    sheet = {"type": 2, "id": 30, "tagName": "style", "attributes": {"_cssText": css}, "childNodes": []}
    fields = [el(1_000 + n, "input", name="n" * 500) for n in range(300)]
    body = [sheet, el(7, "button"), el(8, "form", *fields, el(9, "button")), *(el(50 + n, "p") for n in range(300))]
    made = page(*body)
    for n in range(1_500):
        t = 1_000 + 7 * n
        node = 50 + rnd.randrange(300)
        made += [
            mutation(t, attributes=[(node, {f"{'a' * 60}{rnd.random()}": "v" * 500})]),
            incremental(t, 3, id=node, x=0, y=n),
            pointer(rnd.choice([1, 5, 6, 7, 9]), t, node, x=n, y=n),
            incremental(t, 5, id=1_000 + n % 300, text="x" * 500, isChecked=False),
            incremental(t, 1, positions=[{"x": 99 * (n % 2), "y": 99 * (n % 2), "id": node, "timeOffset": 0}] * 9),
            event(5, t, {"tag": "$pageview", "payload": {"href": "https://a/" + "p" * 3_000 + str(n)}}),
        ]
    return made


def test_a_hostile_recording_fills_no_more_than_its_share_of_a_record() -> None:
    rnd = random.Random(4)
    reader = Reader()
    for number in range(3):
        reader.digest(hostile(rnd), window=f"w{number}")
    assert reader.session is not None
    state = reader.logic.encode(reader.session)
    assert len(state) < 3 * 120_000
