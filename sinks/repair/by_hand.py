"""A sink's writer without its loop, for commands: what is written is chosen by hand, and no partition is read.

The rows go through the sink's own code in the order of `sinks.commit.writer`, under the same locks as those of running
sinks: beside them this is one writer more.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from adapters.dead_letters import DeadLetterLimit
from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, connect
from sinks.app import Environment, connection_name
from sinks.commit.backoff import Backoff
from sinks.commit.batching import Batch
from sinks.commit.offsets import Claim
from sinks.commit.writer import Abandoned, Letters, Progress, Step, Writer
from sinks.contract.sink import Prepared, Sink
from sinks.lifecycle.partitions import DayPartitions
from sinks.metrics import declare_metrics

MAX_TRIES = 6
"""Deadlocks and short outages pass within these, about 3 s; whoever runs a command can run it again."""

_UNLIMITED = DeadLetterLimit(max_share=1.0, max_in_a_row=1 << 62)
"""What is refused of a choice by hand says nothing about the stream."""


class OwnsNothing:
    """The half of `sinks.commit.writer.Progress` that is about partitions: none is read."""

    def open(self, connection: Connection) -> None:
        """Need nothing."""

    def claim(self, connection: Connection, starts: Mapping[int, int]) -> dict[int, Claim]:  # noqa: ARG002
        """Own nothing."""
        return {}


@dataclass(frozen=True, slots=True)
class _FewTries(Backoff):
    longest_s: float = 2.0

    def delay_s(self, attempt: int, *, uniform: Callable[[float, float], float]) -> float:
        """Return the delay, or give up.

        Raises:
            Abandoned: enough was tried.
        """
        if attempt >= MAX_TRIES:
            raise Abandoned("Postgres or the dead letters cannot be written now")
        return Backoff.delay_s(self, attempt, uniform=uniform)


def writer_by_hand(
    sink: Sink[Any],
    environment: Environment,
    *,
    progress: Progress,
    letters: Letters,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> Writer[Any]:
    """Build a sink's writer that gives up after `MAX_TRIES`."""
    return Writer(
        sink=sink,
        offsets=progress,
        connect=lambda: connect(
            environment.database,
            application_name=connection_name(sink.name),
            session=environment.sink.session(),
        ),
        letters=letters,
        metrics=declare_metrics(CollectorRegistry()),
        limit=_UNLIMITED,
        backoff=_FewTries(),
        on_step=on_step,
        days=DayPartitions(window=environment.sink.window()),
    )


def batch_by_hand(items: list[Prepared[Any]]) -> Batch[Prepared[Any]]:
    """Return a batch that moves no offset."""
    return Batch(
        items=items,
        rows=sum(item.rows for item in items),
        size_bytes=sum(item.size_bytes for item in items),
        records=len(items),
        spans={},
        oldest_timestamp=0,
    )


def only_events(record: ConsumedRecord, indexes: Collection[int]) -> ConsumedRecord:
    """Return a record of events with those at these places alone.

    Raises:
        orjson.JSONDecodeError, IndexError, KeyError, TypeError: it is no such record.
    """
    batch = orjson.loads(record.value or b"")
    return replace(
        record, value=orjson.dumps(batch | {"events": [batch["events"][index] for index in sorted(indexes)]})
    )
