"""Wire the sinks of a process: a consumer, a connection and two threads for each.

Why threads and not processes: a sink waits most of the time, for the broker or for Postgres, and the driver, COPY and
decompression release the interpreter's lock meanwhile; five sinks then cost one interpreter (60 MB instead of 300). A
machine with more to do names the sinks of each process (`python -m sinks events`), as many processes as it likes: the
group spreads the partitions. A sink that fails ends the whole process, which a supervisor restarts: half a process
would look alive.
"""

import gc
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from adapters.dead_letter_memory import counts_at_start
from adapters.dead_letters import DeadLetterCounts, DeadLetterWriter, dead_letter_producer
from adapters.kafka_admin import log_ends
from adapters.kafka_consumer import TopicIdentity, TopicMissing, consumer_configuration, describe_topic
from adapters.metrics_server import serve_admin
from adapters.postgres import MAX_APPLICATION_NAME, Connection, DatabaseRefused, connect
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.environment import masked, read_settings
from sinks.commit.loop import SinkLoop
from sinks.commit.offsets import Offsets, is_at_work
from sinks.commit.watchdog import CHECK_S, Patience, Watchdog, Watched
from sinks.commit.writer import Step, Writer
from sinks.contract.sink import Sink
from sinks.contract.verdicts import SinkHalted
from sinks.lifecycle.housekeeping import Chore, Housekeeper
from sinks.lifecycle.partitions import DayPartitions, MakeDaysAhead
from sinks.lifecycle.retention import ApplyRetention
from sinks.metrics import SinkMetrics, declare_metrics
from sinks.settings import SinkSettings
from sinks.topics.ai_jobs import AiJobsSink
from sinks.topics.events import EventsSink
from sinks.topics.recordings import RecordingsSink
from sinks.topics.sessions import SessionsSink
from sinks.topics.signals import SignalsSink

EXIT_RESTART = 75
"""Restart me, I resume from the database."""
EXIT_HALTED = 78
"""A person has to act; a restart alone would stop at the same place."""

SINKS: Mapping[str, Callable[[], Sink[Any]]] = {
    "events": EventsSink,
    "sessions": SessionsSink,
    "recordings": RecordingsSink,
    "signals": SignalsSink,
    "ai_jobs": AiJobsSink,
}

log = structlog.get_logger()


class CannotStart(Exception):
    """What the sinks need is not there."""


@dataclass(frozen=True, slots=True)
class Environment:
    """All settings of the process."""

    kafka: KafkaSettings
    database: DatabaseSettings
    log: LogSettings
    sink: SinkSettings

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Environment":
        """Read them from an environment.

        Raises:
            SettingsError: naming what is missing or malformed.
        """
        return cls(
            kafka=read_settings(KafkaSettings, environ, group="KAFKA"),
            database=read_settings(DatabaseSettings, environ, group="DATABASE"),
            log=read_settings(LogSettings, environ),
            sink=read_settings(SinkSettings, environ, group="SINK"),
        )

    def masked(self) -> dict[str, object]:
        """Return all of them for the first log line, without secrets."""
        return {
            **masked(self.log),
            **{f"kafka_{name}": value for name, value in masked(self.kafka).items()},
            "database_url": "***",
            **masked(self.sink),
        }


def connection_name(sink: str) -> str:
    """Return a name for a sink's connection that no other has: its owner is found, and ended, by it."""
    tail = f":{os.getpid()}/{secrets.token_hex(3)}"
    head = f"traceflow sink-{sink} "
    return head + socket.gethostname()[: MAX_APPLICATION_NAME - len(head) - len(tail)] + tail


