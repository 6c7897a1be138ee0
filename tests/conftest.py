"""Real services for the tests: one broker and one database server per run, a topic prefix and a database per test."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql

from adapters.kafka_admin import Layout, create_topics, delete_topics
from schemas import topics as declared
from tests import services


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """Give a directory of the run's own."""
    with services.directory_of_run() as directory:
        yield directory


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, run_directory: Path) -> Iterator[str]:
    """Give the bootstrap address of the run's broker."""
    if shared := _shared(request.config):
        yield shared["kafka"]
        return
    with services.kafka_broker(run_directory) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, run_directory: Path) -> Iterator[str]:
    """Give the superuser's URL of the run's database server."""
    if shared := _shared(request.config):
        yield shared["postgres"]
        return
    with services.postgres_server(run_directory) as url:
        yield url


# --- with `-n`, the process that hands out the tests starts the services, and those that run them are told where

_held = pytest.StashKey[ExitStack]()
_running = pytest.StashKey[dict[str, str]]()


def _shared(config: pytest.Config) -> dict[str, str] | None:
    told: dict[str, dict[str, str]] = getattr(config, "workerinput", {})
    return told.get("services")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that runs tests where the services are; start them before the first one."""
    stack = node.config.stash.setdefault(_held, ExitStack())
    if _running not in node.config.stash:
        directory = stack.enter_context(services.directory_of_run())
        node.config.stash[_running] = {
            "kafka": stack.enter_context(services.kafka_broker(directory)),
            "postgres": stack.enter_context(services.postgres_server(directory)),
        }
    node.workerinput["services"] = node.config.stash[_running]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the services."""
    if _held in config.stash:
        config.stash[_held].close()


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


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their size: compressed ones hold the second, and two processes must collect the same names."""
    return f"{argname}-{len(val)}B" if isinstance(val, bytes) else None
