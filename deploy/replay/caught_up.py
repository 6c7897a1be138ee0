"""Wait until the stages have folded a log, and the sinks have stored it."""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from adapters.postgres import Connection, read_queries
from deploy.command.positions import fold_positions
from deploy.replay.log import Log
from schemas import topics
from schemas.topics import Topic

SAID = (topics.SIGNALS, topics.SESSIONS, topics.AI_JOBS)
"""What analyze says."""
_PAUSE_S = 0.5

Bounds = Mapping[int, tuple[int, int]]
"""By partition: the first offset, and the one that comes next."""


class NotCaughtUp(Exception):
    """Analyze or a sink is behind the end of the log: nothing can be said yet."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the logs that clients fill began and ended at the beginning."""

    events: Bounds
    recordings: Bounds

    @classmethod
    def of(cls, log: Log) -> "Ends":
        """Ask the broker."""
        return cls(log.bounds(topics.EVENTS), log.bounds(topics.RECORDINGS))


def wait_until_analyzed(log: Log, events: Bounds, *, deadline: float) -> None:
    """Wait until analyze has folded its log up to these ends; `deadline` is of the monotonic clock.

    Raises:
        NotCaughtUp: it did not come so far.
        TimeoutError, KafkaException: the broker does not answer.
    """
    ends = {partition: end for partition, (_, end) in events.items()}
    changelog = topics.ANALYZE_CHANGELOG.full_name(log.prefix)
    with closing(log.consumer(reports_ends=True)) as consumer:
        while behind := _behind(ends, fold_positions(consumer, changelog=changelog, partitions=ends)):
            _pause("analyze", behind, deadline)


def wait_until_stored(log: Log, connection: Connection, stored: Mapping[Topic, Bounds], *, deadline: float) -> None:
    """Wait until the sinks of these topics have stored them up to their ends.

    Raises:
        NotCaughtUp: one of them did not come so far.
        psycopg.Error: Postgres cannot tell.
    """
    query = read_queries("deploy.replay", "compare.sql")["offsets"]
    ends = {
        (topic.full_name(log.prefix), part): end
        for topic, bounds in stored.items()
        for part, (_, end) in bounds.items()
    }
    names = {"topics": [topic.full_name(log.prefix) for topic in stored]}
    while behind := _behind(ends, {(topic, part): end for topic, part, end in connection.execute(query, names)}):
        _pause("a sink", behind, deadline)


def _behind(wanted: Mapping[Any, int], reached: Mapping[Any, int]) -> dict[Any, int]:
    return {place: end - reached.get(place, 0) for place, end in wanted.items() if reached.get(place, 0) < end}


def _pause(who: str, behind: Mapping[Any, int], deadline: float) -> None:
    if time.monotonic() > deadline:
        raise NotCaughtUp(f"{who} is {sum(behind.values())} records behind the end of the log: see `traceflow status`")
    time.sleep(_PAUSE_S)
