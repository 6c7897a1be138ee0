"""What a benchmark works with: a running broker and database, fresh topics and databases, processes of its own."""

import os
import secrets
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from adapters.kafka_admin import Layout, create_topics, delete_topics
from adapters.migrations import migrate
from deploy.demo.system import System, own_system
from deploy.runtime.ports import free_port
from deploy.runtime.program import Program
from schemas import topics

READY_DEADLINE_S = 60.0


class Worker:
    """A process under measurement."""

    def __init__(self, pid: int, admin_port: int, output: Path) -> None:
        self.pid = pid
        self.output = output
        """What it writes: its log."""
        self._admin = f"http://127.0.0.1:{admin_port}"

    def metric(self, name: str) -> float:
        """Return the sum over a metric's samples; 0 while it has none."""
        with urllib.request.urlopen(f"{self._admin}/metrics", timeout=10) as answer:  # noqa: S310 # ours
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def is_ready(self) -> bool:
        """Ask /readyz."""
        try:
            with urllib.request.urlopen(f"{self._admin}/readyz", timeout=2) as answer:  # noqa: S310 # ours
                return bool(answer.status == 200)
        except OSError:
            return False


class Lab:
    """The servers of a run; what is made here is gone afterwards."""

    def __init__(self, system: System) -> None:
        self.target = system.target
        self.ready_file = system.ready
        self._admin = AdminClient({"bootstrap.servers": self.target.kafka_bootstrap, "log_level": 0})

    @contextmanager
    def topics(self, *, partitions: int, dated: bool = False) -> Iterator[str]:
        """Give a prefix whose topics exist; with `dated` events keep the time that their producer gives them."""
        prefix = f"bench-{secrets.token_hex(4)}."
        create_topics(self._admin, topics.ALL, Layout(prefix=prefix, partitions=partitions))
        if dated:
            self._let_producers_date(topics.EVENTS.full_name(prefix))
        try:
            yield prefix
        finally:
            delete_topics(self._admin, [topic.full_name(prefix) for topic in topics.ALL])

    def _let_producers_date(self, topic: str) -> None:
        entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for future in self._admin.incremental_alter_configs([resource]).values():
            future.result()

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give the URL of a migrated database."""
        name = f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(self.target.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            url = urlunsplit(urlsplit(self.target.database_url)._replace(path=f"/{name}"))
            try:
                migrate(url)
                yield url
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def process(
        self, arguments: Sequence[str], *, prefix: str, partitions: int, cpu: int | None = None, **environ: str
    ) -> Iterator[Worker]:
        """Run `python -m …` beside the servers, on one core if `cpu` names it, until the block ends."""
        port = free_port()
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "output").open("w+b") as output:
            pinned = ("taskset", "-c", str(cpu)) if cpu is not None else ()
            program = Program(
                name=arguments[0],
                argv=(*pinned, sys.executable, "-m", *arguments),
                environ={
                    **{name: value for name, value in os.environ.items() if not name.startswith("TRACEFLOW_")},
                    "TRACEFLOW_KAFKA_BOOTSTRAP": self.target.kafka_bootstrap,
                    "TRACEFLOW_DATABASE_URL": self.target.database_url,
                    "TRACEFLOW_TOPIC_PREFIX": prefix,
                    "TRACEFLOW_PARTITIONS": str(partitions),
                    "TRACEFLOW_ADMIN_PORT": str(port),
                    **environ,
                },
            )
            process = program.start(output)
            try:
                worker = Worker(process.pid, port, Path(output.name))
                wait_for(worker.is_ready, what=f"{arguments} to be ready", deadline_s=READY_DEADLINE_S)
                yield worker
            finally:
                program.stop(process)


@contextmanager
def open_lab(environ: Mapping[str, str]) -> Iterator[Lab]:
    """Start the servers; the services run too, idle, so that the whole pipeline can be measured."""
    with own_system(environ, report=lambda line: print(line, file=sys.stderr)) as system:
        yield Lab(system)


def wait_for(condition: Callable[[], bool], *, what: str, deadline_s: float, poll_s: float = 0.05) -> float:
    """Poll until a condition holds and return the seconds that it took.

    Raises:
        TimeoutError: naming what was waited for.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > deadline_s:
            raise TimeoutError(f"waited {deadline_s:.0f} s for {what}")
        time.sleep(poll_s)
    return time.monotonic() - began
