from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from adapters.postgres import Connection, connect
from schemas.connections import DatabaseSettings
from sinks.contract.days import NOT_KEPT, TOO_FAR, DayWindow, epoch_day
from sinks.lifecycle.housekeeping import Chore, Housekeeper
from sinks.lifecycle.partitions import DayPartitions, MakeDaysAhead
from sinks.metrics import declare_metrics
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
def chore() -> tuple[MakeDaysAhead, CollectorRegistry]:
    registry = CollectorRegistry()
    return MakeDaysAhead(declare_metrics(registry)), registry


def figure(registry: CollectorRegistry, name: str, table: str) -> float | None:
    return registry.get_sample_value(f"traceflow_sink_partition_{name}", {"table": table})


def test_the_days_around_today_are_made_at_the_start(chore: tuple[MakeDaysAhead, CollectorRegistry], bare: str) -> None:
    work, registry = chore
    housekeeper = Housekeeper(lambda: connection(bare), [Chore("days_ahead", work)])
    housekeeper.start()
    until(lambda: figure(registry, "oldest_days", "session_recording_chunks") == 8)
    housekeeper.close()
    assert query(bare, LEAVES) == [(16,)]
    tables = ("traceflow_events", "session_recording_chunks")
    assert [(figure(registry, "days_ahead", t), figure(registry, "oldest_days", t)) for t in tables] == [(7, 8)] * 2


def test_only_one_process_makes_them_at_a_time(chore: tuple[MakeDaysAhead, CollectorRegistry], bare: str) -> None:
    work, _ = chore
    with psycopg.connect(bare) as other, connection(bare) as own:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('traceflow_sinks'), hashtext('ensure_days'))")
        work(own, may_go_on=lambda: True)
        assert query(bare, LEAVES) == [(0,)]
        other.rollback()
        work(own, may_go_on=lambda: True)
    assert query(bare, LEAVES) == [(16,)]


def test_a_database_that_is_away_is_asked_again(chore: tuple[MakeDaysAhead, CollectorRegistry], bare: str) -> None:
    answers: list[bool] = []

    def flaky() -> Connection:
        answers.append(len(answers) > 2)
        if not answers[-1]:
            raise psycopg.OperationalError("connection refused")
        return connection(bare)

    housekeeper = Housekeeper(flaky, [Chore("days_ahead", chore[0])], retry_s=0.01)
    housekeeper.start()
    until(lambda: query(bare, LEAVES) == [(16,)])
    housekeeper.close()
    assert answers == [False, False, False, True]


def test_a_chore_that_fails_keeps_no_other_one_back(bare: str) -> None:
    done: list[str] = []

    def fails(connection: Connection, *, may_go_on: Callable[[], bool]) -> None:  # noqa: ARG001
        done.append("fails")
        connection.execute("SELECT 1 FROM no_such_table")

    def works(connection: Connection, *, may_go_on: Callable[[], bool]) -> None:  # noqa: ARG001
        done.append("works")

    chores = [Chore("fails", fails), Chore("works", works, interval_s=0.01)]
    housekeeper = Housekeeper(lambda: connection(bare), chores, retry_s=0.01)
    housekeeper.start()
    until(lambda: min(done.count("fails"), done.count("works")) >= 3)
    housekeeper.close()


def test_a_day_is_made_once_and_one_too_far_away_is_closed(bare: str) -> None:
    today = epoch_day(int(datetime.now(UTC).timestamp() * 1000))
    days = DayPartitions(window=DayWindow(oldest=30))
    with connection(bare) as held:
        days.open(held, "public.traceflow_events", {today, today - 30, today - 31, today + 8, today + 7})
        assert days.closed == {today - 31: TOO_FAR, today + 8: TOO_FAR}
        assert query(bare, LEAVES) == [(3,)]
        days.open(held, "public.traceflow_events", {today})
    leaf = f"traceflow_parts.traceflow_events_{TODAY - timedelta(days=30):%Y%m%d}"
    assert query(bare, "SELECT to_regclass(%s) IS NOT NULL", leaf) == [(True,)]


def test_a_day_that_is_kept_no_longer_gets_no_partition_until_it_is_kept_again(bare: str) -> None:
    today = epoch_day(int(datetime.now(UTC).timestamp() * 1000))
    execute(bare, "UPDATE traceflow_retention SET events_days = 20, recordings_days = 15")
    days = DayPartitions()
    with connection(bare) as held:
        days.open(held, "public.traceflow_events", {today - 20, today - 21})
        assert days.closed == {today - 21: NOT_KEPT}
        assert held.execute(
            "SELECT traceflow_parts.ensure_day('traceflow_events', traceflow_parts.today() - 21)"
        ).fetchone() == (None,)
        execute(bare, "UPDATE traceflow_retention SET events_days = 21")
        days.open(held, "public.traceflow_events", {today - 20, today - 21})
        assert days.closed == {}
    assert query(bare, LEAVES) == [(2,)]


def test_a_day_that_is_being_dropped_takes_no_row_though_it_is_kept_again(bare: str) -> None:
    today = epoch_day(int(datetime.now(UTC).timestamp() * 1000))
    days = DayPartitions()
    with connection(bare) as held, psycopg.connect(bare) as reader:
        days.open(held, "public.traceflow_events", {today - 30})
        days.forget()
        reader.execute("SELECT count(*) FROM traceflow_events")
        leaf = f"traceflow_parts.traceflow_events_{TODAY - timedelta(days=30):%Y%m%d}"
        held.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            held.execute(f"ALTER TABLE traceflow_events DETACH PARTITION {leaf} CONCURRENTLY".encode())
        days.open(held, "public.traceflow_events", {today - 30})
        assert days.closed == {today - 30: NOT_KEPT}
