from typing import Any

import orjson
import pytest

from schemas.messages import Event
from sinks.tables.copy_text import (
    EVENT_COLUMNS,
    event_line,
    field,
    line,
    needs_no_escape,
    plain_event_lines,
    session_head,
    timestamp_text,
)

HEAD = session_head("s1", "p1")


def columns(event: dict[str, Any], *, plain: bool) -> dict[str, str]:
    decoded: Event = event  # type: ignore[assignment]  # as decoded from a record
    text = plain_event_lines([decoded], head=HEAD) if plain else event_line(decoded, head=HEAD)
    assert text.endswith("\n")
    values = text.removesuffix("\n").split("\t")
    assert len(values) == len(EVENT_COLUMNS)
    return {name: value for name, value in zip(EVENT_COLUMNS, values, strict=True) if value != "\\N"}


def test_a_whole_event_is_one_golden_line() -> None:
    event: Event = {
        "id": "0199b2f0-0000-8000-8000-000000000001",
        "timestamp": 1_765_361_000_123,
        "event_type": "click",
        "page_url": "https://shop.example/cart",
        "element_tag": "button",
        "element_text": "Bezahlen 支払う",
        "x_position": 12,
        "y_position": -3,
        "viewport_width": 1920,
        "metadata": {"trusted": True},
    }
    assert plain_event_lines([event], head=HEAD) == (
        "0199b2f0-0000-8000-8000-000000000001\ts1\tp1\t2025-12-10 10:03:20.123+00\t"
        '{"trusted":true}\tclick\t\\N\thttps://shop.example/cart\t\\N\tbutton\t\\N\t\\N\tBezahlen 支払う\t\\N\t'
        "12\t-3\t1920\t\\N\t\\N\t\\N\t\\N\t\\N\n"
    )


@pytest.mark.parametrize("plain", [True, False])
def test_what_is_absent_is_null_and_metadata_an_empty_object(plain: bool) -> None:
    assert columns({"id": "i", "timestamp": 0, "event_type": "custom"}, plain=plain) == {
        "id": "i",
        "session_id": "s1",
        "project_id": "p1",
        "timestamp": "1970-01-01 00:00:00.000+00",
        "metadata": "{}",
        "event_type": "custom",
    }


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a\tb", "a\\tb"),
        ("a\nb\r", "a\\nb\\r"),
        ("C:\\new", "C:\\\\new"),
        ("\\.", "\\\\."),
        ("\\N", "\\\\N"),
        ("", ""),
        ("\u2028\x7f", "\u2028\x7f"),
    ],
)
def test_text_that_copy_would_take_for_its_own_is_escaped(text: str, encoded: str) -> None:
    event = {"id": "i", "timestamp": 0, "event_type": "custom", "element_text": text}
    assert columns(event, plain=needs_no_escape(orjson.dumps(event)))["element_text"] == encoded


def test_json_null_becomes_null_and_the_word_null_stays() -> None:
    event = {"id": "i", "timestamp": 0, "event_type": "error", "page_url": None, "error_message": "x is null"}
    found = columns(event, plain=needs_no_escape(orjson.dumps(event)))
    assert "page_url" not in found
    assert found["error_message"] == "x is null"


def test_metadata_with_quotes_and_newlines_is_json_within_copy() -> None:
    event = {"id": "i", "timestamp": 0, "event_type": "custom", "metadata": {'a"b': "x\ny"}}
    found = columns(event, plain=needs_no_escape(orjson.dumps(event)))
    assert found["metadata"] == '{"a\\\\"b":"x\\\\ny"}'


@pytest.mark.parametrize(
    ("value", "plain"),
    [(b'{"a":"b"}', True), (b'{"a":"\\n"}', False), (b'{"a":null}', False), ('{"a":"ü"}'.encode(), True)],
)
def test_bytes_tell_whether_strings_need_care(value: bytes, plain: bool) -> None:
    assert needs_no_escape(value) is plain


def test_both_paths_give_the_same_line_where_nothing_needs_care() -> None:
    event: Event = {
        "id": "i",
        "timestamp": 1_765_361_000_999,
        "event_type": "scroll",
        "scroll_depth": 80,
        "time_on_page_ms": 5,
        "metadata": {"a": [1, 2.5, "x"]},
    }
    assert plain_event_lines([event, event], head=HEAD) == 2 * event_line(event, head=HEAD)


def test_values_of_any_row() -> None:
    assert line([None, "a\tb", True, False, 7, 1.5, {"k": "v\n"}, ("a",), []]) == (
        '\\N\ta\\tb\tt\tf\t7\t1.5\t{"k":"v\\\\n"}\t["a"]\t[]\n'
    )


def test_a_session_id_with_a_backslash_is_escaped_in_the_head() -> None:
    assert session_head("a\\b", "p") == "a\\\\b\tp"


@pytest.mark.parametrize(
    ("epoch_ms", "text"),
    [
        (0, "1970-01-01 00:00:00.000+00"),
        (-1, "1969-12-31 23:59:59.999+00"),
        (1_765_361_000_007, "2025-12-10 10:03:20.007+00"),
        (-62_135_596_800_000, "0001-01-01 00:00:00.000+00"),
    ],
)
def test_times_keep_their_milliseconds(epoch_ms: int, text: str) -> None:
    assert timestamp_text(epoch_ms) == text


@pytest.mark.parametrize("epoch_ms", [10**15, -(10**15), 10**30])
def test_a_time_outside_the_calendar_is_an_error(epoch_ms: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        timestamp_text(epoch_ms)


def test_a_value_without_a_json_form_is_an_error() -> None:
    with pytest.raises(TypeError):
        field([object()])
