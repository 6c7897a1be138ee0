"""Ask broker and database where the sinks stand, and move those on whose log lost something."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka.admin import AdminClient

from adapters.kafka_admin import admin_client, first_offset_since, log_ends
from adapters.kafka_consumer import TopicIdentity, describe_topic
from adapters.postgres import Connection, connect
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from sinks.app import SINKS
from sinks.repair.accept_loss import Accepted, Place, accept, acceptable, places


@dataclass(frozen=True, slots=True)
class Offsets:
    """The sinks' offsets beside their log."""

    admin: AdminClient
    connection: Connection
    topics: dict[str, TopicIdentity]
    """By sink."""

    def places(self) -> list[Place]:
        """Return where each sink stands in each partition that it has ever read."""
        return places(self.connection, self.topics, self._log_of)

    def losses(self) -> list[Accepted]:
        """Return what the log lacks, and where each sink would go on."""
        return acceptable(self.places(), self._first_since)

    def accept(self, losses: list[Accepted]) -> list[Accepted]:
        """Let the sinks go on; return what was done."""
        return accept(self.connection, self.topics, losses)

    def _log_of(self, topic: TopicIdentity) -> dict[int, tuple[int, int]]:
        return log_ends(self.admin, topic.name, range(topic.partitions))

    def _first_since(self, topic: str, part: int, since: datetime) -> int | None:
        return first_offset_since(self.admin, topic, part, timestamp_ms=int(since.timestamp() * 1000))


@contextmanager
def offsets(kafka: KafkaSettings, log: LogSettings, database: DatabaseSettings) -> Iterator[Offsets]:
    """Give the sinks' offsets for the time of a block.

    Raises:
        TopicMissing: a sink's topic does not exist.
        KafkaException, psycopg.Error, DatabaseRefused: broker or database cannot be reached, or refuse.
    """
    admin = admin_client(kafka)
    topics = {name: describe_topic(kafka, sink().topic.full_name(log.topic_prefix)) for name, sink in SINKS.items()}
    with connect(database, application_name="traceflow offsets") as connection:
        yield Offsets(admin, connection, topics)
