"""The stage as the fold sees it: one output a record, blanks, refusals, replays, hostile recordings."""

import gzip
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.environment import SettingsError
from schemas.reasons import Reason
from schemas.signals import PageView
from stream_processors.digest import build_logic
from stream_processors.fold.logic import Lifetime, LogRecord, Output
from stream_processors.fold.partition import PartitionFold
from tests.digest_page import (
    KEY,
    T0,
    URL,
    Event,
    Reader,
    chunk_record,
    el,
    event,
    incremental,
    mutation,
    page,
    pointer,
    press,
    read,
    refusal,
    text,
)

BUTTON = el(7, "button", text(8, "Pay"), id="pay")


def outputs(*records: LogRecord) -> list[Output]:
    return list(PartitionFold(build_logic({})).apply(records).outputs)


def values(*records: LogRecord) -> list[dict[str, Any]]:
    return [orjson.loads(output.value) for output in outputs(*records)]


# One output a record


def test_a_chunk_becomes_a_digest() -> None:
    body = gzip.compress(orjson.dumps([*page(BUTTON), *press(1_000, 7)]))
    record = chunk_record(body, offset=7, encoding="gzip", visitor_id="v", ip="192.0.2.1", user_agent="Firefox")
    (output,) = outputs(record)
    assert (output.topic, output.key, output.headers) == ("events", KEY, [("kind", b"digest")])
    assert orjson.loads(output.value) == {
        "v": 1,
        "src": 7,
        "project_id": "p",
        "session_id": "s",
        "window_id": "w",
        "received_at": T0,
        "settings": {"version": 1},
        "at": T0 + 7,
        "event_count": 5,
        "size": len(body),
        "first": T0,
        "last": T0 + 1_090,
        "visitor_id": "v",
        "ip": "192.0.2.1",
        "user_agent": "Firefox",
        "signals": [
            {"k": "page", "t": T0, "url": URL, "title": "Cart", "window": "w"},
            {"k": "down", "t": T0 + 1_000, "window": "w", "node": 7},
            {
                "k": "click",
                "t": T0 + 1_090,
                "x": 50,
                "y": 60,
                "window": "w",
                "node": 7,
                "element": {"tag": "button", "id": "pay", "text": "Pay", "selector": "#pay"},
                "page_url": URL,
                "down": T0 + 1_000,
            },
        ],
    }


def test_a_tick_becomes_a_digest_tick() -> None:
    (output,) = outputs(LogRecord(5, T0, "tick", b"", b""))
    assert output == Output("events", None, orjson.dumps({"v": 1, "src": 5, "at": T0}), [("kind", b"digest_tick")])


def test_an_empty_chunk_counts_no_events() -> None:
    (digest,) = values(chunk_record(b"[]"))
    assert (digest["event_count"], digest["signals"]) == (0, [])
    assert "first" not in digest


def test_every_record_gives_one_output_with_its_offset() -> None:
    records = [
        chunk_record(orjson.dumps(page(BUTTON)), offset=3),
        LogRecord(4, T0, "tick", b"", b""),
        chunk_record(b"damaged", offset=5, seq=1),
        LogRecord(6, T0, "chunk", b"no key", b"[]"),
        LogRecord(7, T0, "unheard of", KEY, b"?"),
        LogRecord(8, T0, "chunk", KEY, b"[]"),
        chunk_record(orjson.dumps(press(1_000, 7)), offset=9, seq=1),
        LogRecord(10, T0 + 10_000_000, "tick", b"", b""),
        LogRecord(11, T0 + 20_000_000, "tick", b"", b""),
    ]
    assert [value["src"] for value in values(*records)] == list(range(3, 12))


# Blanks and refusals


def test_a_chunk_that_cannot_be_read_gives_a_blank_digest() -> None:
    (digest,) = values(chunk_record(b"damaged", offset=5, visitor_id="v"))
    assert digest == {
        "v": 1,
        "src": 5,
        "project_id": "p",
        "session_id": "s",
        "window_id": "w",
        "received_at": T0,
        "settings": {"version": 1},
        "at": T0 + 5,
        "event_count": 0,
        "size": 7,
        "visitor_id": "v",
        "signals": [],
    }


