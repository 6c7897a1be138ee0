"""Whatever dies under load: every acknowledged event is a row exactly once, and every counter is what its rows say.

The short form of `make chaos`: each process is killed once, the broker and the database are stopped once, and the
clients, who repeat a request whose answer they did not get, keep a ledger of what was acknowledged.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import psycopg
import pytest

from deploy.demo.system import System, own_system
from deploy.load.drive import Shape, send_load
from deploy.load.verification import verify

VICTIMS = (
    ("gateway", signal.SIGKILL),
    ("analyze-0", signal.SIGKILL),
    ("digest-0", signal.SIGKILL),
    ("sink-0", signal.SIGKILL),
    # a fast shutdown, as `pg_ctl stop` asks for: a smart one would wait for clients that never leave
    ("postgres", signal.SIGINT),
    ("kafka", signal.SIGTERM),
    ("kafka", signal.SIGKILL),
)
BACK_DEADLINE_S = 90.0
CLOSED_DEADLINE_S = 90.0
"""What it takes is 10 s; a group that was told nothing by a broker that just came back looks again 5 s later."""


SHOWN_LINES = 400


@pytest.fixture
def system() -> Iterator[System]:
    with own_system(os.environ, report=print, workers="analyze=2") as running:
        yield running
        # gone with the directory otherwise; pytest shows it of a test that failed
        print(*running.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:], sep="\n")


def pids(ready: Path) -> dict[str, int]:
    return {process["name"]: process["pid"] for process in orjson.loads(ready.read_bytes())["processes"]}


def strike(ready: Path, name: str, number: signal.Signals) -> None:
    """Kill a process, and wait until the ready file shows its successor."""
    victim = pids(ready)[name]
    os.kill(victim, number)
    ends_at = time.monotonic() + BACK_DEADLINE_S
    while pids(ready).get(name, victim) == victim:
        assert time.monotonic() < ends_at, f"{name} did not come back within {BACK_DEADLINE_S:.0f} s"
        time.sleep(0.2)


def wait_until_closed(database_url: str) -> None:
    """Wait until the stages have told the end of every session."""
    ends_at = time.monotonic() + CLOSED_DEADLINE_S
    with psycopg.connect(database_url, autocommit=True) as connection:
        while True:
            row = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE closed) FROM traceflow_sessions"
            ).fetchone()
            assert row is not None
            if row[0] and row[0] == row[1]:
                return
            assert time.monotonic() < ends_at, f"{row[1]} of {row[0]} sessions are closed"
            time.sleep(0.5)


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_whatever_dies(system: System) -> None:
    target, ready, _log = system
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(send_load, target, Shape(rate=300.0, seconds=75.0, sessions=60), seed=11)
        for name, number in VICTIMS:
            strike(ready, name, number)
        ledger, report = load.result()
    assert report.events > 5_000
    assert report.chunks > 50
    assert verify(target.database_url, ledger, deadline_s=120.0).lines() == []
    wait_until_closed(target.database_url)
    assert verify(target.database_url, ledger).lines() == []
