"""`traceflow up` on a real broker and server, with stand-ins for the services, which have tests of their own.

A stand-in answers /readyz and ends on SIGTERM, saying so; `kill -USR1` lets it end with the exit code in its file.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adapters.kafka_consumer import describe_topic
from schemas.connections import KafkaSettings

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
STAND_IN = """
import http.server, json, os, signal, sys, threading
name = __spec__.parent if __spec__.parent != "stream_processors" else sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["TRACEFLOW_ADMIN_PORT"])), Handler)
def end(number, frame):
    print(name, "has stopped", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(75))
signal.signal(signal.SIGUSR2, lambda number, frame: (print("TRACEFLOW_SINK_X: wrong", flush=True), os._exit(78)))
print(name, "uses", os.environ["TRACEFLOW_PARTITIONS"], os.environ["TRACEFLOW_GATEWAY_PORT"], flush=True)
server.serve_forever()
"""


class Up:
    """One `traceflow up`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.ready_file = folder / "ready.json"
        self.log = folder / "up.log"
        stand_ins = folder / "stand-ins"
        for package in ("ingest_gateway", "stream_processors", "sinks"):
            (stand_ins / package).mkdir(parents=True, exist_ok=True)
            (stand_ins / package / "__main__.py").write_text(STAND_IN)
            for real in (ROOT / package).iterdir():  # what `up` itself uses of it
                with contextlib.suppress(FileExistsError):
                    (stand_ins / package / real.name).symlink_to(real)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TRACEFLOW_")}
        kept = {name: os.environ[name] for name in ("TRACEFLOW_CACHE_DIR", "TRACEFLOW_JAVA") if name in os.environ}
        command = [sys.executable, "-P", "-c", "from deploy.command import main; main()", "up", "--gateway-port", "0"]
        places = ["--data", str(folder / "data"), "--ready-file", str(self.ready_file)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *places, *arguments],
                env={**environ, **kept, "PYTHONPATH": str(stand_ins)},
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something to become true; if it does not, show the log."""
        ends_at = time.monotonic() + DEADLINE_S
        while time.monotonic() < ends_at:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{what} did not happen:\n{self.log.read_text(errors='replace')[-4000:]}")

    def ready(self) -> dict[str, Any]:
        """Wait for the ready file and give what it says."""
        self.until(lambda: self.ready_file.exists() or self.process.poll() is not None, "readiness")
        assert self.ready_file.exists(), self.log.read_text(errors="replace")[-4000:]
        found: dict[str, Any] = json.loads(self.ready_file.read_text())
        return found

    def pids(self) -> dict[str, int]:
        """Give the processes that the ready file names."""
        return {process["name"]: process["pid"] for process in self.ready()["processes"]}

    def stop(self) -> int:
        """Stop it and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


def exists(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.fixture
def folder(run_directory: Path, tmp_path: Path) -> Path:
    """Give a folder that the database server's user may enter."""
    place = run_directory / tmp_path.name
    place.mkdir()
    place.chmod(0o711)
    return place


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Up]]:
    """Start `traceflow up` in the test's folder, and leave nothing of it."""
    started: list[Up] = []

    def starting(*arguments: str) -> Up:
        started.append(Up(folder, *arguments))
        return started[-1]

    yield starting
    for up in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            up.stop()
        up.process.kill()
        up.process.wait()


@pytest.mark.timeout(400)
def test_up_starts_everything_keeps_the_ready_file_true_and_starts_again_with_nothing_lost(
    start: Callable[..., Up], folder: Path
) -> None:
    up = start("--workers", "analyze=2", "--partitions", "3")
    ready = up.ready()
    assert set(ready) == {
        "gateway",
        "database_url",
        "kafka_bootstrap",
        "project_id",
        "project_key",
        "processes",
    }
    before = up.pids()
    assert list(before) == ["kafka", "postgres", "gateway", "digest-0", "analyze-0", "analyze-1", "sink-0"]
    assert all(map(exists, before.values()))
    assert f"uses 3 {ready['gateway'].rpartition(':')[2]}" in up.log.read_text()
    assert (folder / "data/project.key").read_text().strip() == ready["project_key"]
    assert ready["project_key"] in up.log.read_text()
    for private in (up.ready_file, folder / "data/project.key", folder / "data/state.json"):
        assert private.stat().st_mode & 0o077 == 0
    with psycopg.connect(ready["database_url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        for sink, topic in (("events", "traceflow.events"), ("signals", "traceflow.signals")):
            topic_id = describe_topic(KafkaSettings(bootstrap=ready["kafka_bootstrap"]), topic).topic_id
            # as after a power loss: the database has synced what the broker has not
            connection.execute("INSERT INTO traceflow_sink_offsets VALUES (%s, %s, %s, 0, 7)", (sink, topic, topic_id))

    os.kill(before["sink-0"], signal.SIGKILL)
    os.kill(before["analyze-1"], signal.SIGUSR1)
    after = up.until(
        lambda: (pids := up.pids())["sink-0"] != before["sink-0"] and pids["analyze-1"] != before["analyze-1"] and pids,
        "restarts",
    )
    assert {name for name in after if after[name] != before[name]} == {"sink-0", "analyze-1"}
    assert "analyze-1 asked to be restarted (exit 75)" in up.log.read_text()

    second = start()
    assert second.process.wait(DEADLINE_S) == 1
    assert f"in use by process {up.process.pid}: stop that" in second.log.read_text()

    assert up.ready_file.exists()
    assert up.stop() == 0
    assert not any(map(exists, after.values()))
    assert not up.ready_file.exists()
    stopped = [line.split("|")[1].split()[0] for line in up.log.read_text().splitlines() if "has stopped" in line]
    assert (stopped[0], stopped[-1]) == ("ingest_gateway", "sinks")

    halted = start()
    assert halted.process.wait(DEADLINE_S) == 1
    told = halted.log.read_text().splitlines()
    assert "in 2 places that are named above" in told[-1]
    for sink in ("events", "signals"):
        what = f"sink {sink}, traceflow.{sink} partition 0: the log ends at 0, before the 7 records that were stored"
        assert any(what in line for line in told)

    again = start("--accept-loss")
    assert {name: value for name, value in again.ready().items() if name != "processes"} == {
        name: value for name, value in ready.items() if name != "processes"
    }
    with psycopg.connect(again.ready()["database_url"]) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
        assert connection.execute("SELECT sum(next_offset) FROM traceflow_sink_offsets").fetchone() == (0,)
    pids = again.pids()
    if sys.platform == "linux":
        again.process.kill()
        again.process.wait()
        again.until(lambda: not any(map(exists, pids.values())), "the end of every process")


@pytest.mark.timeout(400)
def test_a_wrong_setting_of_a_service_ends_everything_with_its_line(start: Callable[..., Up]) -> None:
    up = start("--partitions", "1")
    pids = up.pids()
    os.kill(pids["sink-0"], signal.SIGUSR2)
    assert up.process.wait(DEADLINE_S) == 78
    last = up.log.read_text().splitlines()[-1]
    assert "sink-0 ended with exit 78: a person has to act" in last
    assert "TRACEFLOW_SINK_X: wrong" in last
    assert not any(map(exists, pids.values()))
