"""Look at where all sinks stand beside what the log has, and let them go on where it lost something. Floor 2.

Safe beside running sinks: an offset is moved only from where it was seen, and its epoch is raised, so that a sink that
owns the partition notices and takes it over again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapters.kafka_consumer import TopicIdentity
from adapters.postgres import Connection, read_queries
from sinks.commit.gaps import CLOCKS_APART_MS, Gap, LogRange, gap_of, goes_on_at


@dataclass(frozen=True, slots=True)
class Place:
    """A sink in a partition."""

    sink: str
    topic: str
    part: int
    next_offset: int
    log_begins: int
    log_ends: int
    updated_at: datetime
    """When the offset moved last, by the database's clock."""

    @property
    def gap(self) -> Gap | None:
        """Return what is missing in the log, if anything is."""
        log = LogRange(self.log_begins, self.log_ends)
        return gap_of(self.sink, self.topic, self.part, stored=self.next_offset, log=log)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A gap that a sink was allowed to pass, or would be."""

    gap: Gap
    goes_on_at: int

    def __str__(self) -> str:
        """Say what is missing, and where the sink goes on."""
        rows = "their rows are in Postgres" if self.gap.is_beyond else "their rows are missing"
        return (
            f"sink {self.gap.sink}, {self.gap.topic} partition {self.gap.part}: {self.gap}: {self.gap.lost} offsets "
            f"are lost, {rows}; it goes on at {self.goes_on_at}"
        )


def places(
    connection: Connection,
    topics: Mapping[str, TopicIdentity],
    log_of: Callable[[TopicIdentity], Mapping[int, tuple[int, int]]],
) -> list[Place]:
    """Return where each of the sinks, given with the topic that it reads, stands in each partition it has ever read."""
    query = read_queries("sinks.repair", "accept_loss.sql")["places"]
    found = []
    for sink, topic in topics.items():
        logs = log_of(topic)
        asked = {"sink": sink, "topic": topic.name, "topic_id": topic.topic_id}
        found += [
            Place(sink, topic.name, part, next_offset, *logs[part], updated_at)
            for part, next_offset, updated_at in connection.execute(query, asked)
            if part in logs
        ]
    return found


def acceptable(stand: Sequence[Place], first_since: Callable[[str, int, datetime], int | None]) -> list[Accepted]:
    """Return every gap with the offset at which its sink may go on.

    `first_since` tells the offset of the first record of a topic's partition since a time, None if there is none.
    """
    margin = timedelta(milliseconds=CLOCKS_APART_MS)
    return [
        Accepted(gap, goes_on_at(gap, first_since=first_since(gap.topic, gap.part, place.updated_at - margin)))
        for place in stand
        if (gap := place.gap) is not None
    ]


def accept(connection: Connection, topics: Mapping[str, TopicIdentity], losses: Sequence[Accepted]) -> list[Accepted]:
    """Move the offsets, all or none, with a line in the audit log for each; return those that were still as seen."""
    query = read_queries("sinks.repair", "accept_loss.sql")["accept"]
    moved = []
    with connection.transaction(), connection.cursor() as cursor:
        for loss in losses:
            gap = loss.gap
            cursor.execute(
                query,
                {
                    "sink": gap.sink,
                    "topic": gap.topic,
                    "topic_id": topics[gap.sink].topic_id,
                    "part": gap.part,
                    "stored": gap.stored,
                    "goes_on_at": loss.goes_on_at,
                    "log_begins": gap.log.begins,
                    "log_ends": gap.log.ends,
                    "lost": gap.lost,
                },
            )
            if cursor.rowcount:
                moved.append(loss)
    return moved
