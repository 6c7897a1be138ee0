"""The arithmetic of `traceflow status`: from samples of a stage's positions to lag, rate, age, illness. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ILL_AFTER_S = 60.0
"""A record that waits longer says that something is wrong: a restart and a rebalance are over within 30 s."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Where the log and one reader of it stood at one moment, by partition."""

    at_s: float
    begins: Mapping[int, int]
    """First offset that the broker still has."""
    ends: Mapping[int, int]
    """The offset that the broker gives next."""
    positions: Mapping[int, int] | None
    """The offset that the reader will process next; a partition that it never read is missing. None if unknown."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """How one stage keeps up."""

    stage: str
    topic: str
    lag: int | None
    """Records in the log that the stage has not processed; None, as below, where it stands nobody knows."""
    incoming_per_s: float
    processed_per_s: float | None
    oldest_unprocessed_s: float | None
    """Age of the oldest record that waits, seconds; None if none does."""
    lost: int | None
    """Records that were deleted by retention before the stage read them."""
    workers: int | None
    """Members of its group now; None if unknown."""
    dead_letters: int | None = None
    """Records that it parked and that nothing was done about; None if not counted."""


def waiting_from(sample: Sample) -> dict[int, int]:
    """Return, for each partition that has something to process, the offset of the first such record."""
    if sample.positions is None:
        return {}
    starts = {p: max(sample.positions.get(p, begin), begin) for p, begin in sample.begins.items()}
    return {p: start for p, start in starts.items() if start < sample.ends.get(p, start)}


def report(
    stage: str,
    topic: str,
    *,
    before: Sample,
    after: Sample,
    waiting_since_ms: Sequence[int],
    now_ms: int,
    workers: int | None,
    dead_letters: int | None,
    passed_over: int = 0,
) -> StageReport:
    """Compare two samples; `waiting_since_ms` holds the broker's times of the first waiting records.

    `passed_over` counts records before them that the stage has not read and will do nothing about: they do not wait.
    """
    seconds = max(after.at_s - before.at_s, 1e-9)
    waiting = waiting_from(after)
    oldest = max(0, now_ms - min(waiting_since_ms)) / 1000 if waiting_since_ms else None
    return StageReport(
        stage=stage,
        topic=topic,
        lag=None
        if after.positions is None
        else sum(after.ends[p] - start for p, start in waiting.items()) - passed_over,
        incoming_per_s=round(_grown(before.ends, after.ends) / seconds, 1),
        processed_per_s=_per_second(before.positions, after.positions, seconds),
        oldest_unprocessed_s=oldest,
        lost=_lost(after.begins, after.positions),
        workers=workers,
        dead_letters=dead_letters,
    )


def _per_second(before: Mapping[int, int] | None, after: Mapping[int, int] | None, seconds: float) -> float | None:
    return None if before is None or after is None else round(_grown(before, after) / seconds, 1)


def _lost(begins: Mapping[int, int], positions: Mapping[int, int] | None) -> int | None:
    if positions is None:
        return None
    return sum(max(0, begin - positions[p]) for p, begin in begins.items() if p in positions)


def _grown(before: Mapping[int, int], after: Mapping[int, int]) -> int:
    # a position that moved back (a worker that resumes from its state) is no negative throughput
    return sum(max(0, end - before[p]) for p, end in after.items() if p in before)


def ailments(stage: StageReport) -> list[str]:
    """Return what is wrong with a stage, each as a line that says why; nothing for one that is well or catches up."""
    found = []
    if stage.lost:
        found.append(
            f"retention deleted {stage.lost} records before it read them: it has stopped, its last line says how on"
        )
    waits_s, processed_per_s = stage.oldest_unprocessed_s or 0.0, stage.processed_per_s or 0.0
    if stage.workers == 0:
        found.append(f"no worker runs, and {stage.lag} records wait" if stage.lag else "no worker runs")
    elif waits_s >= ILL_AFTER_S and not processed_per_s:
        found.append(f"it stands still: {stage.lag} records wait, the oldest for {waits_s:.0f} s")
    elif waits_s >= ILL_AFTER_S and processed_per_s < stage.incoming_per_s:
        found.append(
            f"it falls behind: {stage.incoming_per_s:.0f} records/s come, {processed_per_s:.0f} are processed, "
            f"the oldest waits for {waits_s:.0f} s"
        )
    return found
