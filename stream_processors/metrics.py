"""Everything that a stage measures; what is not declared here cannot be emitted."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class StageMetrics:
    """The metrics of one worker."""

    records: Counter
    outputs: Counter
    parked: Counter
    ignored_sources: Counter
    batches: Counter
    fold_seconds: Histogram
    batch_seconds: Histogram
    seeks: Counter
    lag_records: Gauge
    oldest_record_age_seconds: Gauge
    watermark_age_seconds: Gauge
    open_sessions: Gauge
    owned_partitions: Gauge
    recovered_facts: Counter


def declare_metrics(registry: CollectorRegistry) -> StageMetrics:
    """Declare the metrics in a registry."""
    stem = "traceflow_stage_"

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(stem + name, text, labels, registry=registry)

    def gauge(name: str, text: str) -> Gauge:
        return Gauge(stem + name, text, registry=registry)

    def histogram(name: str, text: str) -> Histogram:
        return Histogram(stem + name, text, buckets=_SECONDS, registry=registry)

    return StageMetrics(
        records=counter("records", "Records folded."),
        outputs=counter("outputs", "Records sent, by topic.", "topic"),
        parked=counter("parked", "Records sent to the dead letters, by reason.", "reason"),
        ignored_sources=counter("ignored_sources", "Records out of their chain, which their sender will send again."),
        batches=counter("batches", "Batches written in full."),
        fold_seconds=histogram("fold_seconds", "Time to fold a batch."),
        batch_seconds=histogram("batch_seconds", "Time to fold a batch and write it durably."),
        seeks=counter("seeks", "Times that delivery had jumped ahead and was sent back to where the state is."),
        lag_records=gauge("lag_records", "Records of the owned partitions not yet folded."),
        oldest_record_age_seconds=gauge("oldest_record_age_seconds", "Age of the oldest record not yet folded, about."),
        watermark_age_seconds=gauge("watermark_age_seconds", "How far the slowest partition's clock lies behind now."),
        open_sessions=gauge("open_sessions", "Sessions that are not closed, in the owned partitions."),
        owned_partitions=gauge("owned_partitions", "Partitions that this worker folds."),
        recovered_facts=counter("recovered_facts", "Facts read from the changelog when partitions were taken over."),
    )
