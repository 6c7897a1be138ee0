"""What a load did, as one table or one JSON object."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.load.delivery import Tally
from deploy.load.ledger import Ledger


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The figures of one load."""

    wall_s: float
    cpu_s: float
    """Of the generator itself: what it takes from the system that it shares a machine with."""
    asked_rate: float
    rate: float
    """Acknowledged events a second."""
    events: int
    chunks: int
    requests: int
    rejected_events: int
    refused_requests: int
    unknown_requests: int
    retries: int
    sent_mb: float
    latency_ms: dict[str, float]
    """p50, p95, p99 and max, from the first try to the final answer."""


class LoadClock:
    """Measures wall time and this process's CPU from its making on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_s()

    def read(self) -> tuple[float, float]:
        """Return the seconds of both."""
        return time.monotonic() - self._wall, _cpu_s() - self._cpu


def summarise(ledger: Ledger, tally: Tally, *, wall_s: float, cpu_s: float, asked_rate: float) -> LoadReport:
    """Count what the ledger and the clients know."""
    batches = [entry for entry in ledger.acknowledged if entry.request.chunk is None and not entry.quota_limited]
    rejected = sum(len(entry.rejected) for entry in batches)
    events = sum(entry.request.event_count for entry in batches) - rejected
    latencies = sorted(tally.latencies_s)
    return LoadReport(
        wall_s=round(wall_s, 3),
        cpu_s=round(cpu_s, 3),
        asked_rate=asked_rate,
        rate=round(events / wall_s, 1) if wall_s else 0.0,
        events=events,
        chunks=sum(1 for _ in ledger.acknowledged_chunks()),
        requests=len(ledger.acknowledged),
        rejected_events=rejected,
        refused_requests=len(ledger.refused),
        unknown_requests=len(ledger.unknown),
        retries=tally.retries,
        sent_mb=round(tally.sent_bytes / 1e6, 1),
        latency_ms={
            name: round(1000 * _quantile(latencies, share), 2)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        },
    )


def show(report: LoadReport) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="load", title_justify="left", show_header=False)
    latency = ", ".join(f"{name} {value:,.1f}" for name, value in report.latency_ms.items())
    rows: list[tuple[str, Any]] = [
        ("acknowledged", f"{report.events:,} events, {report.chunks:,} chunks in {report.requests:,} requests"),
        ("rate", f"{report.rate:,.0f} events/s (asked for {report.asked_rate:,.0f}) over {report.wall_s:.1f} s"),
        ("latency, ms", latency),
        ("retries", f"{report.retries:,}"),
        ("refused", f"{report.refused_requests:,} requests, {report.rejected_events:,} events"),
        ("unknown", f"{report.unknown_requests:,} requests given up without an answer"),
        ("sent", f"{report.sent_mb:,.1f} MB, {report.cpu_s:.1f} CPU seconds of the generator"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system
