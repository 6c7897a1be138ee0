"""A broker and a database server from a Docker daemon, for machines where that is the choice."""

from collections.abc import Iterator
from contextlib import contextmanager

KAFKA_IMAGE = "confluentinc/cp-kafka:8.1.0"
POSTGRES_IMAGE = "postgres:18"


@contextmanager
def kafka_container() -> Iterator[str]:
    """Give the bootstrap address of a broker in a container."""
    from testcontainers.community.kafka import KafkaContainer  # slow to import, and seldom needed

    with KafkaContainer(KAFKA_IMAGE).with_kraft() as container:
        yield container.get_bootstrap_server()


@contextmanager
def postgres_container() -> Iterator[str]:
    """Give the superuser's URL of a database server in a container."""
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(POSTGRES_IMAGE, username="postgres") as container:
        yield container.get_connection_url(driver=None)
