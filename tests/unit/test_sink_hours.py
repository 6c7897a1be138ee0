from collections import Counter

import pytest

from sinks.contract.hours import HOUR_MS, ProjectHour, add_hours, counts_by_hour
from sinks.tables.copy_text import escaped, unescaped

NOON = 480_012


def test_rows_of_one_hour_are_counted_by_type() -> None:
    first, last = NOON * HOUR_MS, (NOON + 1) * HOUR_MS - 1
    assert counts_by_hour([first, last, first], ["click", "error", "click"]) == {NOON: {"click": 2, "error": 1}}


def test_an_hour_ends_where_the_next_begins() -> None:
    end = (NOON + 1) * HOUR_MS
    assert counts_by_hour([end, end - 1, end], ["click"] * 3) == {NOON: {"click": 1}, NOON + 1: {"click": 2}}


def test_hours_before_1970_are_counted_downwards() -> None:
    assert counts_by_hour([-1], ["click"]) == {-1: {"click": 1}}


def test_no_rows_have_no_hours() -> None:
    assert counts_by_hour([], []) == {}


@pytest.mark.parametrize("kind", [None, 5, True, ["click"]])
@pytest.mark.parametrize("hours", [1, 2])
def test_a_type_that_is_no_text_is_refused(kind: object, hours: int) -> None:
    times = [hour * HOUR_MS for hour in range(hours)]
    with pytest.raises(TypeError):
        counts_by_hour(times, [kind] * hours)  # type: ignore[list-item]


def test_hours_of_two_projects_stay_apart() -> None:
    totals: Counter[ProjectHour] = Counter()
    for project in ("p", "q", "p"):
        add_hours(totals, project, {NOON: {"click": 2}})
    assert totals == {("p", NOON, "click"): 4, ("q", NOON, "click"): 2}


def test_what_was_escaped_is_read_back() -> None:
    for text in ("a\tb", "a\\tb", "\\", "\\\\n", "line\nline\r", "\\N", "ä"):
        assert unescaped(escaped(text)) == text
