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
from adapters.metrics_server import AdminServer, serve_admin
from adapters.postgres import DatabaseRefused
from adapters.project_snapshot import ProjectSnapshot
from ingest_gateway.api.events import EventsResource
from ingest_gateway.api.middleware import Cors, Observe
from ingest_gateway.api.openapi import openapi_document
from ingest_gateway.api.recordings import RecordingsResource
from ingest_gateway.api.request_flow import Lane, RequestFlow
from ingest_gateway.api.service import OpenApi, Readyz
from ingest_gateway.app import build_app
from ingest_gateway.lanes import drain, open_lanes, require_broker
from ingest_gateway.limits.held_bodies import HeldBodies
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.server import (
    CannotStart,
    Watch,
    build_server,
    listen,
    sample_lateness,
    serve_until_stopped,
    tune_interpreter,
)
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.spool.files import OnStep, SpoolUnusable
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.environment import SettingsError, masked, read_settings
from schemas.reasons import Reason

log = structlog.get_logger()

EXIT_HALT, EXIT_RESTART = 78, 75
"""A person has to act (EX_CONFIG); a restart may help (EX_TEMPFAIL). The same codes as the stages' and sinks'."""


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


async def run(environment: Environment, *, on_step: OnStep = lambda _step: None) -> None:
    """Serve until a signal; `on_step` is told what is done to a request in the spool.

    Raises:
        CannotStart, DatabaseRefused, SpoolUnusable, TimeoutError: at the start, with one line that says why.
    """
    settings, prefix = environment.gateway, environment.log.topic_prefix
    metrics = GatewayMetrics()
    async with AsyncExitStack() as stack:
        both = open_lanes(environment.kafka, settings, metrics, stack, topic_prefix=prefix, on_step=on_step)
        events, recordings = both
        await require_broker(events, settings, topic_prefix=prefix)
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
        sampling = asyncio.create_task(sample_lateness(flow.lateness), name="lateness")
        stack.callback(watching.cancel)
        stack.callback(sampling.cancel)
        spooling = [asyncio.create_task(lane.spool.run(), name="spool") for lane in both if lane.spool is not None]
        tune_interpreter()
        log.info("listening", host=settings.host, port=listener.getsockname()[1])
        vital = (watching, sampling, projects.following, *spooling)
        await serve_until_stopped(server, listener, observe, settings, vital=vital)
        left = [await drain(lane, timeout_s=settings.kafka_timeout_s + 1) for lane in both]
        await asyncio.gather(*spooling)
    log.info("stopped", unacknowledged_requests=sum(left))


def readiness(observe: Observe, both: Sequence[Lane]) -> Callable[[], list[str]]:
    """Return the question what speaks against sending requests here."""

    def against() -> list[str]:
        reasons = [Reason.SHUTTING_DOWN.value] if observe.stopping else []
        return reasons + [reason for lane in both if (reason := lane.against)]

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
    """Run the gateway and return its exit code: 0 after a signal, 75 if waiting may help, else 78."""
    try:
        environment = Environment(environ)
    except SettingsError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return EXIT_HALT
    logs.configure("gateway", log_format=environment.log.log_format)
    # each of its lines at INFO has a counterpart here that says more
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    log.info("starting", version=version("traceflow"), **environment.masked())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(environment))
    except (CannotStart, DatabaseRefused) as error:
        log.error("cannot_start", reason=str(error))
        return EXIT_HALT
    # a spool may be held by a gateway that is about to end
    except (SpoolUnusable, TimeoutError) as error:
        log.error("cannot_start", reason=str(error))
        return EXIT_RESTART
    except Exception as error:
        log.error("failed", exc_info=error)
        return EXIT_RESTART
    return 0


def _exit() -> NoReturn:
    sys.exit(main(os.environ))


if __name__ == "__main__":
    _exit()
