"""Wire the ways to the log: a producer for events and one for recordings, each behind its gate or its spool."""

from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from adapters.kafka_producer import AckingProducer, ConfigValue, producer_config
from ingest_gateway.api.request_flow import Lane
from ingest_gateway.limits.backpressure import Backpressure
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.server import require_topics
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.spool.files import OnStep, SegmentFiles, hold_spool
from ingest_gateway.spool.queue import Spool
from schemas import topics
from schemas.connections import KafkaSettings

log = structlog.get_logger()

_SPOOLED_START_S = 5.0
"""How long a gateway that can do without waits for a broker at its start."""


def open_lanes(
    kafka: KafkaSettings,
    settings: GatewaySettings,
    metrics: GatewayMetrics,
    stack: AsyncExitStack,
    *,
    topic_prefix: str,
    on_step: OnStep,
) -> tuple[Lane, Lane]:
    """Return the lanes of events and recordings; `stack` lets go of what they hold.

    Raises:
        SpoolUnusable: the spool's directory is in use, or cannot be used.
    """
    directory = Path(settings.spool).absolute() if settings.spool else None
    if directory is not None:
        stack.enter_context(hold_spool(directory))
    lanes: list[Lane] = []
    for name, megabytes, config in (
        ("events", settings.spool_events_mb, _events(kafka, settings)),
        ("recordings", settings.spool_recordings_mb, _recordings(kafka, settings)),
    ):
        producer = AckingProducer(config)
        stack.callback(producer.close)
        spool = None
        if directory is not None:
            limits = settings.spool_limits(megabytes)
            files = SegmentFiles(directory / name, segment_bytes=limits.segment_bytes, on_step=on_step)
            files.recover()
            if files.segments:
                log.info("spool_found", lane=name, requests=files.requests, bytes=files.size)
            spool = Spool(
                name,
                files,
                producer,
                limits,
                topic_prefix=topic_prefix,
                on_sync=metrics.spool_sync_seconds.labels(name).observe,
                on_set_aside=metrics.spool_set_aside.labels(name).inc,
                on_step=on_step,
            )
        gate = Backpressure(settings.backpressure())
        lanes.append(Lane(name, producer, gate, metrics.ack_seconds.labels(name), spool))
    return lanes[0], lanes[1]


async def require_broker(lane: Lane, settings: GatewaySettings, *, topic_prefix: str) -> None:
    """Wait until a broker answers and check the topics; with a spool the gateway can start without one.

    Raises:
        CannotStart: a topic is missing.
        TimeoutError: no broker answers in time, and there is no spool.
    """
    required = [t.full_name(topic_prefix) for t in (topics.EVENTS, topics.RECORDINGS, topics.DEAD_LETTERS)]
    if lane.spool is None:
        await require_topics(lane, required, timeout_s=settings.start_timeout_s)
        return
    try:
        await require_topics(lane, required, timeout_s=min(_SPOOLED_START_S, settings.start_timeout_s))
    except TimeoutError as error:
        log.warning("starting_without_kafka", reason=str(error))


async def drain(lane: Lane, *, timeout_s: float) -> int:
    """Let a lane come to rest and return how many requests are not known to be in the log.

    Without a spool those are lost to us, and their clients know. With one they are on its disk.
    """
    if lane.spool is None:
        return await lane.producer.drain(timeout_s=timeout_s)
    left = await lane.spool.drain(timeout_s=timeout_s)
    lane.spool.close()
    if left:
        log.warning("spool_left", lane=lane.name, requests=left)
    return left


def _events(kafka: KafkaSettings, settings: GatewaySettings) -> dict[str, ConfigValue]:
    return producer_config(
        kafka,
        client_id="traceflow-gateway-events",
        queue_buffering_max_kbytes=settings.events_queue_kb,
        **_timeouts(settings),
    )


def _recordings(kafka: KafkaSettings, settings: GatewaySettings) -> dict[str, ConfigValue]:
    return producer_config(
        kafka,
        client_id="traceflow-gateway-recordings",
        queue_buffering_max_kbytes=settings.recordings_queue_kb,
        # chunks come compressed, and are large enough to fill a request alone
        compression_type="none",
        linger_ms=1,
        **_timeouts(settings),
    )


def _timeouts(settings: GatewaySettings) -> dict[str, ConfigValue]:
    timeout_ms = int(settings.kafka_timeout_s * 1000)
    return {
        # 0 is none: before a spool, the producer keeps its queue's order over any outage
        "message_timeout_ms": 0 if settings.spool else timeout_ms,
        # so that a record is tried twice at least within its time
        "request_timeout_ms": timeout_ms * 4 // 5,
    }
