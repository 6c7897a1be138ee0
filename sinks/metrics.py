"""Everything that the sinks measure; what is not declared here cannot be emitted."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BATCH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROW_AGE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_BATCH_ROWS = (1, 3, 10, 30, 100, 300, 1_000, 2_000, 3_000, 5_000, 10_000)


@dataclass(frozen=True, slots=True)
class SinkMetrics:
    """The metrics of all sinks of a process, labelled by sink."""

    rows: Counter
    duplicates: Counter
    parked: Counter
    erased: Counter
    batches: Counter
    batch_rows: Histogram
    batch_seconds: Histogram
    row_age_seconds: Histogram
    oldest_row_age_seconds: Gauge
    lag_records: Gauge
    owned_partitions: Gauge
    retries: Counter
    fenced: Counter
    days_ahead: Gauge
    oldest_days: Gauge
    pruned_partitions: Counter
    pruned_rows: Counter
    retention_applied_seconds: Gauge
    retention_refused: Gauge


def declare_metrics(registry: CollectorRegistry) -> SinkMetrics:
    """Declare the metrics in a registry."""

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(f"traceflow_sink_{name}", text, ("sink", *labels), registry=registry)

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"traceflow_sink_{name}", text, ("sink", *labels), registry=registry)

    def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"traceflow_sink_{name}", text, ("sink",), buckets=buckets, registry=registry)

    return SinkMetrics(
        rows=counter("rows", "Rows inserted and committed."),
        duplicates=counter("duplicates", "Rows received that were stored before."),
        parked=counter("parked", "Rows sent to the dead letters, by reason; of a record parked whole each.", "reason"),
        erased=counter("erased", "Rows left out because their visitor or session was erased."),
        batches=counter("batches", "Batches committed, by the way they were written: fast or careful.", "way"),
        batch_rows=histogram("batch_rows", "Rows of a committed batch.", _BATCH_ROWS),
        batch_seconds=histogram("batch_seconds", "From handing a batch to the writer to its commit.", _BATCH_SECONDS),
        row_age_seconds=histogram(
            "row_age_seconds", "Age of a batch's oldest row at its commit, since the broker took it.", _ROW_AGE_SECONDS
        ),
        oldest_row_age_seconds=gauge(
            "oldest_row_age_seconds", "Age of the oldest row read and not yet committed; 0 if there is none."
        ),
        lag_records=gauge("lag_records", "Records of the owned partitions not yet committed."),
        owned_partitions=gauge("owned_partitions", "Partitions that this process writes."),
        retries=counter("retries", "Tries that failed and were repeated, by SQLSTATE or cause.", "cause"),
        fenced=counter("fenced", "Batches refused because another process had taken the partitions over."),
        days_ahead=Gauge(
            "traceflow_sink_partition_days_ahead",
            "Days after today for which a partition exists, by table; below 2 it is time to look.",
            ("table",),
            registry=registry,
        ),
        oldest_days=Gauge(
            "traceflow_sink_partition_oldest_days",
            "Days before today of the oldest partition, by table.",
            ("table",),
            registry=registry,
        ),
        pruned_partitions=Counter(
            "traceflow_sink_pruned_partitions",
            "Partitions dropped because their day is kept no longer, by table.",
            ("table",),
            registry=registry,
        ),
        pruned_rows=Counter(
            "traceflow_sink_pruned_rows",
            "Sessions, and rows of recordings, deleted because they are kept no longer, by table.",
            ("table",),
            registry=registry,
        ),
        retention_applied_seconds=Gauge(
            "traceflow_sink_retention_applied_timestamp_seconds",
            "When this process last found nothing left that is kept no longer; 0: not yet.",
            registry=registry,
        ),
        retention_refused=Gauge(
            "traceflow_sink_retention_refused",
            "1 while what is kept no longer must not be dropped: the login is no owner, or the clock is in doubt.",
            registry=registry,
        ),
    )
