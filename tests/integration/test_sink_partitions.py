from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from adapters.postgres import Connection, connect
from schemas.connections import DatabaseSettings
from sinks.days import DayWindow, epoch_day
from sinks.metrics import declare_metrics
from sinks.partitions import DayPartitions, PartitionKeeper
from tests.integration.sink_bench import execute, query
from tests.integration.sink_system import until

TODAY = datetime.now(UTC).date()
LEAVES = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.traceflow_events'::regclass"


@pytest.fixture
def bare(database: str) -> str:
    """Give a database whose days have no partitions yet."""
    for (leaf,) in query(
        database,
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN"
        " ('public.traceflow_events'::regclass, 'public.session_recording_chunks'::regclass)",
    ):
        execute(database, f"DROP TABLE {leaf}")
    return database


def connection(url: str) -> Connection:
    return connect(DatabaseSettings(url=SecretStr(url)), application_name="test-partitions")


@pytest.fixture
def keeper(bare: str) -> tuple[PartitionKeeper, CollectorRegistry]:
    registry = CollectorRegistry()
    keeper = PartitionKeeper(lambda: connection(bare), metrics=declare_metrics(registry), retry_s=0.1)
    return keeper, registry


def ahead(registry: CollectorRegistry, table: str) -> float | None:
    return registry.get_sample_value("traceflow_sink_partition_days_ahead", {"table": table})


def test_the_days_around_today_are_made_at_the_start(
    keeper: tuple[PartitionKeeper, CollectorRegistry], bare: str
) -> None:
    partitions, registry = keeper
    partitions.start()
    until(lambda: ahead(registry, "session_recording_chunks") == 7)
    partitions.close()
    assert query(bare, LEAVES) == [(16,)]
    assert ahead(registry, "traceflow_events") == 7


def test_only_one_process_makes_them_at_a_time(keeper: tuple[PartitionKeeper, CollectorRegistry], bare: str) -> None:
    partitions, _ = keeper
    with psycopg.connect(bare) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('traceflow_sinks'), hashtext('ensure_days'))")
        partitions.keep()
        assert query(bare, LEAVES) == [(0,)]
    partitions.keep()
    assert query(bare, LEAVES) == [(16,)]


def test_a_database_that_is_away_is_asked_again(bare: str) -> None:
    answers: list[bool] = []

    def flaky() -> Connection:
        answers.append(len(answers) > 2)
        if not answers[-1]:
            raise psycopg.OperationalError("connection refused")
        return connection(bare)

    partitions = PartitionKeeper(flaky, metrics=declare_metrics(CollectorRegistry()), retry_s=0.01)
    partitions.start()
    until(lambda: query(bare, LEAVES) == [(16,)])
    partitions.close()
    assert answers == [False, False, False, True]


def test_a_day_is_made_once_and_one_too_far_away_is_closed(bare: str) -> None:
    today = epoch_day(int(datetime.now(UTC).timestamp() * 1000))
    days = DayPartitions(window=DayWindow(oldest=30))
    with connection(bare) as held:
        days.open(held, "public.traceflow_events", {today, today - 30, today - 31, today + 8, today + 7})
        assert days.closed == {today - 31, today + 8}
        assert query(bare, LEAVES) == [(3,)]
        days.open(held, "public.traceflow_events", {today})
    leaf = f"traceflow_parts.traceflow_events_{TODAY - timedelta(days=30):%Y%m%d}"
    assert query(bare, "SELECT to_regclass(%s) IS NOT NULL", leaf) == [(True,)]
