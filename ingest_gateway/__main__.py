"""`python -m ingest_gateway`: read settings, wire, serve, stop."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import NoReturn

import structlog
import uvloop

from adapters import logs
from adapters.kafka_producer import AckingProducer, producer_config
from adapters.metrics_server import AdminServer, serve_admin
from adapters.postgres import DatabaseRefused
from adapters.project_snapshot import ProjectSnapshot
from ingest_gateway.app import build_app
from ingest_gateway.backpressure import Backpressure
from ingest_gateway.events_resource import EventsResource
from ingest_gateway.held_bodies import HeldBodies
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.middleware import Cors, Observe
from ingest_gateway.openapi import openapi_document
from ingest_gateway.recordings_resource import RecordingsResource
from ingest_gateway.request_flow import Lane, RequestFlow
from ingest_gateway.server import (
    CannotStart,
    Watch,
    build_server,
    listen,
    require_topics,
    serve_until_stopped,
    tune_interpreter,
)
from ingest_gateway.service_resources import OpenApi, Readyz
from ingest_gateway.settings import GatewaySettings
from schemas import topics
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.environment import SettingsError, masked, read_settings
from schemas.reasons import Reason

log = structlog.get_logger()

EXIT_SETTINGS, EXIT_CANNOT_START, EXIT_TRY_AGAIN = 2, 1, 75


class Environment:
    """All settings of the process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.gateway = read_settings(GatewaySettings, environ, group="GATEWAY")
        self.kafka = read_settings(KafkaSettings, environ, group="KAFKA")
        self.database = read_settings(DatabaseSettings, environ, group="DATABASE")
        self.log = read_settings(LogSettings, environ)

    def masked(self) -> dict[str, object]:
        """Return all of them for the first log line, without secrets."""
        return {
            **masked(self.log),
            **{f"kafka_{name}": value for name, value in masked(self.kafka).items()},
            "database_url": "***",
            **masked(self.gateway),
        }


def lanes(kafka: KafkaSettings, settings: GatewaySettings, metrics: GatewayMetrics) -> tuple[Lane, Lane]:
    """Return the producers of events and recordings, each with its gate."""
    timeout_ms = int(settings.kafka_timeout_s * 1000)
    events = producer_config(
        kafka,
        client_id="traceflow-gateway-events",
        message_timeout_ms=timeout_ms,
        # so that a record is tried twice at least within its time
        request_timeout_ms=timeout_ms * 4 // 5,
        queue_buffering_max_kbytes=settings.events_queue_kb,
    )
    recordings = producer_config(
        kafka,
        client_id="traceflow-gateway-recordings",
        message_timeout_ms=timeout_ms,
        request_timeout_ms=timeout_ms * 4 // 5,
        queue_buffering_max_kbytes=settings.recordings_queue_kb,
        # chunks come compressed, and are large enough to fill a request alone
        compression_type="none",
        linger_ms=1,
    )
    first, second = (
        Lane(name, AckingProducer(config), Backpressure(settings.backpressure()), metrics.ack_seconds.labels(name))
        for name, config in (("events", events), ("recordings", recordings))
    )
    return first, second


async def run(environment: Environment) -> None:
    """Serve until a signal.

    Raises:
        CannotStart, DatabaseRefused, TimeoutError: at the start, with one line that says why.
    """
    settings, prefix = environment.gateway, environment.log.topic_prefix
    metrics = GatewayMetrics()
    async with AsyncExitStack() as stack:
        events, recordings = both = lanes(environment.kafka, settings, metrics)
        for lane in both:
            stack.callback(lane.producer.close)
        required = [t.full_name(prefix) for t in (topics.EVENTS, topics.RECORDINGS, topics.DEAD_LETTERS)]
        await require_topics(events, required, timeout_s=settings.start_timeout_s)
        projects = ProjectSnapshot(environment.database, poll_s=settings.projects_poll_s)
        stack.push_async_callback(projects.close)
        await projects.start(timeout_s=settings.start_timeout_s)

        bodies, observe = HeldBodies(settings.max_held_body_bytes), Observe(metrics)
        against = readiness(observe, both)
        flow = RequestFlow(projects, metrics, settings.proxy_trust(), bodies, prefix)
        app = build_app(
            events=EventsResource(flow, events, settings, version=version("traceflow")),
            recordings=RecordingsResource(flow, recordings, settings),
            readyz=Readyz(against),
            openapi=OpenApi(openapi_document(settings, version=version("traceflow"))),
            cors=Cors(max_age_s=settings.cors_max_age_s),
            observe=observe,
            metrics=metrics,
            retry_after_s=settings.retry_after_s,
        )
        server, listener = build_server(app, settings, metrics), listen(settings)
        if admin := admin_server(environment.log, metrics, against):
            stack.callback(admin.close)
        watch = Watch(lanes=both, projects=projects, bodies=bodies, server=server, metrics=metrics)
        watching = asyncio.create_task(watch.run(), name="watch")
        stack.callback(watching.cancel)
        tune_interpreter()
        log.info("listening", host=settings.host, port=listener.getsockname()[1])
        await serve_until_stopped(server, listener, observe, settings, vital=(watching, projects.following))
        left = [await lane.producer.drain(timeout_s=settings.kafka_timeout_s + 1) for lane in both]
    log.info("stopped", unacknowledged_requests=sum(left))


def readiness(observe: Observe, both: Sequence[Lane]) -> Callable[[], list[str]]:
    """Return the question what speaks against sending requests here."""

    def against() -> list[str]:
        reasons = [Reason.SHUTTING_DOWN.value] if observe.stopping else []
        return reasons + [f"{Reason.KAFKA_UNAVAILABLE}: {lane.name}" for lane in both if not lane.gate.ready]

    return against


def admin_server(
    settings: LogSettings, metrics: GatewayMetrics, against: Callable[[], list[str]]
) -> AdminServer | None:
    """Serve metrics and probes on the admin port, if one is set.

    Raises:
        CannotStart: if the port is taken.
    """
    try:
        return serve_admin(settings, registry=metrics.registry, ready=against)
    except OSError as error:
        raise CannotStart(f"cannot listen on admin port {settings.admin_port} ({error.strerror})") from error


def main(environ: Mapping[str, str]) -> int:
    """Run the gateway and return its exit code: 0 after a signal, 75 if waiting may help, else 1 or 2."""
    try:
        environment = Environment(environ)
    except SettingsError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return EXIT_SETTINGS
    logs.configure("gateway", log_format=environment.log.log_format)
    # each of its lines at INFO has a counterpart here that says more
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    log.info("starting", version=version("traceflow"), **environment.masked())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(environment))
    except (CannotStart, DatabaseRefused) as error:
        log.error("cannot_start", reason=str(error))
        return EXIT_CANNOT_START
    except TimeoutError as error:
        log.error("cannot_start", reason=str(error))
        return EXIT_TRY_AGAIN
    except Exception as error:
        log.error("failed", exc_info=error)
        return EXIT_TRY_AGAIN
    return 0


def _exit() -> NoReturn:
    sys.exit(main(os.environ))


if __name__ == "__main__":
    _exit()
