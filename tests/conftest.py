"""Real services for the tests: one broker and one database server per run, a topic prefix and a database per test.

TRACEFLOW_TEST_KAFKA_BOOTSTRAP and TRACEFLOW_TEST_DATABASE_URL (a superuser's) name running ones instead; with
TRACEFLOW_TEST_CONTAINERS=1 a Docker daemon gives them. Else the local runtime starts its own on free ports, in a
temporary directory, tied to the life of this process.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql

from adapters.kafka_admin import Layout, create_topics, delete_topics
from deploy.runtime import archive, jars, java, postgres
from deploy.runtime import kafka as broker
from deploy.runtime.ports import free_port
from deploy.runtime.program import Program, RuntimeFailure
from schemas import topics as declared
from tests.containers import kafka_container, postgres_container

_START_DEADLINE_S = 90


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """Give the run's own directory, which other users may pass but not list: a server of another user lives in it."""
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


@pytest.fixture(scope="session")
def kafka(run_directory: Path) -> Iterator[str]:
    """Give the bootstrap address of the run's broker."""
    named = os.environ.get("TRACEFLOW_TEST_KAFKA_BOOTSTRAP")
    if named:
        yield named
        return
    if os.environ.get("TRACEFLOW_TEST_CONTAINERS"):
        with kafka_container() as bootstrap:
            yield bootstrap
        return
    port = free_port()
    runtime, classpath = java.find_java(os.environ), tuple(jars.classpath(os.environ, report=print))
    server = broker.KafkaServer(
        directory=run_directory / "kafka",
        port=port,
        controller_port=free_port(taken=frozenset({port})),
        java=runtime,
        jars=classpath,
        flags=archive.flags_to_use(runtime, classpath, os.environ),
    )
    server.prepare()

    def wait(alive: Callable[[], bool]) -> None:
        broker.wait_until_ready(server.bootstrap, deadline_s=_START_DEADLINE_S, alive=alive)

    with running(server.program(os.environ), run_directory / "kafka.out", wait):
        yield server.bootstrap


@pytest.fixture(scope="session")
def postgres_server(run_directory: Path) -> Iterator[str]:
    """Give the superuser's URL of the run's database server."""
    named = os.environ.get("TRACEFLOW_TEST_DATABASE_URL")
    if named:
        yield named
        return
    if os.environ.get("TRACEFLOW_TEST_CONTAINERS"):
        with postgres_container() as url:
            yield url
        return
    account = postgres.server_account()
    place = postgres.database_place(run_directory, account)
    server = postgres.PostgresServer(
        directory=place,
        port=free_port(),
        password_file=run_directory / "postgres.password",
        binaries=postgres.usable_binaries(postgres.find_binaries(os.environ), account),
        account=account,
        settings=tuple(postgres.VOLATILE.items()),
    )
    server.prepare()

    def wait(alive: Callable[[], bool]) -> None:
        postgres.ensure_database(server.url, deadline_s=_START_DEADLINE_S, alive=alive)

    with running(server.program(os.environ), run_directory / "postgres.out", wait):
        yield server.url
    if not place.is_relative_to(run_directory):
        shutil.rmtree(place.parent)


@pytest.fixture
def topic_partitions() -> int:
    """Give the number of partitions of the test's topics; a test that needs another parametrises this."""
    return 2


@pytest.fixture
def topics(kafka: str, topic_partitions: int) -> Iterator[str]:
    """Give a fresh prefix under which all declared topics exist."""
    prefix = f"t{secrets.token_hex(4)}."
    admin = AdminClient({"bootstrap.servers": kafka})
    names = create_topics(admin, declared.ALL, Layout(prefix=prefix, partitions=topic_partitions))
    yield prefix
    delete_topics(admin, names)


@pytest.fixture(scope="session")
def database_template(postgres_server: str) -> Iterator[str]:
    """Give the name of a database that is migrated once per run and copied for each test."""
    from adapters.migrations import migrate

    name = f"template_{secrets.token_hex(4)}"
    with _administering(postgres_server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate(_on_database(postgres_server, name))
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(postgres_server: str, database_template: str) -> Iterator[str]:
    """Give the superuser's URL of a fresh, migrated database."""
    name = f"test_{secrets.token_hex(4)}"
    with _administering(postgres_server) as connection:
        # by files: half the time of copying through the log, on a server that syncs nothing
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(database_template)))
    yield _on_database(postgres_server, name)
    with _administering(postgres_server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _administering(url: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        yield connection


def _on_database(url: str, name: str) -> str:
    head, _, options = url.partition("?")
    return head.rpartition("/")[0] + "/" + name + (f"?{options}" if options else "")
