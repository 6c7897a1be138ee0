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
    assert expired(days, kept_since={"events": TODAY - timedelta(days=90)}) == {
        "events": [partition(92), partition(91)]
    }


def test_each_table_has_its_own_days_and_one_that_is_not_named_keeps_all() -> None:
    days = [partition(70, table=table) for table in ("events", "chunks", "more", "other")]
    since = {"events": TODAY - timedelta(days=90), "chunks": TODAY - timedelta(days=60), "more": None}
    assert expired(days, kept_since=since) == {"events": [], "chunks": [partition(70, table="chunks")], "more": []}


def test_what_an_earlier_prune_left_comes_first() -> None:
    half_way = partition(95, state="detaching")
    days = [partition(99), half_way, partition(98)]
    found = expired(days, kept_since={"events": TODAY - timedelta(days=90)})
    assert found["events"] == [half_way, partition(99), partition(98)]


def test_what_an_earlier_prune_left_goes_whatever_is_kept_now() -> None:
    left = [partition(95, state="detaching"), partition(94, state="detached")]
    assert expired([*left, partition(96)], kept_since={"events": None}) == {"events": left}
