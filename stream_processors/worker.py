"""Wire a worker of a stage: settings, logic, Faust app, producer, metrics, watchdog. Floor 3."""

import asyncio
import gc
import importlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faust
import uvloop
from confluent_kafka import KafkaException, Producer
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from adapters.dead_letter_memory import counts_at_start
from adapters.kafka_admin import TOPICS_APPEAR_S
from adapters.kafka_producer import producer_config
from adapters.metrics_server import serve_admin
from schemas.connections import KafkaSettings, LogSettings
from schemas.environment import masked, read_settings
from stream_processors.fold.logic import SessionLogic
from stream_processors.kinds import StageKind
from stream_processors.metrics import declare_metrics
from stream_processors.runner.dispatch import Dispatch
from stream_processors.runner.failstop import HALT, RESTART, fail_stop
from stream_processors.runner.faust_app import StageApp, build_app, connect
from stream_processors.runner.flights import Flights
from stream_processors.runner.pulse import Pulse
from stream_processors.runner.source_log import SourceLog
from stream_processors.runner.stage import Bounds, Stage, Step
from stream_processors.runner.watchdog import watch
from stream_processors.settings import StageSettings


class CannotStart(Exception):
    """The worker cannot work here; `code` says whether a restart can help."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Environment:
    """All settings of a worker but those of its logic."""

    kafka: KafkaSettings
    log: LogSettings
    stage: StageSettings

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Environment":
        """Read them from an environment.

        Raises:
            SettingsError: naming what is missing or malformed.
        """
        return cls(
            kafka=read_settings(KafkaSettings, environ, group="KAFKA"),
            log=read_settings(LogSettings, environ),
            stage=read_settings(StageSettings, environ, group="STAGE"),
        )

    def masked(self) -> dict[str, object]:
        """Return all of them for the first log line, without secrets."""
        kafka = {f"kafka_{name}": value for name, value in masked(self.kafka).items()}
        return {**masked(self.log), **kafka, **masked(self.stage)}


def build_logic(name: str, environ: Mapping[str, str]) -> SessionLogic[Any]:
    """Build the logic of a stage by its name.

    Raises:
        SettingsError: naming what is malformed.
    """
    logic: SessionLogic[Any] = importlib.import_module(f"stream_processors.{name}").build_logic(environ)
    return logic


def run(
    kind: StageKind,
    environment: Environment,
    logic: SessionLogic[Any],
    *,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> None:
    """Run a worker until a signal comes; does not return.

    Raises:
        CannotStart: the broker does not answer, or a topic is missing.
    """
    producer = Producer(
        producer_config(
            environment.kafka,
            # a batch waits for three flights: company is what it brings along itself
            linger_ms=1,
            message_timeout_ms=int(environment.stage.delivery_timeout_s * 1000),
            request_timeout_ms=int(environment.stage.delivery_timeout_s * 500),
            queue_buffering_max_kbytes=1 << 19,
            queue_buffering_max_messages=1_000_000,
        ),
        logger=logging.getLogger("librdkafka"),
    )
    _verify_topics(producer, kind, environment)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = _assemble(kind, environment, logic, producer, on_step)
    # what lives from here on is small and short: the start's objects need no second look
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    worker = faust.Worker(app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None
    execute(worker)


def execute(worker: Any) -> None:
    """Run Faust's worker; where it gives up by its own exit code, ask for a new start.

    It does so if the broker goes away between our look at the topics and its own start.
    """
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        if end.code:
            fail_stop("worker_failed", code=RESTART, reason=f"Faust ended with {end.code}")
        raise


def _assemble(
    kind: StageKind,
    environment: Environment,
    logic: SessionLogic[Any],
    producer: Producer,
    on_step: Callable[[Step], None],
) -> StageApp:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    settings = environment.stage
    app, store, source = build_app(kind, kafka=environment.kafka, log=environment.log, settings=settings)
    store.on_slow_recovery = lambda seconds: fail_stop("recovery_takes_too_long", seconds=round(seconds, 1))
    prefix, metrics = environment.log.topic_prefix, declare_metrics(registry)
    flights = Flights(producer)
    stage = Stage(
        logic,
        app=app,
        store=store,
        flights=flights,
        dispatch=Dispatch(kind, prefix),
        look=SourceLog(environment.kafka, kind, prefix).look,
        bounds=_bounds(kind, settings, environment.log.partitions),
        metrics=metrics,
        letters=counts_at_start(
            environment.kafka,
            prefix=prefix,
            sources={kind.name: kind.source},
            memory_s=environment.log.dead_letter_memory_s,
        )[kind.name],
        on_step=on_step,
    )
    pulse = Pulse(stage, app=app, source=kind.source.full_name(prefix), flights=flights, metrics=metrics)
    connect(app, stage, source=source, beat=lambda: pulse.beat(settings.tick_ms / 1000))
    watch(pulse.vitals, clock=time.monotonic)
    serve_admin(environment.log, registry=registry, ready=pulse.reasons_against_readiness)
    return app


def _bounds(kind: StageKind, settings: StageSettings, partitions: int) -> Bounds:
    # as if every partition were ours: memory must not depend on who else is there
    cache_bytes = settings.cache_mb * 1_000_000 // partitions
    return Bounds(
        records=settings.batch_records,
        size=settings.batch_mb * 1_000_000,
        cache_weight=cache_bytes // kind.weight_bytes,
    )


def _verify_topics(producer: Producer, kind: StageKind, environment: Environment) -> None:
    needed = [topic.full_name(environment.log.topic_prefix) for topic in (kind.source, kind.changelog)]
    began = time.monotonic()
    found = _count_partitions(producer, needed, environment)
    while missing := [name for name in needed if not found[name]]:
        if time.monotonic() > began + TOPICS_APPEAR_S:
            raise CannotStart(f"missing topics: {', '.join(missing)}; run `traceflow topics`", code=HALT)
        time.sleep(0.2)
        found = _count_partitions(producer, needed, environment)
    if set(found.values()) != {environment.log.partitions}:
        raise CannotStart(
            f"TRACEFLOW_PARTITIONS is {environment.log.partitions}, topics have {found}: set it to what they have",
            code=HALT,
        )


def _count_partitions(producer: Producer, names: Sequence[str], environment: Environment) -> dict[str, int]:
    """Ask how many partitions the topics have; 0 for one that the broker does not know."""
    try:
        topics = producer.list_topics(timeout=environment.stage.start_timeout_s).topics
    except KafkaException as error:
        raise CannotStart(
            f"no broker answers at {environment.kafka.bootstrap}: {error.args[0].str()}", code=RESTART
        ) from error
    return {name: len(topics[name].partitions) if name in topics else 0 for name in names}