def test_without_a_header_the_key_names_the_owner_of_a_blank_digest() -> None:
    (digest,) = values(LogRecord(5, T0, "chunk", KEY, b"[]"))
    assert (digest["project_id"], digest["session_id"], digest["window_id"]) == ("p", "s", "")
    assert (digest["src"], digest["at"], digest["received_at"]) == (5, T0, T0)


@pytest.mark.parametrize("key", [b"no key", b"", b"\xff/"])
def test_a_record_that_belongs_to_no_session_only_moves_the_clock(key: bytes) -> None:
    (output,) = outputs(LogRecord(5, T0, "chunk", key, b""))
    assert output == Output("events", None, orjson.dumps({"v": 1, "src": 5, "at": T0}), [("kind", b"digest_tick")])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.CHUNK_MALFORMED),
        (b"[{]", Reason.CHUNK_MALFORMED),
        (gzip.compress(b"[]")[:-5], Reason.CHUNK_MALFORMED),
        (gzip.compress(b" " * 64_000_001), Reason.CHUNK_TOO_LARGE),
        (b'{"events":[]}', Reason.CHUNK_NOT_RRWEB),
        (b"[1,2]", Reason.CHUNK_NOT_RRWEB),
    ],
    ids=lambda value: value if isinstance(value, Reason) else "",
)
def test_why_a_chunk_is_refused(body: bytes, reason: Reason) -> None:
    assert refusal(chunk_record(body)).reason is reason


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"v": 2}, Reason.SCHEMA_NEWER),
        ({"v": None}, Reason.RECORD_MALFORMED),
        ({"seq": -1}, Reason.RECORD_MALFORMED),
        ({"seq": "0"}, Reason.RECORD_MALFORMED),
        ({"window_id": None}, Reason.RECORD_MALFORMED),
        ({"settings": []}, Reason.RECORD_MALFORMED),
        ({"received_at": "now"}, Reason.RECORD_MALFORMED),
    ],
    ids=str,
)
def test_why_a_header_is_refused(header: dict[str, Any], reason: Reason) -> None:
    assert refusal(chunk_record(b"[]", **header)).reason is reason


def test_a_chunk_without_a_header_is_refused() -> None:
    assert refusal(LogRecord(0, T0, "chunk", KEY, b"[]")).reason is Reason.RECORD_MALFORMED


def test_a_refused_chunk_leaves_the_state_as_it_was() -> None:
    good = chunk_record(orjson.dumps(page(BUTTON)))
    fold = PartitionFold(build_logic({}))
    fold.apply([good])
    before = fold.facts[KEY]
    batch = fold.apply([chunk_record(b"damaged", offset=1, seq=1)])
    assert [parked.reason for parked in batch.parked] == [Reason.CHUNK_MALFORMED]
    assert fold.facts[KEY] == before


# Settings and life


def test_a_session_lives_a_little_longer_than_its_gap() -> None:
    logic = build_logic({"TRACEFLOW_STAGE_SESSION_GAP_MS": "60000"})
    assert logic.lifetime(logic.open(KEY, chunk_record(b"[]"))) == Lifetime(gap_ms=360_000, residue_ms=0)
    own = chunk_record(b"[]", settings={"version": 3, "session_gap_ms": 10_000})
    assert logic.lifetime(logic.open(KEY, own)) == Lifetime(gap_ms=310_000, residue_ms=0)


def test_without_a_setting_the_gap_is_half_an_hour() -> None:
    logic = build_logic({})
    assert logic.lifetime(logic.open(KEY, chunk_record(b"[]"))).gap_ms == 1_800_000 + 300_000


