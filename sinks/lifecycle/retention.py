"""Let go of what is kept no longer: one process at a time, hourly, by what `traceflow_retention` says."""

from collections.abc import Callable
from dataclasses import dataclass
from time import time

import structlog

from adapters.day_partitions import AnotherPrunes
from adapters.postgres import Connection
from adapters.retention import (
    ClockLeapt,
    ClocksDisagree,
    Deleted,
    Dropped,
    Left,
    Step,
    first_days_kept,
    follow_clock,
    ownership,
    prune,
)
from sinks.metrics import SinkMetrics

WAIT_S = 5.0
"""For transactions that read an old day: queries that take longer leave it to the next round, an hour later."""

log = structlog.get_logger()


@dataclass(slots=True)
class ApplyRetention:
    """The chore; see `housekeeping.Work`."""

    metrics: SinkMetrics
    wait_s: float = WAIT_S
    clock: Callable[[], float] = time
    _is_refused: bool = False

    def __call__(self, connection: Connection, *, may_go_on: Callable[[], bool]) -> None:
        """Drop and delete what is expired, unless another process does, this login may not or the clock is in doubt."""
        doubt = self._follow_clock(connection)
        kept_since = first_days_kept(connection)
        if any(kept_since.values()) and (self._refused(connection) or self._doubted(doubt)):
            return
        left = False
        try:
            for step in prune(connection, kept_since, wait_s=self.wait_s):
                self._tell(step)
                left |= isinstance(step, Left)
                if not may_go_on():
                    return
        except AnotherPrunes:
            return
        if not left:
            self.metrics.retention_applied_seconds.set(time())

    def _refused(self, connection: Connection) -> bool:
        """Say once that somebody else has to prune."""
        known = ownership(connection)
        self.metrics.retention_refused.set(not known.is_ours)
        if not known.is_ours and not self._is_refused:
            log.error(
                "retention_not_applied",
                reason=f"only {known.owner}, the tables' owner, may drop what is kept no longer; let it run: "
                "traceflow partitions prune",
            )
        self._is_refused = not known.is_ours
        return self._is_refused

    def _follow_clock(self, connection: Connection) -> str | None:
        """Count from today; return why not, if so."""
        try:
            follow_clock(connection, clock=self.clock)
        except (ClocksDisagree, ClockLeapt) as error:
            return str(error)
        return None

    def _doubted(self, doubt: str | None) -> bool:
        """Say that a person has to look at the clock."""
        if doubt is not None:
            self.metrics.retention_refused.set(1)
            log.error("retention_not_applied", reason=doubt)
        return doubt is not None

    def _tell(self, step: Step) -> None:
        match step:
            case Dropped(partition):
                self.metrics.pruned_partitions.labels(partition.table).inc()
                log.info("partition_dropped", name=partition.name, size_bytes=partition.size_bytes)
            case Deleted(table, rows):
                self.metrics.pruned_rows.labels(table).inc(rows)
            case Left(reason):
                log.warning("partition_left", reason=reason)
