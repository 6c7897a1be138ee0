"""Every metric of the gateway, declared once; there is no other way to emit one.

No label holds a project: their number is not ours to bound. Time is measured from the request's headers on.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

PREFIX = "traceflow_gateway_"

_SECONDS = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BYTES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 4_000_000)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class GatewayMetrics:
    """The gateway's metrics in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(f"{PREFIX}http_requests", "Answered requests.", ("route", "code"), registry=registry)
        self.request_seconds = Histogram(
            f"{PREFIX}http_request_seconds",
            "From a request's headers to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.body_bytes = Histogram(
            f"{PREFIX}http_body_bytes", "Bodies as sent.", ("route",), buckets=_BYTES, registry=registry
        )
        self.refused = Counter(
            f"{PREFIX}refused_requests", "Requests refused as a whole.", ("reason",), registry=registry
        )
        self.over_share = Counter(
            f"{PREFIX}over_share_requests",
            "Requests refused as overloaded because their project held more than its share of a busy gateway.",
            registry=registry,
        )
        self.batch_events = Histogram(
            f"{PREFIX}batch_events", "Events in a request.", buckets=_COUNTS, registry=registry
        )
        self.received_events = Counter(
            f"{PREFIX}received_events",
            "Events of requests that were taken: accepted, rejected, or unacknowledged.",
            registry=registry,
        )
        self.unacknowledged_events = Counter(
            f"{PREFIX}unacknowledged_events",
            "Events answered without an acknowledgement, which may be stored: their client sends them again.",
            registry=registry,
        )
        self.accepted_events = Counter(
            f"{PREFIX}accepted_events", "Events acknowledged to their client.", registry=registry
        )
        self.restamped_events = Counter(
            f"{PREFIX}restamped_events",
            "Accepted events whose timestamp cannot be theirs, which have the time of receipt instead.",
            registry=registry,
        )
        self.rejected_events = Counter(
            f"{PREFIX}rejected_events", "Events refused beside accepted ones.", ("reason",), registry=registry
        )
        self.accepted_chunks = Counter(
            f"{PREFIX}accepted_chunks", "Recording chunks acknowledged to their client.", registry=registry
        )
        self.dropped_requests = Counter(
            f"{PREFIX}dropped_requests",
            "Requests answered 202 with nothing stored: quota (quota_limited) or the user's privacy (privacy_signal).",
            ("cause",),
            registry=registry,
        )
        self.ack_seconds = Histogram(
            f"{PREFIX}kafka_ack_seconds",
            "From handing a request's records over to their acknowledgement.",
            ("lane",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.delivery_failures = Counter(
            f"{PREFIX}kafka_delivery_failures",
            "Requests whose records were not acknowledged.",
            ("lane", "error"),
            registry=registry,
        )
        self.queue_bytes = Gauge(
            f"{PREFIX}kafka_queue_bytes", "Bytes that wait for their acknowledgement.", ("lane",), registry=registry
        )
        self.oldest_unacked_seconds = Gauge(
            f"{PREFIX}kafka_oldest_unacked_seconds",
            "Age of the oldest unacknowledged request.",
            ("lane",),
            registry=registry,
        )
        self.gate_closed = Gauge(
            f"{PREFIX}kafka_gate_closed", "1 while requests are refused for Kafka's sake.", ("lane",), registry=registry
        )
        self.spooling = Gauge(f"{PREFIX}spooling", "1 while requests go to the spool.", ("lane",), registry=registry)
        self.spool_bytes = Gauge(f"{PREFIX}spool_bytes", "Bytes in the spool.", ("lane",), registry=registry)
        self.spool_requests = Gauge(
            f"{PREFIX}spool_requests", "Requests in the spool that Kafka has not.", ("lane",), registry=registry
        )
        self.spool_oldest_seconds = Gauge(
            f"{PREFIX}spool_oldest_seconds", "Age of the oldest of them.", ("lane",), registry=registry
        )
        self.spool_sync_seconds = Histogram(
            f"{PREFIX}spool_sync_seconds",
            "From writing what has gathered to its end on the disk.",
            ("lane",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.spool_set_aside = Counter(
            f"{PREFIX}spool_set_aside",
            "Damaged segments and unusable requests of the spool, kept for a person.",
            ("lane",),
            registry=registry,
        )
        self.in_flight = Gauge(f"{PREFIX}in_flight_requests", "Requests being answered.", registry=registry)
        self.held_body_bytes = Gauge(
            f"{PREFIX}held_body_bytes", "Bytes of bodies that are being read.", registry=registry
        )
        self.connections = Gauge(f"{PREFIX}connections", "Open connections.", registry=registry)
        self.evicted_connections = Counter(
            f"{PREFIX}evicted_connections", "Idle connections ended to make room for new ones.", registry=registry
        )
        self.projects = Gauge(f"{PREFIX}projects_keys", "Keys in the snapshot of projects.", registry=registry)
        self.projects_limited = Gauge(
            f"{PREFIX}projects_limited",
            "Projects whose plan is used up: events without sessions left, recordings without either of the two left.",
            ("route",),
            registry=registry,
        )
        self.projects_age_seconds = Gauge(
            f"{PREFIX}projects_age_seconds",
            "Since the snapshot of projects was last known to be current.",
            registry=registry,
        )