@pytest.mark.parametrize("gap", ["0", "-5", "86400001", "soon"])
def test_a_gap_that_is_no_number_is_refused(gap: str) -> None:
    with pytest.raises(SettingsError, match="TRACEFLOW_STAGE_SESSION_GAP_MS"):
        build_logic({"TRACEFLOW_STAGE_SESSION_GAP_MS": gap})


def test_nothing_waits_and_a_closed_session_leaves_nothing() -> None:
    records = [
        chunk_record(orjson.dumps([*page(BUTTON), *press(1_000, 7)])),
        LogRecord(1, T0 + 2_100_001, "tick", b"", b""),
        LogRecord(2, T0 + 2_100_002, "tick", b"", b""),
    ]
    fold = PartitionFold(build_logic({}))
    kinds = [dict(output.headers)["kind"] for output in fold.apply(records).outputs]
    assert kinds == [b"digest", b"digest_tick", b"digest_tick"]
    assert dict(fold.facts) == {}


def test_a_digest_is_cut_to_what_a_record_holds() -> None:
    many = [event for n in range(3_000) for event in press(1_000 + 300 * n, 7)]
    long = page(el(7, "button", text(8, "x" * 80), class_="c" * 200, id="i" * 40))
    (output,) = outputs(chunk_record(orjson.dumps([*long, *many])))
    assert len(output.value) <= 1_000_000
    assert len(orjson.loads(output.value)["signals"]) > 1_000


# Replays

SCENE: list[Event] = [
    *page(
        BUTTON,
        el(9, "p", text(10, "3 items")),
        el(11, "div"),
        el(12, "button", text(13, "Ship"), disabled=""),
        el(14, "form", el(15, "input", name="email"), el(16, "button", text(17, "Send")), id="signup"),
    ),
    *[mutation(t, texts=[(10, f"{t} items")]) for t in (1_000, 2_700)],
    pointer(1, 3_000, 8),
    mutation(3_020, attributes=[(7, {"class": "pressed"})]),
    pointer(0, 3_090, 8),
    pointer(2, 3_090, 8),
    mutation(3_150, attributes=[(7, {"class": None})]),
    mutation(3_200, texts=[(10, "4 items")]),
    mutation(3_300, adds=[(11, None, el(40, "p", text(41, "Added")))]),
    *press(3_500, 12)[:2],
    mutation(5_000, removes=[(11, 40)]),
    pointer(5, 6_000, 15),
    incremental(6_100, 5, id=15, text="a", isChecked=False),
    *press(7_000, 16),
    pointer(7, 8_000, 7),
    pointer(9, 8_040, 7),
    pointer(2, 8_300, 7),
    event(5, 8_400, {"tag": "$url_changed", "payload": {"href": "https://shop.example/done"}}),
    *page(el(7, "a", text(8, "Home"), href="/"), t=9_000, href="https://shop.example/home", title="Home"),
    *press(9_500, 7),
]


def test_a_recording_cut_anywhere_says_the_same() -> None:
    def said(*chunks: list[Event]) -> list[Any]:
        # between Meta and its snapshot, the title of a page is not known yet
        untitled = (PageView(s.t, url=s.url, window=s.window) if isinstance(s, PageView) else s for s in read(*chunks))
        return sorted(untitled, key=repr)

    whole = said(SCENE)
    assert len(whole) > 20
    for cut in range(1, len(SCENE)):
        assert said(SCENE[:cut], SCENE[cut:]) == whole, cut
    assert said(*([event] for event in SCENE)) == whole


def test_a_log_cut_into_batches_anywhere_gives_the_same_bytes() -> None:
    chunks = [SCENE[n : n + 4] for n in range(0, len(SCENE), 4)]
    records = [chunk_record(orjson.dumps(chunk), offset=n, seq=n) for n, chunk in enumerate(chunks)]
    whole = PartitionFold(build_logic({}))
    expected = whole.apply(records).outputs
    for cut in range(1, len(records)):
        fold = PartitionFold(build_logic({}), cache_weight=0)
        parts = [fold.apply(records[a:b]) for a, b in pairwise([0, cut, len(records)])]
        assert sum((part.outputs for part in parts), ()) == expected
        assert dict(fold.facts) == dict(whole.facts)


