"""The real services of a test run: one broker and one database server, on free ports in a temporary directory.

TRACEFLOW_TEST_KAFKA_BOOTSTRAP and TRACEFLOW_TEST_DATABASE_URL (a superuser's) name running ones instead; with
TRACEFLOW_TEST_CONTAINERS=1 a Docker daemon gives them. Else the local runtime starts its own, tied to the life of this
process.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.runtime import archive, jars, java, postgres
from deploy.runtime import kafka as broker
from deploy.runtime.ports import free_port
from deploy.runtime.program import Program, RuntimeFailure
from tests.containers import kafka_container, postgres_container

_START_DEADLINE_S = 90


@contextmanager
def directory_of_run() -> Iterator[Path]:
    """Make the run's own directory, which other users may pass but not list: a server of another user lives in it."""
    directory = Path(tempfile.mkdtemp(prefix="traceflow-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@contextmanager
def running(program: Program, output: Path, wait: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Run a server for the time of a block; a failed start shows the end of what it wrote."""
    with output.open("wb") as stream:
        process = program.start(stream)
    try:
        try:
            wait(lambda: process.poll() is None)
        except RuntimeFailure as failure:
            raise RuntimeFailure(f"{failure}\n{output.read_text(errors='replace')[-4000:]}") from failure
        yield
    finally:
        program.stop(process)


def described_broker(directory: Path) -> broker.KafkaServer:
    """Describe a broker in a directory, on ports that are free now."""
    port = free_port()
    runtime, classpath = java.find_java(os.environ), tuple(jars.classpath(os.environ, report=print))
    return broker.KafkaServer(
        directory=directory / "kafka",
        port=port,
        controller_port=free_port(taken=frozenset({port})),
        java=runtime,
        jars=classpath,
        flags=archive.flags_to_use(runtime, classpath, os.environ),
    )


def described_database(directory: Path) -> postgres.PostgresServer:
    """Describe a database server of a directory, on a port that is free now."""
    account = postgres.server_account()
    return postgres.PostgresServer(
        directory=postgres.database_place(directory, account),
        port=free_port(),
        password_file=directory / "postgres.password",
        binaries=postgres.usable_binaries(postgres.find_binaries(os.environ), account),
        account=account,
        settings=tuple(postgres.VOLATILE.items()),
    )


@contextmanager
def kafka_broker(directory: Path) -> Iterator[str]:
    """Give the bootstrap address of the run's broker."""
    named = os.environ.get("TRACEFLOW_TEST_KAFKA_BOOTSTRAP")
    if named:
        yield named
        return
    if os.environ.get("TRACEFLOW_TEST_CONTAINERS"):
        with kafka_container() as bootstrap:
            yield bootstrap
        return
    server = described_broker(directory)
    server.prepare()

    def wait(alive: Callable[[], bool]) -> None:
        broker.wait_until_ready(server.bootstrap, deadline_s=_START_DEADLINE_S, alive=alive)

    with running(server.program(os.environ), directory / "kafka.out", wait):
        yield server.bootstrap


@contextmanager
def postgres_server(directory: Path) -> Iterator[str]:
    """Give the superuser's URL of the run's database server."""
    named = os.environ.get("TRACEFLOW_TEST_DATABASE_URL")
    if named:
        yield named
        return
    if os.environ.get("TRACEFLOW_TEST_CONTAINERS"):
        with postgres_container() as url:
            yield url
        return
    server = described_database(directory)
    server.prepare()

    def wait(alive: Callable[[], bool]) -> None:
        postgres.ensure_database(server.url, deadline_s=_START_DEADLINE_S, alive=alive)

    with running(server.program(os.environ), directory / "postgres.out", wait):
        yield server.url
    if not server.directory.is_relative_to(directory):
        shutil.rmtree(server.directory.parent)
