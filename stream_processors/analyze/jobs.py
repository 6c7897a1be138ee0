"""Which AI jobs a session deserves when it closes, and how urgent they are.

Each job costs the project AI credits, so a session asks only for what its findings can repay:

| task             | asked for when                                                                      | priority |
|------------------|-------------------------------------------------------------------------------------|----------|
| session_summary  | the score is at least `summary_min_score`                                           | p        |
| root_cause       | the score is at least `root_cause_min_score`                                        | p        |
| code_fix         | that, and an error or error click with a message is known                           | p + 1    |
| journey_analysis | a form was abandoned, or the user came back from `journey_min_quick_backs` pages    | p + 2    |

p is 10 less a tenth of the score, from 1 (most urgent) to 10. Bots deserve none. A session that closes again after late
data asks again only if it has more findings than at its last close.

A job's input is what a model needs before it looks at the rows: the score, the findings, the way through the pages. It
is bounded: `MAX_PAGES` and `MAX_FINDINGS` entries of short texts, 12 kB at most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream_processors.analyze.detectors.thresholds import switch, whole
from stream_processors.analyze.score import frustration_score

MAX_PAGES = 50
MAX_URL = 200
MAX_FINDINGS = 16
"""Findings that a session keeps for its jobs: the latest by event time, 150 bytes each."""

MAX_LABEL = 80


@dataclass(frozen=True, slots=True)
class AiJobConfig:
    """Thresholds of the AI jobs."""

    enabled: bool = switch()
    summary_min_score: int = whole(30, low=0, high=100)
    root_cause_min_score: int = whole(50, low=0, high=100)
    journey_min_quick_backs: int = whole(2, low=1, high=1000)


@dataclass(frozen=True, slots=True)
class Moment:
    """A finding as a job's input tells it."""

    t: int
    kind: str
    page_url: str
    label: str
    """The element or the error's message."""


@dataclass(frozen=True, slots=True)
class ClosedSession:
    """What the policy looks at."""

    counts: Mapping[str, int]
    """Findings by kind."""
    is_bot: bool
    started_at: int
    ended_at: int
    device_type: str | None
    browser: str | None
    pages: Sequence[tuple[str, int]]
    """URL and time of the first visit, in order."""
    findings: Sequence[Moment]
    """The latest, in order of time."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job that a session deserves."""

    task_type: str
    priority: int
    input_data: Mapping[str, Any]


def deserved_jobs(session: ClosedSession, config: AiJobConfig) -> list[JobRequest]:
    """Return the jobs of a session that closes, in the order of the table."""
    if not config.enabled or session.is_bot:
        return []
    score = frustration_score(session.counts)
    urgency = 10 - score // 10
    tasks: list[tuple[str, int]] = []
    if score >= config.summary_min_score:
        tasks.append(("session_summary", urgency))
    if score >= config.root_cause_min_score:
        tasks.append(("root_cause", urgency))
        if any(moment.kind in ("error", "error_click") and moment.label for moment in session.findings):
            tasks.append(("code_fix", urgency + 1))
    if session.counts.get("form_abandonment") or session.counts.get("quick_back", 0) >= config.journey_min_quick_backs:
        tasks.append(("journey_analysis", urgency + 2))
    if not tasks:
        return []
    input_data = _input_data(session, score)
    return [JobRequest(task, max(1, min(10, priority)), input_data) for task, priority in tasks]


def _input_data(session: ClosedSession, score: int) -> dict[str, Any]:
    pages = session.pages[:MAX_PAGES]
    timeline = [(t, {"at_ms": t - session.started_at, "page": url[:MAX_URL]}) for url, t in pages]
    timeline += [
        (
            moment.t,
            {
                "at_ms": moment.t - session.started_at,
                "finding": moment.kind,
                "page": moment.page_url[:MAX_URL],
                "what": moment.label,
            },
        )
        for moment in session.findings
    ]
    timeline.sort(key=lambda entry: entry[0])
    return {
        "frustration_score": score,
        "findings": dict(sorted(session.counts.items())),
        "started_at": session.started_at,
        "duration_ms": session.ended_at - session.started_at,
        "device_type": session.device_type,
        "browser": session.browser,
        "page_count": len(session.pages),
        "timeline": [entry for _, entry in timeline],
    }
