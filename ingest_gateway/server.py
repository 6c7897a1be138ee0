"""Run the application: start, watch, and stop without losing a request.

Stopping, on SIGTERM or SIGINT:

1. `/readyz` turns 503 and every answer says `Connection: close`; requests are served as before for `drain_s`, while
   load balancers notice.
2. The port is closed, idle connections end, requests in flight are finished.
3. Records on their way are acknowledged or fail; then the producers close.

All of it within `stop_timeout_s`; a request that is cut off then is answered 503 `shutting_down`. A second signal skips
the waiting.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import structlog
import uvicorn
from confluent_kafka import KafkaException

from adapters.kafka_admin import TOPICS_APPEAR_S
from adapters.project_snapshot import ProjectSnapshot
from ingest_gateway.api.deadline_protocol import ConnectionLimits, protocol_with
from ingest_gateway.api.middleware import Observe
from ingest_gateway.api.request import AsgiApp
from ingest_gateway.api.request_flow import Lane
from ingest_gateway.limits.fair_share import Lateness
from ingest_gateway.limits.held_bodies import HeldBodies
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.spool.route import Route
from schemas.reasons import Reason

log = structlog.get_logger()

_WATCH_INTERVAL_S = 1.0
_REACHABLE_TIMEOUT_S = 1.0
_LATENESS_SAMPLE_S = 0.02
_BACKLOG = 2_048


class CannotStart(Exception):
    """Something that the gateway needs is not there; the message says what to do."""


class QuietServer(uvicorn.Server):
    """uvicorn's server without its signal handlers, which would end the process by the signal instead of exit 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def build_server(app: AsgiApp, settings: GatewaySettings, metrics: GatewayMetrics) -> QuietServer:
    """Return the HTTP server."""
    limits = ConnectionLimits(
        header_timeout_s=settings.header_timeout_s,
        max_header_bytes=settings.max_header_bytes,
        body_timeout_s=settings.body_timeout_s,
        min_body_rate=settings.min_body_rate,
        max_connections=settings.max_connections,
        retry_after_s=settings.retry_after_s,
    )

    def on_refused(reason: Reason) -> None:
        metrics.refused.labels(reason).inc()
        metrics.requests.labels("none", str(reason.status)).inc()

    config = uvicorn.Config(
        app,
        http=protocol_with(limits, on_refused, metrics.evicted_connections.inc),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type] # any number serves
        timeout_graceful_shutdown=max(1, round(settings.stop_timeout_s - settings.drain_s)),
    )
    return QuietServer(config)


def listen(settings: GatewaySettings) -> socket.socket:
    """Open the port.

    Raises:
        CannotStart: if it is taken or not ours to open.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG, reuse_port=settings.reuse_port
        )
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): set TRACEFLOW_GATEWAY_PORT"
        ) from error


async def require_topics(lane: Lane, names: Sequence[str], *, timeout_s: float) -> None:
    """Wait until a broker answers, and check that the topics are there.

    A broker that has just come back may answer for a moment as if it had none: what is missing has to be missing for
    `TOPICS_APPEAR_S`.

    Raises:
        CannotStart: if a topic is missing.
        TimeoutError: if no broker answers in time.
    """
    began_s = time.monotonic()
    deadline_s = began_s + timeout_s
    while True:
        try:
            missing = await lane.producer.missing_topics(names, timeout_s=min(5.0, timeout_s))
        except KafkaException as error:
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"kafka does not answer: {error.args[0].str()}") from error
            continue
        if missing and time.monotonic() < began_s + TOPICS_APPEAR_S:
            await asyncio.sleep(0.2)
            continue
        if missing:
            raise CannotStart(f"topics are missing: {', '.join(missing)}: run `traceflow topics`")
        return


def tune_interpreter() -> None:
    """Set what the throughput of in-flight requests depends on; together 1.7 times, p99 51 to 21 ms."""
    gc.collect()
    # what lives now lives for ever, and what requests make dies by itself
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    # the poll thread gets its turn ten times sooner than by default
    sys.setswitchinterval(0.0005)


class Watch:
    """Once a second: gauges, whether a broker answers while the gate is closed, whether the poll threads live."""

    def __init__(
        self,
        *,
        lanes: Sequence[Lane],
        projects: ProjectSnapshot,
        bodies: HeldBodies,
        server: QuietServer,
        metrics: GatewayMetrics,
    ) -> None:
        self._lanes = lanes
        self._projects = projects
        self._bodies = bodies
        self._server = server
        self._metrics = metrics

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            RuntimeError: a poll thread ended; nothing would be acknowledged any more.
        """
        while True:
            if dead := [lane.name for lane in self._lanes if not lane.producer.alive]:
                raise RuntimeError(f"the poll thread of {', '.join(dead)} has ended")
            self._gauge()
            await asyncio.gather(*(self._ask(lane) for lane in self._lanes if lane.gate.closed))
            await asyncio.sleep(_WATCH_INTERVAL_S)

    async def _ask(self, lane: Lane) -> None:
        with contextlib.suppress(KafkaException):
            await lane.producer.missing_topics((), timeout_s=_REACHABLE_TIMEOUT_S)
            lane.gate.on_reachable(now_s=time.monotonic())

    def _gauge(self) -> None:
        metrics = self._metrics
        for lane in self._lanes:
            metrics.queue_bytes.labels(lane.name).set(lane.producer.queued_bytes)
            metrics.oldest_unacked_seconds.labels(lane.name).set(lane.producer.health().oldest_unacked_s)
            metrics.gate_closed.labels(lane.name).set(lane.gate.closed)
            if lane.spool is not None:
                metrics.spooling.labels(lane.name).set(lane.spool.route is not Route.DIRECT)
                metrics.spool_bytes.labels(lane.name).set(lane.spool.size)
                metrics.spool_requests.labels(lane.name).set(lane.spool.requests)
                metrics.spool_oldest_seconds.labels(lane.name).set(lane.spool.oldest_s)
        metrics.held_body_bytes.set(self._bodies.size)
        metrics.connections.set(len(self._server.server_state.connections))
        metrics.projects.set(self._projects.keys)
        for route, projects in self._projects.limited.items():
            metrics.projects_limited.labels(route).set(projects)
        metrics.projects_age_seconds.set(self._projects.age_s)


async def sample_lateness(lateness: Lateness) -> None:
    """Ask the loop for its time again and again, and note how late it gives it, until cancelled."""
    while True:
        began_s = time.monotonic()
        await asyncio.sleep(_LATENESS_SAMPLE_S)
        now_s = time.monotonic()
        lateness.sample(now_s - began_s - _LATENESS_SAMPLE_S, now_s=now_s)


async def serve_until_stopped(
    server: QuietServer,
    listener: socket.socket,
    observe: Observe,
    settings: GatewaySettings,
    *,
    vital: Sequence["asyncio.Task[None]"],
) -> None:
    """Serve until a signal or the end of a vital task, then take steps 1 and 2 of stopping."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            server.force_exit = True
            server.should_exit = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((serving, stopping, *vital), return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        log.info("stopping", connections=len(server.server_state.connections))
        observe.stopping = True
        await asyncio.wait((serving,), timeout=settings.drain_s)
        server.should_exit = True
    stopping.cancel()
    await serving
    for task in vital:
        if task.done():
            # it ends by its exception alone
            task.result()
