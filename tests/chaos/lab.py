"""What a chaos run lives on: a broker and a database that can be taken away, and `traceflow up` between them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import psycopg

from adapters.postgres import Connection
from deploy.demo.system import System, demo_environment, own_system
from deploy.runtime import kafka, postgres
from deploy.runtime.program import Program
from schemas.connections import KafkaSettings
from tests.chaos.ended import Ended, end_of_system, reason_in
from tests.chaos.faults import SPOOLED
from tests.chaos.groups import Groups
from tests.chaos.orders import Orders
from tests.chaos.plants import PLANTS
from tests.chaos.service import SPOOL_VARIABLE
from tests.services import described_broker, described_database

START_DEADLINE_S = 120.0
UP_ENDS_S = 100.0
"""How long `traceflow up` may take to stop its processes: it kills those that do not within 25 s."""
GROUP_SESSION_S = 6
"""The least that Kafka allows: what is frozen for longer loses its partitions soon."""
RESIDUE_MS = 120_000
"""A day in earnest: within a run closed sessions are forgotten, too."""
SPOOL_EVENTS_MB = 2
"""Half a minute of the load fills it."""


class Server:
    """A server that is ours to take away and to bring back."""

    def __init__(self, program: Program, output: Path) -> None:
        self._program = program
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run; the main thread has to, since the process dies with the thread."""
        if self._process is None or self._process.poll() is not None:
            with self._output.open("ab") as stream:
                self._process = self._program.start(stream)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def end(self, number: signal.Signals, *, patience_s: float = 20.0) -> None:
        """End it by a signal, at the latest after the patience."""
        self.send(number)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
            self._program.stop(self._process)

    @property
    def is_alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def works(self) -> bool:
        """Tell whether it runs and does not hang."""
        return self._process is not None and self.is_alive and state_of(self._process.pid) != "T"


class SpoolSight:
    """The spool of the gateway that has one, from outside."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def size(self) -> int:
        """Bytes of events on disk."""
        return sum(map(_size, self._segments("events")))

    @property
    def is_full(self) -> bool:
        """Tell whether nothing more goes in: a request of the load is smaller than a twentieth."""
        return self.size > 0.95 * SPOOL_EVENTS_MB * 1_000_000

    def left(self) -> int:
        """Count the segments that wait for the broker."""
        return sum(1 for path in (*self._segments("events"), *self._segments("recordings")) if _size(path))

    def _segments(self, lane: str) -> list[Path]:
        return list((self.directory / SPOOLED / lane).glob("*.spool"))


@dataclass(frozen=True, slots=True)
class Beside:
    """A worker beside those of the system, which nobody restarts."""

    role: str
    program: Program
    process: "subprocess.Popen[bytes]"
    output: Path

    def ended(self, name: str) -> Ended:
        """Say how it ended."""
        return Ended(self.role, name, self.process.returncode, reason_in(_read(self.output).splitlines()))


class Lab:
    """The servers, the system, and workers beside those of the system."""

    def __init__(
        self,
        broker: Server,
        database: Server,
        system: System,
        environ: Mapping[str, str],
        directory: Path,
        *,
        orders: Orders,
        spool: SpoolSight,
        plant: str | None,
    ) -> None:
        self.broker = broker
        self.database = database
        self.system = system
        self.environ = environ
        self.orders = orders
        self.groups = Groups(self.kafka)
        self.spool = spool
        self._directory = directory
        self._plant = plant
        self._beside: list[Beside] = []

    @property
    def database_url(self) -> str:
        """Return the superuser's URL."""
        return self.system.target.database_url

    @property
    def kafka(self) -> KafkaSettings:
        """Return how to reach the broker."""
        return KafkaSettings(bootstrap=self.system.target.kafka_bootstrap)

    def connect(self) -> Connection:
        """Open a connection that may write whatever the server's default is."""
        return psycopg.connect(
            self.database_url,
            autocommit=True,
            connect_timeout=5,
            application_name="chaos",
            options="-c default_transaction_read_only=off -c lock_timeout=5s",
        )

    def pids(self) -> dict[str, int]:
        """Return the pids of the processes of `traceflow up`, without those that have ended and are not back yet."""
        with suppress(OSError, orjson.JSONDecodeError):
            processes = orjson.loads(self.system.ready.read_bytes())["processes"]
            return {p["name"]: int(p["pid"]) for p in processes if self.owns(p["pid"])}
        return {}

    def owns(self, pid: int) -> bool:
        """Tell whether a process is one of `traceflow up`."""
        return _parent(pid) == self.system.pid

    def is_up(self) -> bool:
        """Tell whether `traceflow up` still runs: it ends when a service asks for a person."""
        return self.system.ready.exists()

    def ended(self) -> Ended:
        """Wait until `traceflow up` has had its last word, and say which service ended it."""
        ends_at = time.monotonic() + UP_ENDS_S
        while state_of(self.system.pid) not in ("", "Z") and time.monotonic() < ends_at:
            time.sleep(0.2)
        return end_of_system(_read(self.system.log))

    def start_beside(self, role: str, arguments: Sequence[str] = ()) -> Beside:
        """Start a worker that nobody restarts; the main thread has to."""
        planted = ("--plant", self._plant) if self._plant and PLANTS[self._plant].role == role else ()
        output = self._directory / f"beside-{len(self._beside):02}-{role}.log"
        program = Program(
            name=f"{role} beside",
            argv=(sys.executable, "-m", "tests.chaos.worker", role, *arguments, *planted),
            environ=self.environ,
            stop_deadline_s=20.0,
        )
        with output.open("wb") as stream:
            beside = Beside(role, program, program.start(stream), output)
        self._beside.append(beside)
        return beside

    def end_beside(self) -> None:
        """End what still runs beside the system."""
        for beside in self._beside:
            beside.program.stop(beside.process)
        self._beside.clear()

    def said(self) -> str:
        """Return what all processes said."""
        files = (self.system.log, *sorted(self._directory.glob("*.log")))
        return "\n".join(f"== {file.name}\n{_read(file)}" for file in files if file.exists())