def test_events_that_come_in_any_order_within_a_chunk_are_read_in_order_of_time() -> None:
    shuffled = sorted(SCENE, key=lambda e: int(e["timestamp"]) % 7)
    assert shuffled != SCENE
    assert read(shuffled) == read(SCENE)


# Hostile recordings

_ids = st.one_of(st.integers(-2, 30), st.just(2**40), st.none(), st.text(max_size=2), st.just([]), st.floats())
_names = st.sampled_from(["class", "style", "type", "value", "href", "id", "", "a" * 100, "contenteditable"])
_junk = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5), st.just([]), st.just({}))
_nodes = st.recursive(
    st.fixed_dictionaries(
        {"id": _ids, "type": st.one_of(st.integers(0, 6), _junk)},
        optional={
            "tagName": st.one_of(st.sampled_from(["button", "input", "form", "a", "label", ""]), _junk),
            "attributes": st.one_of(st.dictionaries(_names, st.one_of(_junk, st.text(max_size=80))), _junk),
            "textContent": st.one_of(st.text(max_size=5), _junk),
        },
    ),
    lambda inner: st.builds(
        lambda node, children: node | {"childNodes": children},
        st.fixed_dictionaries(
            {
                "id": st.integers(1, 40),
                "type": st.sampled_from([0, 2]),
                "tagName": st.sampled_from(["div", "form", "label"]),
                "attributes": st.dictionaries(_names, st.text(max_size=5), max_size=2),
            }
        ),
        st.one_of(st.lists(inner, max_size=3), _junk),
    ),
    max_leaves=8,
)
_lists = st.one_of(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "id": _ids,
                "parentId": _ids,
                "nextId": _ids,
                "node": st.one_of(_nodes, _junk),
                "value": _junk,
                "attributes": st.one_of(st.dictionaries(_names, st.one_of(_junk, st.just({"a": [1]}))), _junk),
            },
        ),
        max_size=3,
    ),
    _junk,
)
_data = st.fixed_dictionaries(
    {},
    optional={
        "source": st.one_of(st.integers(0, 16), _junk),
        "type": st.one_of(st.integers(0, 10), _junk),
        "id": _ids,
        "x": st.one_of(st.integers(0, 9), st.just(1e300), _junk),
        "y": st.one_of(st.integers(0, 9), _junk),
        "removes": _lists,
        "adds": _lists,
        "texts": _lists,
        "attributes": _lists,
        "node": st.one_of(_nodes, _junk),
        "href": _junk,
        "tag": st.one_of(st.sampled_from(["$pageview", "window hidden"]), _junk),
        "payload": st.one_of(
            st.fixed_dictionaries({}, optional={"href": _junk, "level": _junk, "payload": _junk}), _junk
        ),
        "plugin": st.sampled_from(["rrweb/console@1", "rrweb/network@1", ""]),
        "ranges": st.one_of(st.lists(_junk, max_size=2), _junk),
        "text": _junk,
        "isChecked": _junk,
    },
)
_events = st.fixed_dictionaries(
    {"type": st.sampled_from([0, 1, 2, 3, 3, 3, 3, 4, 5, 6]), "timestamp": st.integers(T0, T0 + 5_000)},
    optional={"data": st.one_of(_data, _data, _data, _junk), "cv": st.just("2024-10")},
)


@settings(max_examples=300, deadline=None)
@given(chunks=st.lists(st.lists(_events, max_size=8), min_size=1, max_size=4), with_page=st.booleans())
def test_no_recording_however_strange_breaks_the_stage(chunks: list[list[Any]], with_page: bool) -> None:
    reader = Reader()
    if with_page:
        reader.read(SCENE[:2])
    for chunk in chunks:
        reader.digest(chunk)
    reader.digest(press(6_000, 7))
