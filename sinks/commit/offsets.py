"""Own partitions: their offsets lie in Postgres, and an epoch decides who may move them.

Theory. Kafka decides who should read a partition, but a paused process does not know that it no longer should. So the
right to write is a number in the row of the partition: whoever is given a partition raises its epoch, and a batch moves
the offset only from where it began and only under the epoch that it was read with. Rows and offset are one transaction,
so a batch is either in with its offset or not at all, whoever writes it and however often.

The offset's row also is a lock: the raise waits for a batch that is being written. If its writer is frozen, its locks
would stay for good, so after a short wait its connection is ended; the name of the connection stands in the row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from psycopg import errors

from adapters.kafka_consumer import TopicIdentity
from adapters.postgres import Connection, Cursor, read_queries
from sinks.commit.batching import Span
from sinks.contract.verdicts import SinkHalted

TAKE_OVER_PATIENCE = "2s"
"""How long the batch of a former owner may go on; longer than a batch takes (p99 below 1 s)."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition as taken over: read from `next_offset`, write under `epoch`."""

    next_offset: int
    epoch: int


def is_at_work(connection: Connection, *, owner: str) -> bool:
    """Tell whether the server is at work for a connection of this name."""
    row = connection.execute(read_queries("sinks.commit", "offsets.sql")["is_at_work"], {"owner": owner}).fetchone()
    return row == (True,)


class Fenced(Exception):
    """Another owner has raised the epoch of a partition: nothing of the batch was stored."""


class Offsets:
    """The offsets of one sink and topic, on a connection that is passed in."""

    def __init__(self, *, sink: str, topic: TopicIdentity, owner: str) -> None:
        self._queries = read_queries("sinks.commit", "offsets.sql")
        self._place = {"sink": sink, "topic": topic.name, "topic_id": topic.topic_id, "owner": owner}

    def open(self, connection: Connection) -> None:
        """Begin with a new connection: a former one that is half open would hold the locks that this one needs."""
        self._end_connections(connection, [self._place["owner"]])

    def claim(self, connection: Connection, starts: Mapping[int, int]) -> dict[int, Claim]:
        """Take partitions over; `starts` says where to begin those that this sink has never read.

        Raises:
            SinkHalted: the topic was deleted and made anew, so stored offsets mean nothing.
        """
        parameters = self._place | {"parts": list(starts), "starts": list(starts.values())}
        self._refuse_recreated_topic(connection)
        try:
            rows = self._take_over(connection, parameters)
        except errors.LockNotAvailable:
            owners = [row[0] for row in connection.execute(self._queries["owners"], parameters)]
            self._end_connections(connection, owners)
            rows = self._take_over(connection, parameters)
        return {part: Claim(next_offset, epoch) for part, next_offset, epoch in rows}

    def advance(self, cursor: Cursor, spans: Mapping[int, Span], epochs: Mapping[int, int]) -> bool:
        """Move the offsets over the batch; False if a commit that had been in doubt already moved them.

        Raises:
            Fenced: the partitions are no longer ours.
        """
        parts = sorted(spans)
        cursor.execute(
            self._queries["advance"],
            self._place
            | {
                "parts": parts,
                "starts": [spans[part].start for part in parts],
                "ends": [spans[part].end for part in parts],
                "epochs": [epochs[part] for part in parts],
            },
        )
        if cursor.rowcount == len(parts):
            return True
        cursor.execute(self._queries["standing"], self._place | {"parts": parts})
        standing = {part: (next_offset, epoch) for part, next_offset, epoch in cursor}
        if standing == {part: (spans[part].end, epochs[part]) for part in parts}:
            return False
        raise Fenced(f"partitions {parts}: stored (offset, epoch) are {standing}")

    def _take_over(self, connection: Connection, parameters: Mapping[str, object]) -> Sequence[tuple[int, int, int]]:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", (TAKE_OVER_PATIENCE,))
            # waits like an update: the key of a row that is being updated may still come or go
            cursor.execute(self._queries["first_sight"], parameters)
            cursor.execute(self._queries["take_over"], parameters)
            return cursor.fetchall()

    def _end_connections(self, connection: Connection, names: Sequence[str]) -> None:
        """End other connections; as the role that logged in, which theirs is too, whatever role this one acts as."""
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL ROLE NONE")
            cursor.execute(self._queries["end_connections"], {"names": names})
            ended = sum(row[0] for row in cursor)
        if ended:
            log.warning("former_connections_ended", names=names, ended=ended)

    def _refuse_recreated_topic(self, connection: Connection) -> None:
        others = [row[0] for row in connection.execute(self._queries["other_topic_ids"], self._place)]
        if others:
            raise SinkHalted(
                f"topic {self._place['topic']} was deleted and made anew: stored offsets are of id "
                f"{', '.join(others)}, the topic has {self._place['topic_id']}; if nothing of the old one is missing, "
                f"delete the rows of sink {self._place['sink']} and this topic from traceflow_sink_offsets"
            )
