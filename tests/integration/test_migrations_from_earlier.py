"""From every earlier version, with rows in every table that it had, to the newest one."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID, uuid5

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from adapters.migrations import migrate
from schemas.migrations import Migration
from tests.integration.earlier_version import (
    FILES,
    RELEASED,
    Hold,
    changed,
    declared,
    fill,
    hold_of,
    migrate_to,
    new_database,
    renamed,
    rows_of,
    sample_rows,
    whole_catalog,
)
from tests.integration.sink_bench import SinkBench, event, execute, query
from tests.integration.test_database_policies import SHOP

FIRST_WITH_PARTITIONS = 7


@dataclass(frozen=True, slots=True)
class Climbed:
    """A database that was at every version with rows."""

    conninfo: str
    changes: Mapping[str, Mapping[str, str]]
    """By file: what it did to rows without saying so, by table."""
    holds: Mapping[str, Hold]
    """By file after the first release."""


@pytest.fixture(scope="module")
def climbed(postgres_server: str, database_template: str) -> Iterator[Climbed]:
    samples = sample_rows(make_conninfo(postgres_server, dbname=database_template))
    changes, holds = {}, {}
    with new_database(postgres_server, f"climbs_{secrets.token_hex(4)}") as conninfo:
        migrate_to(conninfo, FILES[0].version)
        for present, file in pairwise(FILES):
            before = fill(conninfo, renamed(samples, present.version))
            make_a_day_of(present.version, conninfo)
            if file.version > RELEASED:
                holds[file.name] = hold_of(conninfo, file.sql)
            migrate_to(conninfo, file.version)
            with psycopg.connect(conninfo) as connection:
                changes[file.name] = changed(before, rows_of(connection), declared([file]))
        assert migrate(conninfo) == []
        yield Climbed(conninfo, changes, holds)


def make_a_day_of(version: int, conninfo: str) -> None:
    """Make partitions that no other version made."""
    if version >= FIRST_WITH_PARTITIONS:
        execute(
            conninfo,
            "SELECT traceflow_parts.ensure_days(d, d) FROM (SELECT '2020-01-01'::date + %s AS d) AS day",
            version,
        )


@pytest.mark.parametrize("file", FILES[1:], ids=lambda file: file.name)
def test_a_file_neither_loses_nor_changes_rows_unless_it_says_so(climbed: Climbed, file: Migration) -> None:
    """It says so in a line of its own: `-- Changes rows: table, other_table.column`."""
    assert climbed.changes[file.name] == {}


def test_every_table_had_rows_to_lose(climbed: Climbed) -> None:
    with psycopg.connect(climbed.conninfo) as connection:
        counts = {table: len(rows) for table, rows in rows_of(connection).items()}
    assert {table: n for table, n in counts.items() if n == 0} == {}


def test_the_database_is_then_what_one_is_that_was_migrated_empty(
    climbed: Climbed, postgres_server: str, database_template: str
) -> None:
    fresh = whole_catalog(make_conninfo(postgres_server, dbname=database_template))
    found = whole_catalog(climbed.conninfo)
    assert {"lacks": fresh - found, "has beyond": found - fresh} == {"lacks": set(), "has beyond": set()}


def test_the_sinks_then_write_into_sessions_of_every_version(climbed: Climbed) -> None:
    execute(climbed.conninfo, "DELETE FROM traceflow_sink_offsets")  # those of another topic
    projects = [str(uuid5(UUID(SHOP), str(f.version))) for f in FILES[:-1] if f.version >= FIRST_WITH_PARTITIONS]
    bench = SinkBench(climbed.conninfo, "events")
    records = [
        bench.events([event(number)], session=f"{project}/1", project=project)
        for number, project in enumerate(projects)
    ]
    written = bench.write(records)
    bench.close()
    assert (written.inserted, bench.reasons()) == (len(projects), [])
    written_to = "SELECT count(DISTINCT session_id) FROM traceflow_events WHERE id = ANY (%s::uuid[])"
    assert query(climbed.conninfo, written_to, [event(n)["id"] for n, _ in enumerate(projects)]) == [(len(projects),)]


def test_no_file_reads_rows_while_it_keeps_tables_from_the_sinks(climbed: Climbed) -> None:
    """What closes them is over at once, what takes long leaves them open: schemas/migrations/__init__.py says how."""
    assert {name: hold for name, hold in climbed.holds.items() if hold.closed and hold.read} == {}


@pytest.mark.parametrize(
    ("statement", "closes", "reads"),
    [
        ("CREATE INDEX idx ON public.traceflow_events (element_id)", True, True),
        ("CREATE INDEX idx ON ONLY public.traceflow_events (element_id)", True, False),
        ("ALTER TABLE public.traceflow_events ADD COLUMN more TEXT DEFAULT 'x'", True, False),
        ("ALTER TABLE public.traceflow_events ADD COLUMN more UUID DEFAULT gen_random_uuid()", True, True),
        ("ALTER TABLE public.traceflow_events ALTER COLUMN x_position TYPE BIGINT", True, True),
        ("ALTER TABLE public.traceflow_events ADD CHECK (x_position < 1e6)", True, True),
        ("ALTER TABLE public.traceflow_events ADD CHECK (x_position < 1e6) NOT VALID", True, False),
        ("ALTER TABLE public.traceflow_sessions ALTER COLUMN started_at SET NOT NULL", True, False),
        ("UPDATE public.traceflow_sessions SET city = NULL", True, True),
        ("CREATE VIEW public.more AS SELECT * FROM public.traceflow_events", False, False),
        ("SELECT count(*) FROM public.traceflow_events; LOCK TABLE public.traceflow_events", True, False),
        ("LOCK TABLE public.traceflow_events; SELECT count(*) FROM public.traceflow_sessions", True, True),
    ],
)
def test_what_a_statement_holds_is_seen(climbed: Climbed, statement: str, closes: bool, reads: bool) -> None:
    hold = hold_of(climbed.conninfo, statement)
    assert (bool(hold.closed), bool(hold.read)) == (closes, reads)
