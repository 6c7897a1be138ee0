from collections.abc import Mapping

from sinks.commit.batching import Batch, BatchLimits, Collector, Span

LIMITS = BatchLimits(rows=10, size_bytes=1_000, age_ms=500, records=6, quiet_age_ms=5_000)


def collector(positions: Mapping[int, int]) -> Collector[str]:
    return Collector(LIMITS, positions=dict(positions))


def add(
    batch: Collector[str], item: str | None, offset: int, *, partition: int = 0, rows: int = 1, size: int = 10
) -> None:
    batch.add(item, partition=partition, offset=offset, rows=rows, size_bytes=size, timestamp=1_000 + offset)


def test_an_idle_writer_gets_a_batch_as_soon_as_the_topic_is_drained() -> None:
    batch = collector({0: 5})
    assert not batch.due(0, drained=True)
    batch.opened(0)
    add(batch, "a", 5)
    assert batch.due(0, drained=True)
    assert not batch.due(499, drained=False)
    assert batch.due(500, drained=False)


def test_a_batch_is_full_at_its_rows_its_bytes_or_its_records() -> None:
    rows = collector({0: 0})
    add(rows, "a", 0, rows=9)
    assert not rows.full()
    add(rows, "b", 1, rows=1)
    assert rows.full()
    size = collector({0: 0})
    add(size, "a", 0, size=1_000)
    assert size.full()
    records = collector({0: 0})
    for offset in range(6):
        add(records, None, offset)
    assert records.full()
    assert records.due(0, drained=False)


def test_records_without_rows_move_the_offset_but_not_often() -> None:
    batch = collector({0: 0})
    batch.opened(0)
    add(batch, None, 0)
    assert not batch.due(4_999, drained=True)
    assert batch.due(5_000, drained=False)


def test_a_batch_covers_what_was_read_of_each_partition_gaps_included() -> None:
    batch = collector({0: 5, 1: 70, 2: 9})
    add(batch, "a", 5)
    add(batch, "b", 71, partition=1, rows=2)
    add(batch, None, 8)
    assert batch.take() == Batch(
        items=["a", "b"],
        rows=3,
        size_bytes=20,
        records=3,
        spans={0: Span(5, 9), 1: Span(70, 72)},
        oldest_timestamp=1_005,
    )


def test_a_batch_begins_where_the_last_one_ended() -> None:
    batch = collector({0: 5})
    add(batch, "a", 6)
    batch.take()
    assert batch.empty()
    add(batch, "b", 9)
    assert batch.take().spans == {0: Span(7, 10)}


def test_a_restart_drops_what_was_collected() -> None:
    batch = collector({0: 5})
    add(batch, "a", 5)
    batch.restart({1: 3})
    assert batch.empty()
    assert batch.oldest_timestamp() == 0
    assert batch.positions == {1: 3}


def test_the_age_counts_from_the_first_record() -> None:
    batch = collector({0: 0})
    batch.opened(100)
    add(batch, "a", 0)
    batch.opened(400)
    add(batch, "b", 1)
    assert batch.due(600, drained=False)
    assert batch.oldest_timestamp() == 1_000
