"""One declaration per Kafka topic: name, key, value, who writes and reads it, how long it is kept.

All topics are co-partitioned: the same number of partitions and the same partitioner (murmur2), so partition `n` of
every topic concerns the same sessions. Time of the log is the broker's
(`message.timestamp.type=LogAppendTime`). Topics are created by `traceflow topics`, never by a worker.
"""

from dataclasses import dataclass
from typing import Literal

DAY_MS = 86_400_000

MAX_RECORD_BYTES = 900_000
"""A record of events is at most this large; the gateway splits a larger request (Kafka's default limit is 1 MiB)."""

MAX_CHUNK_BYTES = 4_000_000
"""A recording chunk as sent."""

MAX_CHUNK_INFLATED_BYTES = 64_000_000
"""A recording chunk after inflation."""

ENVELOPE_BYTES = 96_000
"""Room for key, headers and framing above the payload limits."""

# Segments roll after 10 min, so that a compacted topic is really compacted; a reader that needs longer than this lag to
# recover could race the cleaner, and ends itself first (stream_processors.runner.stage).
COMPACTION_LAG_MS = 600_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's declaration; `name` comes without the deployment's prefix."""

    name: str
    key: str
    value: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    cleanup: Literal["delete", "compact", "compact,delete"]
    retention_ms: int
    max_message_bytes: int = 1_048_576

    def full_name(self, prefix: str) -> str:
        """Return the name on the broker."""
        return prefix + self.name

    def configs(self) -> dict[str, str]:
        """Return the topic's configuration on the broker."""
        configs = {
            "cleanup.policy": self.cleanup,
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(self.max_message_bytes),
        }
        if "delete" in self.cleanup:
            configs["retention.ms"] = str(self.retention_ms)
        if "compact" in self.cleanup:
            configs |= {
                "segment.ms": "600000",
                "segment.bytes": str(64 * 1024 * 1024),
                "min.cleanable.dirty.ratio": "0.1",
                "min.compaction.lag.ms": str(COMPACTION_LAG_MS),
                "delete.retention.ms": str(DAY_MS),
            }
        return configs


EVENTS = Topic(
    name="events",
    key="project_id/session_id; none for a tick",
    value=(
        "header kind: `events` EventBatch | `digest` Digest | `digest_tick` DigestTick | `tick` empty"
        " | `chain` Chain"
        " | `redriven` as parked"
    ),
    producers=("gateway", "digest", "analyze"),
    consumers=("analyze", "sink-events"),
    cleanup="delete",
    retention_ms=7 * DAY_MS,
    max_message_bytes=MAX_CHUNK_BYTES,
)
RECORDINGS = Topic(
    name="recordings",
    key="project_id/session_id; none for a tick",
    value=(
        "header kind: `chunk` the bytes as the SDK sent them, with ChunkMeta in header `meta` | `tick` empty"
        " | `redriven` as parked"
    ),
    producers=("gateway", "digest"),
    consumers=("digest", "sink-recordings"),
    cleanup="delete",
    retention_ms=7 * DAY_MS,
    max_message_bytes=MAX_CHUNK_BYTES + ENVELOPE_BYTES,
)
SIGNALS = Topic(
    name="signals",
    key="project_id/session_id",
    value="Finding",
    producers=("analyze",),
    consumers=("sink-signals",),
    cleanup="delete",
    retention_ms=7 * DAY_MS,
)
SESSIONS = Topic(
    name="sessions",
    key="project_id/session_id",
    value="SessionSnapshot, absolute and versioned",
    producers=("analyze",),
    consumers=("sink-sessions",),
    cleanup="compact,delete",
    retention_ms=30 * DAY_MS,
)
AI_JOBS = Topic(
    name="ai_jobs",
    key="project_id/session_id",
    value="AiJob",
    producers=("analyze",),
    consumers=("sink-ai_jobs",),
    cleanup="delete",
    retention_ms=7 * DAY_MS,
)
DEAD_LETTERS = Topic(
    name="dead_letters",
    key="the original key",
    value="the original bytes, with DeadLetter in headers `dl_*` before the original headers",
    producers=("gateway", "digest", "analyze", "sink"),
    consumers=("traceflow dead-letters",),
    cleanup="delete",
    retention_ms=30 * DAY_MS,
    max_message_bytes=MAX_CHUNK_BYTES + 2 * ENVELOPE_BYTES,
)
ANALYZE_CHANGELOG = Topic(
    name="analyze_changelog",
    key="project_id/session_id|offset, or \\0p|offset: a fact about the state after that offset",
    value="the state's bytes; none deletes the fact",
    producers=("analyze",),
    consumers=("analyze",),
    cleanup="compact",
    retention_ms=-1,
    max_message_bytes=MAX_CHUNK_BYTES,
)
DIGEST_CHANGELOG = Topic(
    name="digest_changelog",
    key="as in analyze_changelog",
    value="the state's bytes; none deletes the fact",
    producers=("digest",),
    consumers=("digest",),
    cleanup="compact",
    retention_ms=-1,
    max_message_bytes=MAX_CHUNK_BYTES,
)

ALL: tuple[Topic, ...] = (
    EVENTS,
    RECORDINGS,
    SIGNALS,
    SESSIONS,
    AI_JOBS,
    DEAD_LETTERS,
    ANALYZE_CHANGELOG,
    DIGEST_CHANGELOG,
)
