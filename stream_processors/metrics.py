"""Everything that a stage measures; what is not declared here cannot be emitted."""

from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


@dataclass(frozen=True, slots=True)
class StageMetrics:
    """The metrics of one worker."""

    records: Counter
    outputs: Counter
    parked: Counter
    ignored_sources: Counter
    lost_sources: Counter
    batches: Counter
    batch_records: Histogram
    fold_seconds: Counter
    write_seconds: Histogram
    seeks: Counter
    recovered_facts: Counter
    owned_partitions: Gauge
    lag_records: Gauge
    oldest_record_age_seconds: Gauge
    watermark_age_seconds: Gauge
    open_sessions: Gauge

    def forget(self, partition: int) -> None:
        """Stop showing a partition that is not ours any more."""
        for gauge in (self.lag_records, self.oldest_record_age_seconds, self.watermark_age_seconds, self.open_sessions):
            with suppress(KeyError):
                gauge.remove(str(partition))


def declare_metrics(registry: CollectorRegistry) -> StageMetrics:
    """Declare the metrics in a registry."""
    stem = "traceflow_stage_"

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(stem + name, text, labels, registry=registry)

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(stem + name, text, labels, registry=registry)

    def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(stem + name, text, buckets=buckets, registry=registry)

    return StageMetrics(
        records=counter("records", "Records folded."),
        outputs=counter("outputs", "Records sent, by topic.", "topic"),
        parked=counter("parked", "Records, or events within them, sent to the dead letters, by reason.", "reason"),
        ignored_sources=counter("ignored_sources", "Records out of their chain, which their sender will send again."),
        lost_sources=counter(
            "lost_sources",
            "Records of the stage before that the log had acknowledged and lost: alert on any.",
        ),
        batches=counter("batches", "Batches of one partition written in full."),
        batch_records=histogram("batch_records", "Records of a batch.", _RECORDS),
        fold_seconds=counter("fold_seconds", "Time spent on folding."),
        write_seconds=histogram("write_seconds", "Time to write batches durably, in three flights.", _SECONDS),
        seeks=counter("seeks", "Times that delivery had jumped ahead and was sent back to where the state is."),
        recovered_facts=counter("recovered_facts", "Facts read from the changelog when partitions were taken over."),
        owned_partitions=gauge("owned_partitions", "Partitions that this worker folds."),
        lag_records=gauge("lag_records", "Records of the partition not yet folded.", "partition"),
        oldest_record_age_seconds=gauge(
            "oldest_record_age_seconds", "Age of the partition's oldest record not yet folded, about.", "partition"
        ),
        watermark_age_seconds=gauge(
            "watermark_age_seconds", "How far the partition's clock lies behind now.", "partition"
        ),
        open_sessions=gauge("open_sessions", "Sessions of the partition that are not closed.", "partition"),
    )
