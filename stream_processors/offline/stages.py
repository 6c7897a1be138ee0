"""Fold the logs of one partition through both stages, and read what they said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.messages import AiJob, Finding, SessionSnapshot
from stream_processors.fold.logic import LogRecord, Output, Parked, SessionLogic
from stream_processors.fold.partition import PartitionFold
from stream_processors.offline.said import Said
from stream_processors.offline.timetable import TICK_MS, Arrival, events_log, recordings_log, with_ticks


@dataclass(frozen=True, slots=True)
class Stages:
    """The logics of both stages, as the workers have them."""

    digest: SessionLogic[Any]
    analyze: SessionLogic[Any]


@dataclass(frozen=True, slots=True)
class Folded:
    """What a stage said over its whole log."""

    outputs: Sequence[Output]
    parked: Sequence[Parked]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What analyze said, decoded; each finding, session and job once."""

    findings: Sequence[Finding]
    """In order of event time, then of kind."""
    sessions: Mapping[str, SessionSnapshot]
    """The final row of each session."""
    jobs: Sequence[AiJob]
    parked: Sequence[Parked]
    """What the stages could not use, digest's first."""


def fold_log(logic: SessionLogic[Any], records: Iterable[LogRecord]) -> Folded:
    """Fold a log from its beginning to its end."""
    batch = PartitionFold(logic).apply(records)
    return Folded(batch.outputs, batch.parked)


def judge(arrivals: Iterable[Arrival], stages: Stages, *, gap_ms: int) -> Outcome:
    """Return what the stages find in the arrivals, every session's end included.

    `gap_ms` is the longest gap of any session: so long the log ticks on.
    """
    # the first tick beyond the gap closes; a digest watermark is that of a tick, so one more
    timetable = with_ticks(arrivals, quiet_ms=gap_ms + 2 * TICK_MS)
    digested = fold_log(stages.digest, recordings_log(timetable))
    analyzed = fold_log(stages.analyze, events_log(timetable, digested.outputs))
    return read_outcome(analyzed.outputs, [*digested.parked, *analyzed.parked])


def read_outcome(outputs: Iterable[Output], parked: Sequence[Parked] = ()) -> Outcome:
    """Decode what analyze sent."""
    said = Said()
    said.take(outputs)
    findings = sorted(
        (finding for finding, _ in said.findings.values()),
        key=lambda finding: (finding.timestamp, finding.kind, finding.id),
    )
    sessions = {session.session_id: session for session in said.sessions.values()}
    return Outcome(findings, sessions, list(said.jobs.values()), parked)
