"""The gateway's settings: group `GATEWAY`, so `TRACEFLOW_GATEWAY_PORT` and so on; each gives its default's reason."""

from ipaddress import ip_network

from pydantic import Field, field_validator

from ingest_gateway.admission.client_address import Network, ProxyTrust
from ingest_gateway.limits.backpressure import BackpressureLimits
from ingest_gateway.spool.route import SpoolLimits
from schemas.environment import Settings
from schemas.topics import MAX_CHUNK_BYTES


class GatewaySettings(Settings):
    """What an operator may set."""

    host: str = Field(default="127.0.0.1", min_length=1, description="a laptop is not opened to its network unasked")
    port: int = Field(default=8100, ge=0, le=65_535, description="0 takes a free one")
    reuse_port: bool = Field(default=False, description="several gateways of one machine share the port, one a core")

    max_body_bytes: int = Field(
        default=1_000_000, ge=1_000, le=100_000_000, description="100 times what an SDK sends at once"
    )
    max_inflated_bytes: int = Field(
        default=20_000_000, ge=1_000, le=200_000_000, description="JSON of events shrinks to a twentieth at best"
    )
    max_events: int = Field(
        default=1_000, ge=1, le=100_000, description="an ordinary request of so many keeps the loop 10 ms"
    )
    max_chunk_bytes: int = Field(
        default=MAX_CHUNK_BYTES, ge=1_000, le=MAX_CHUNK_BYTES, description="what the topic of recordings takes"
    )

    max_held_body_bytes: int = Field(
        default=64_000_000,
        ge=1_000_000,
        description="bodies being read, all together: memory under slow clients",
    )
    max_connections: int = Field(
        default=10_000, ge=1, description="15 kB each; one more takes an idle one's place, or is answered 503"
    )
    max_header_bytes: int = Field(default=32_768, ge=1_024, description="four times what browsers and proxies send")
    header_timeout_s: float = Field(default=10.0, gt=0, description="a request's headers arrive in one packet")
    body_timeout_s: float = Field(default=10.0, gt=0, description="for a body, beside the time of min_body_rate")
    min_body_rate: int = Field(
        default=10_000, ge=1, description="bytes a second: the slowest mobile network worth a connection"
    )
    keep_alive_s: float = Field(default=65.0, gt=0, description="longer than a load balancer keeps its side (60 s)")

    trusted_proxies: str = Field(default="", description="networks like 10.0.0.0/8, by comma; empty: none")
    client_ip_header: str = Field(
        default="X-Forwarded-For", pattern=r"^[A-Za-z0-9-]+$", description="or Forwarded, or CF-Connecting-IP"
    )
    cors_max_age_s: int = Field(default=86_400, ge=0, description="browsers shorten it to their own (Chrome 7,200)")

    kafka_timeout_s: float = Field(default=5.0, ge=1, le=60, description="a page that is left does not wait longer")
    events_queue_kb: int = Field(default=65_536, ge=1_024, description="a second of a busy gateway, held in memory")
    recordings_queue_kb: int = Field(default=131_072, ge=16_384, description="32 of the largest chunks")
    max_queue_fill: float = Field(default=0.8, gt=0, le=1, description="what was let in still finds room")
    max_unacked_s: float = Field(default=2.0, gt=0, description="ten times a slow acknowledgement")
    probe_interval_s: float = Field(default=1.0, gt=0, description="clients that wait for the timeout in an outage")
    retry_after_s: float = Field(default=5.0, ge=1, description="up to twice that, at random: no herd comes back")

    spool: str = Field(default="", description="a directory that takes what Kafka cannot; empty: none, 503 instead")
    spool_events_mb: int = Field(
        default=1_024, ge=1, le=1_000_000, description="half an hour of 1,000 events a second; then 503"
    )
    spool_recordings_mb: int = Field(
        default=4_096, ge=8, le=1_000_000, description="half an hour of 45 chunks of 50 kB a second; then 503"
    )

    projects_poll_s: float = Field(default=30.0, ge=1, description="notifications come at once, this is for lost ones")
    start_timeout_s: float = Field(default=30.0, gt=0, description="for broker and database that start with it")
    drain_s: float = Field(default=0.5, ge=0, description="from /readyz 503 to the closed port: balancers notice")
    stop_timeout_s: float = Field(default=20.0, gt=0, description="below the 30 s after which orchestrators kill")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_parse(cls, value: str) -> str:
        _networks(value)
        return value

    def proxy_trust(self) -> ProxyTrust:
        """Return which hops are believed."""
        return ProxyTrust(_networks(self.trusted_proxies), self.client_ip_header.lower())

    def backpressure(self) -> BackpressureLimits:
        """Return when to refuse for Kafka's sake."""
        return BackpressureLimits(self.max_queue_fill, self.max_unacked_s, self.probe_interval_s)

    def spool_limits(self, megabytes: int) -> SpoolLimits:
        """Return when to take to the disk, and how much of it."""
        return SpoolLimits(megabytes * 1_000_000, self.max_unacked_s, self.max_queue_fill)


def _networks(value: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
