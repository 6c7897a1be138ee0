import os
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from adapters.kafka_admin import Layout, check_topics
from deploy.runtime import postgres
from deploy.runtime.ports import free_port
from schemas import topics as declared


def test_the_server_is_new_enough_and_accepts_the_superuser(postgres_server: str) -> None:
    with psycopg.connect(postgres_server) as connection:
        row = connection.execute("SELECT current_setting('server_version_num')::int, usesuper FROM pg_user").fetchone()
    assert row is not None
    assert row[0] >= 150000
    assert row[1] is True


def test_all_topics_exist_as_declared(kafka: str, topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    assert check_topics(admin, declared.ALL, Layout(prefix=topics, partitions=2)) == []


@pytest.mark.parametrize("topic_partitions", [3])
def test_differences_are_reported_and_not_repaired(kafka: str, topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    for _ in range(2):
        differences = check_topics(admin, declared.ALL[:1], Layout(prefix=topics, partitions=2))
        assert [str(d) for d in differences] == [f"{topics}events: partitions is 3, declared 2"]


def test_each_test_has_its_own_migrated_database(database: str) -> None:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT count(*) FROM traceflow_events").fetchone()
    assert row == (0,)


def test_a_machine_without_postgres_has_the_wheels(run_directory: Path) -> None:
    account = postgres.server_account()
    place = run_directory / "wheel"
    place.mkdir()
    place.chmod(0o711)
    server = postgres.PostgresServer(
        directory=postgres.database_place(place, account),
        port=free_port(),
        password_file=place / "password",
        binaries=postgres.usable_binaries(postgres.find_binaries({"TRACEFLOW_POSTGRES_BIN": "wheel"}), account),
        account=account,
        settings=tuple(postgres.VOLATILE.items()),
    )
    server.prepare()
    program = server.program(os.environ)
    with (place / "out").open("wb") as output:
        process = program.start(output)
    try:
        postgres.ensure_database(server.url, deadline_s=60, alive=lambda: process.poll() is None)
        with psycopg.connect(server.url) as connection:
            assert connection.info.server_version >= 150000
    finally:
        program.stop(process)
