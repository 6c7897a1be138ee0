from typing import Any

import orjson
import pytest

from adapters.kafka_consumer import ConsumedRecord
from schemas.ids import session_key
from schemas.reasons import Reason
from sinks.contract.days import DAY_MS, NOT_KEPT, TOO_FAR, DayWindow, day_date, epoch_day
from sinks.contract.sink import Prepared
from sinks.contract.verdicts import Refusal
from sinks.tables.event_lines import EventLines
from sinks.topics.events import EventsSink

PROJECT = "11111111-1111-4111-8111-111111111111"
DAY = 20_000
NOON = DAY * DAY_MS + DAY_MS // 2


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"id{number}", "timestamp": NOON + number, "event_type": "click", **fields}


def prepare(*events: Any) -> Prepared[EventLines]:
    value = orjson.dumps({"v": 1, "project_id": PROJECT, "session_id": "s", "visitor_id": "v", "events": list(events)})
    record = ConsumedRecord(0, 0, 0, "events", session_key(PROJECT, "s"), value)
    item = EventsSink().prepare(record)
    assert item is not None
    return item


def content(*events: Any) -> EventLines:
    lines = prepare(*events).content
    assert lines is not None
    return lines


def test_a_record_is_its_rows_with_what_has_to_be_known_about_them() -> None:
    lines = content(event(5, event_type="error"), event(2), event(9, event_type="error", restamped=True))
    assert (lines.owner, lines.visitor_id, lines.started_at, lines.days) == (
        (PROJECT, "s"),
        "v",
        NOON + 2,
        frozenset({DAY}),
    )
    assert (list(lines.indexes), lines.findings) == ([0, 1], {"error": 1})
    assert [(row.index, row.restamped, row.event_type) for row in (*lines.rows(), *lines.restamped)] == [
        (0, False, "error"),
        (1, False, "click"),
        (2, True, "error"),
    ]


@pytest.mark.parametrize(
    ("metadata", "disbelieved"),
    [
        ({"client_timestamp": 5}, True),
        ({"client_timestamp": "the client's", "event.client_timestamp": 5}, True),
        ({"a": 1}, False),
        (None, False),
    ],
)
def test_a_restamped_event_may_come_again_with_its_own_time_if_it_has_one(metadata: Any, *, disbelieved: bool) -> None:
    assert content(event(1, restamped=True, metadata=metadata), event(2)).disbelieved == disbelieved


def test_an_event_that_is_none_is_refused_by_its_place() -> None:
    item = prepare(event(1), {"id": "x"}, event(2))
    assert item.rows == 3
    assert item.refusals == [Refusal(Reason.RECORD_MALFORMED, "KeyError: 'timestamp'", 1)]
    assert item.content is not None
    assert list(item.content.indexes) == [0, 2]


def test_a_record_of_nothing_but_refused_events_has_no_content() -> None:
    assert prepare({}, None).content is None


def test_rows_without_their_day_are_taken_out_and_counted_out() -> None:
    lines = content(
        event(1, event_type="error"),
        event(2, timestamp=NOON - DAY_MS, event_type="error"),
        event(3, timestamp=NOON - DAY_MS, restamped=True),
        event(4, page_title="tab\there"),
    )
    left, lost = lines.without_days({DAY - 1})
    assert left is not None
    assert (list(left.indexes), left.findings, left.days) == ([0, 3], {"error": 1}, frozenset({DAY}))
    assert lost == {1: DAY - 1, 2: DAY - 1}
    assert (left.started_at, left.restamped, [row.index for row in left.rows()]) == (NOON + 1, [], [0, 3])
    assert lines.without_days({DAY, DAY - 1}) == (None, {0: DAY, 1: DAY - 1, 2: DAY - 1, 3: DAY})


def test_days_are_counted_in_utc() -> None:
    assert [epoch_day(ms) for ms in (-1, 0, DAY_MS - 1, DAY_MS)] == [-1, 0, 0, 1]
    assert str(day_date(20_782)) == "2026-11-25"


def test_a_day_may_be_late_but_not_endlessly() -> None:
    window = DayWindow(behind=8, ahead=7, oldest=60)
    days = (939, 940, 1_000, 1_007, 1_008)
    assert [window.refusal(day, today=1_000, kept_since=None) for day in days] == [TOO_FAR, None, None, None, TOO_FAR]


def test_a_day_that_is_kept_no_longer_gets_no_partition_however_late_a_row_may_be() -> None:
    window = DayWindow(behind=8, ahead=7, oldest=60)
    days = (939, 969, 970, 1_000, 1_008)
    assert [window.refusal(day, today=1_000, kept_since=970) for day in days] == [
        *(NOT_KEPT, NOT_KEPT),
        *(None, None),
        TOO_FAR,
    ]
    assert window.refusal(939, today=1_000, kept_since=900) == TOO_FAR