def build_loops(
    names: Sequence[str],
    environment: Environment,
    *,
    metrics: SinkMetrics,
    stopping: threading.Event,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> dict[str, SinkLoop[Any]]:
    """Wire the sinks of a process; one look at the dead letters serves them all.

    Raises:
        TopicMissing, KafkaException: a topic cannot be read.
    """
    prefix = environment.log.topic_prefix
    sinks = [SINKS[name]() for name in names]
    topics = [describe_topic(environment.kafka, sink.topic.full_name(prefix)) for sink in sinks]
    counts = counts_at_start(
        environment.kafka,
        prefix=prefix,
        sources={_stage(sink): sink.topic for sink in sinks},
        memory_s=environment.log.dead_letter_memory_s,
    )
    return {
        sink.name: _build_loop(
            sink,
            environment,
            topic=topic,
            counts=counts[_stage(sink)],
            metrics=metrics,
            stopping=stopping,
            on_step=on_step,
        )
        for sink, topic in zip(sinks, topics, strict=True)
    }


def _stage(sink: Sink[Any]) -> str:
    """Return the name under which a sink reads and parks."""
    return f"sink-{sink.name}"


def _build_loop(
    sink: Sink[Any],
    environment: Environment,
    *,
    topic: TopicIdentity,
    counts: DeadLetterCounts,
    metrics: SinkMetrics,
    stopping: threading.Event,
    on_step: Callable[[Step], None],
) -> SinkLoop[Any]:
    """Wire one sink; it begins with `counts`."""
    prefix, stage, owner = environment.log.topic_prefix, _stage(sink), connection_name(sink.name)
    writer = Writer(
        sink=sink,
        offsets=Offsets(sink=sink.name, topic=topic, owner=owner),
        connect=lambda: connect(environment.database, application_name=owner, session=environment.sink.session()),
        letters=DeadLetterWriter(lambda: dead_letter_producer(environment.kafka), prefix=prefix, stage=stage),
        metrics=metrics,
        days=DayPartitions(window=environment.sink.window()),
        on_step=on_step,
        counts=counts,
    )
    configuration = consumer_configuration(environment.kafka, group=f"{prefix}{stage}", client_id=owner)
    return SinkLoop(
        sink=sink,
        writer=writer,
        consumer=Consumer(configuration, logger=logging.getLogger("librdkafka")),
        topic=topic,
        owner=owner,
        limits=environment.sink.limits(),
        metrics=metrics,
        stopping=stopping,
    )


def run(
    names: Sequence[str],
    environment: Environment,
    *,
    stopping: threading.Event,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> int:
    """Run sinks until `stopping` is set or one of them fails; return the process's exit code."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    metrics = declare_metrics(registry)
    loops = _start(names, environment, metrics, stopping, on_step)
    housekeeper = Housekeeper(
        # as the login, not as its role: making a day is anybody's right, dropping one the owner's
        lambda: connect(environment.database, application_name=connection_name("chores")),
        [
            Chore("days_ahead", MakeDaysAhead(metrics, environment.sink.window())),
            Chore("retention", ApplyRetention(metrics)),
        ],
    )
    housekeeper.start()
    watchdog = watch(loops, environment, end=end_stuck)
    admin = serve_admin(
        environment.log,
        registry=registry,
        ready=lambda: [
            *(f"sink {name} does not read its partitions yet" for name, loop in loops.items() if not loop.ready),
            *watchdog.reasons(),
        ],
    )
    failures: list[int] = []
    threads = [
        threading.Thread(target=_guarded, args=(name, loop, stopping, failures), name=f"read-{name}")
        for name, loop in loops.items()
    ]
    _tune_interpreter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watchdog.close()
    housekeeper.close()
    if admin is not None:
        admin.close()
    return max(failures, default=0)


def _start(
    names: Sequence[str],
    environment: Environment,
    metrics: SinkMetrics,
    stopping: threading.Event,
    on_step: Callable[[Step], None],
) -> dict[str, SinkLoop[Any]]:
    """Verify what the sinks need and wire them.

    Raises:
        CannotStart: something is missing that waiting does not bring.
        DatabaseRefused, psycopg.OperationalError, KafkaException: not reachable.
    """
    with connect(environment.database, application_name=connection_name("start")) as connection:
        _require_schema(connection)
    try:
        return build_loops(names, environment, metrics=metrics, stopping=stopping, on_step=on_step)
    except TopicMissing as error:
        raise CannotStart(str(error)) from error


def watch(
    loops: Mapping[str, SinkLoop[Any]],
    environment: Environment,
    *,
    end: Callable[[str, str], object],
    patience: Patience | None = None,
    check_s: float = CHECK_S,
) -> Watchdog:
    """Put sinks under watch: `end` is called with name and reason of one that stands still."""
    admin = AdminClient({**environment.kafka.librdkafka(), "log_level": 0})

    def ends(loop: SinkLoop[Any]) -> dict[int, int]:
        try:
            found = log_ends(admin, loop.topic, loop.standing().positions)
        except KafkaException:
            return {}
        return {part: high for part, (_, high) in found.items()}

    def waits_for_database(loop: SinkLoop[Any]) -> bool:
        try:
            with connect(environment.database, application_name=connection_name("watchdog")) as connection:
                return is_at_work(connection, owner=loop.owner)
        except (psycopg.Error, DatabaseRefused):
            return True

    watchdog = Watchdog(
        {
            name: Watched(loop.standing, partial(ends, loop), partial(waits_for_database, loop))
            for name, loop in loops.items()
        },
        end=end,
        clock=time.monotonic,
        patience=patience,
        check_s=check_s,
    )
    watchdog.start()
    return watchdog


def end_stuck(name: str, reason: str) -> None:
    """End the process at once: what is not in with its offset is read again, and a thread that hangs ends too."""
    log.error("sink_is_stuck", sink=name, reason=f"the {name} sink {reason}", code=EXIT_RESTART)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_RESTART)


def _require_schema(connection: Connection) -> None:
    row = connection.execute("SELECT to_regclass('public.traceflow_sink_offsets') IS NOT NULL").fetchone()
    if row != (True,):
        raise CannotStart("the database has no TraceFlow tables; make them with: traceflow migrate")


def _guarded(name: str, loop: SinkLoop[Any], stopping: threading.Event, failures: list[int]) -> None:
    """Run a sink; its failure stops the others."""
    try:
        loop.run()
    except (SinkHalted, DatabaseRefused) as error:
        log.error("sink_halted", sink=name, reason=str(error))
        failures.append(EXIT_HALTED)
    except Exception:
        log.exception("sink_failed", sink=name)
        failures.append(EXIT_RESTART)
    finally:
        stopping.set()


def _tune_interpreter() -> None:
    # What lives now lives for ever; a collection that walks it costs 7 us a row (measured: 10 against 17).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    # The writing thread works in short turns between waits for the socket: it should not wait 5 ms for each of them.
    sys.setswitchinterval(0.0005)


def start_failure(error: Exception) -> tuple[int, str]:
    """Return the exit code and the line for what prevented the start."""
    if isinstance(error, CannotStart | DatabaseRefused):
        return EXIT_HALTED, str(error)
    if isinstance(error, psycopg.Error):
        return EXIT_RESTART, f"Postgres cannot be reached: {' '.join(str(error).split())}"
    cause = error.args[0] if error.args else error
    return EXIT_RESTART, f"Kafka cannot be reached: {cause.str() if isinstance(cause, KafkaError) else cause}"


START_FAILURES = (CannotStart, DatabaseRefused, psycopg.Error, KafkaException)
