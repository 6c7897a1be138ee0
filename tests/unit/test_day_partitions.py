from datetime import date, timedelta
from typing import Literal

from adapters.day_partitions import DayPartition, expired

TODAY = date(2026, 3, 1)


def partition(
    days_old: int, *, table: str = "events", state: Literal["attached", "detaching", "detached"] = "attached"
) -> DayPartition:
    day = TODAY - timedelta(days=days_old)
    return DayPartition(table=table, name=f"{table}_{day:%Y%m%d}", day=day, state=state, rows=0, size_bytes=0)


def test_as_many_days_before_today_stay_as_are_kept() -> None:
    days = [partition(n) for n in (-1, 0, 89, 90, 91, 92)]
    assert expired(days, keep_days={"events": 90}, today=TODAY) == {"events": [partition(92), partition(91)]}


def test_each_table_has_its_own_days_and_one_that_is_not_named_keeps_all() -> None:
    days = [partition(70, table=table) for table in ("events", "chunks", "other")]
    found = expired(days, keep_days={"events": 90, "chunks": 60}, today=TODAY)
    assert found == {"events": [], "chunks": [partition(70, table="chunks")]}


def test_what_an_earlier_prune_left_comes_first() -> None:
    half_way = partition(95, state="detaching")
    days = [partition(99), half_way, partition(98)]
    assert expired(days, keep_days={"events": 90}, today=TODAY)["events"] == [half_way, partition(99), partition(98)]
