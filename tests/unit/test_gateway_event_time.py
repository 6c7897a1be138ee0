import json

import pytest

from ingest_gateway.admission.event_time import NotATime, epoch_ms, in_window, json_type

RECEIVED = 1_764_057_600_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2025-11-25T08:00:00Z", RECEIVED),
        ("2025-11-25T08:00:00.123Z", RECEIVED + 123),
        ("2025-11-25T08:00:00.123456+00:00", RECEIVED + 123),
        ("2025-11-25T09:00:00+01:00", RECEIVED),
        ("2025-11-25T08:00:00", RECEIVED),
        ("2025-11-25", RECEIVED - 8 * 3_600_000),
        ("1764057600000", RECEIVED),
        ("-62135596800000", -62_135_596_800_000),
        ("20251125", 20_251_125),
        (RECEIVED, RECEIVED),
        (1_764_057_600_000.6, RECEIVED + 1),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800_000 - 14 * 3_600_000),
    ],
)
def test_a_time_is_iso_8601_or_epoch_milliseconds(value: object, expected: int) -> None:
    assert epoch_ms(value) == expected


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("yesterday", "a string that is neither ISO 8601 nor digits"),
        ("", "a string that is neither ISO 8601 nor digits"),
        ("12345678901234567", "a string that is neither ISO 8601 nor digits"),
        ("١٢٣", "a string that is neither ISO 8601 nor digits"),
        (True, "a boolean"),
        ([1], "an array"),
        (1e300, "a number that is no time in milliseconds"),
    ],
)
def test_anything_else_is_no_time_and_is_named(value: object, found: str) -> None:
    with pytest.raises(NotATime) as raised:
        epoch_ms(value)
    assert str(raised.value) == found


@pytest.mark.parametrize(
    ("timestamp", "believed"),
    [
        (RECEIVED - 7 * DAY, True),
        (RECEIVED - 7 * DAY - 1, False),
        (RECEIVED + 600_000, True),
        (RECEIVED + 600_001, False),
    ],
)
def test_a_clock_is_believed_from_7_days_back_to_10_minutes_ahead(timestamp: int, believed: bool) -> None:
    assert in_window(timestamp, RECEIVED) is believed


def test_json_types_have_names_for_messages() -> None:
    assert [json_type(json.loads(v)) for v in ("null", "true", "1", "1.5", '""', "[]", "{}")] == [
        "null",
        "a boolean",
        "a number",
        "a number",
        "a string",
        "an array",
        "an object",
    ]