def state_of(pid: int) -> str:
    """Return a process's state as the kernel names it: T is stopped; empty if there is none."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def _read(file: Path) -> str:
    return file.read_text(errors="replace")


def _size(path: Path) -> int:
    """Return a file's size; 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


@contextmanager
def open_lab(
    *, workers: Mapping[str, int], partitions: int, report: Callable[[str], None], plant: str | None = None
) -> Iterator[Lab]:
    """Run everything for the time of a block; `plant` names a fault that the system has from the start.

    If there is more than one gateway, the second has a spool.
    """
    with tempfile.TemporaryDirectory(prefix="traceflow-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        # as root the database runs as another user, who has to pass
        directory.chmod(0o711)
        with _broker(directory) as (broker, bootstrap), _database(directory) as (database, url):
            spool, orders = SpoolSight(directory / "spool"), Orders(directory / "orders", tuple(workers))
            settings = {
                "TRACEFLOW_KAFKA_BOOTSTRAP": bootstrap,
                "TRACEFLOW_DATABASE_URL": url,
                "TRACEFLOW_STAGE_GROUP_SESSION_S": str(GROUP_SESSION_S),
                "TRACEFLOW_STAGE_RESIDUE_MS": str(RESIDUE_MS),
                SPOOL_VARIABLE: str(spool.directory),
                f"{SPOOL_VARIABLE}_EVENTS_MB": str(SPOOL_EVENTS_MB),
            }
            planted = ("--plant", plant) if plant else ()
            command = (sys.executable, "-m", "tests.chaos.up", "--orders", str(directory / "orders"), *planted, "up")
            asked = ",".join(f"{role}={count}" for role, count in workers.items())
            with own_system(
                os.environ, report=report, workers=asked, partitions=partitions, settings=settings, command=command
            ) as system:
                environ = demo_environment(os.environ) | settings | {"TRACEFLOW_PARTITIONS": str(partitions)}
                lab = Lab(broker, database, system, environ, directory, orders=orders, spool=spool, plant=plant)
                try:
                    yield lab
                finally:
                    lab.end_beside()


@contextmanager
def _broker(directory: Path) -> Iterator[tuple[Server, str]]:
    described = described_broker(directory)
    described.prepare()
    with _running(Server(described.program(os.environ), directory / "kafka.log"), signal.SIGKILL) as server:
        kafka.wait_until_ready(described.bootstrap, deadline_s=START_DEADLINE_S, alive=lambda: server.is_alive)
        yield server, described.bootstrap


@contextmanager
def _database(directory: Path) -> Iterator[tuple[Server, str]]:
    described = described_database(directory)
    described.prepare()
    with _running(Server(described.program(os.environ), directory / "postgres.log"), signal.SIGINT) as server:
        postgres.ensure_database(described.url, deadline_s=START_DEADLINE_S, alive=lambda: server.is_alive)
        yield server, described.url


@contextmanager
def _running(server: Server, end_by: signal.Signals) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.send(signal.SIGCONT)
        server.end(end_by)
