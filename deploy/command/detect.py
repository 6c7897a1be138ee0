"""`traceflow detect`: what both stages find in captured sessions, without Kafka and Postgres."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.command.failure import CommandFailure, Exit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.command.captured import Captured
    from schemas.messages import RecordSettings
    from stream_processors.offline.stages import Outcome

_SUFFIXES = frozenset((".gz", ".json", ".jsonl", ".ndjson"))
_MAX_TOLD = 10
"""Lines about what was left out; a file of another kind would give one an event."""


def detect(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="JSON array or JSON lines, gzipped or not; - is standard input.")
    ],
    session: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The session that everything belongs to; default: the FILE's name."),
    ] = None,
    project_settings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Settings as JSON, e.g. {"detectors": {"rage_click": {"min_clicks": 4}}}.'),
    ] = None,
    table: Annotated[bool, typer.Option("--table", help="A table for people instead of JSON lines.")] = False,
) -> None:
    """Find what the running system would find in captured sessions; one JSON object a finding.

    A FILE holds rrweb events (also packed by packFn), bodies of /v1/events or single events of theirs, or what
    posthog-js sent to /s/. Each FILE with rrweb events is one window (a tab, or a page load) of the session.

    The time of the log is made up from that of the events: they go out in flushes of 2 s, a body with its last
    event; ticks come once a second until half an hour (session_gap_ms) after the last. TRACEFLOW_STAGE_SESSION_GAP_MS
    and TRACEFLOW_STAGE_FLUSH_GRACE_MS count as they do for the stages.
    """
    from deploy.command.answer import print_json, print_table
    from deploy.command.detection import as_objects

    outcome, left_out = _find(files, session, _settings(project_settings))
    found = as_objects(outcome)
    if table:
        columns = ["session", "time", "kind", "x", "y", "element", "page", "evidence"]
        print_table(columns, [_row(finding) for finding in found])
    else:
        for finding in found:
            print_json(finding)
    for line in left_out[:_MAX_TOLD]:
        sys.stderr.write(f"traceflow: left out: {line}\n")
    if len(left_out) > _MAX_TOLD:
        sys.stderr.write(f"traceflow: left out: {len(left_out) - _MAX_TOLD} more\n")


def _find(files: "Sequence[str]", session: str | None, settings: "RecordSettings") -> "tuple[Outcome, list[str]]":
    """Return what is found, and what had to be left out, a line each."""
    from deploy.command.detection import Nameless, Names, take
    from stream_processors.analyze.wiring import assemble
    from stream_processors.digest import build_logic
    from stream_processors.offline.stages import Stages, judge

    names = Names(session, _stem(files[0]) if len(files) == 1 else None)
    captured = [item for number, file in enumerate(files, 1) for item in _read(file, number)]
    try:
        taken = take(captured, names=names, settings=settings)
    except Nameless as error:
        raise CommandFailure(f"{error}: of which session? Several FILEs need --session NAME", Exit.USAGE) from error
    stages = Stages(build_logic(os.environ), analyze := assemble(os.environ))
    outcome = judge(taken.arrivals, stages, gap_ms=settings.get("session_gap_ms") or analyze.gap_ms)
    parked = [f"{p.reason}: {p.detail.strip().splitlines()[-1] if p.detail else p.record.kind}" for p in outcome.parked]
    return outcome, [*taken.refused, *parked]


def _read(file: str, number: int) -> "list[Captured]":
    from deploy.command.captured import CaptureError, read_capture

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return read_capture(data, name=file, window=str(number))
    except CaptureError as error:
        raise CommandFailure(str(error)) from error
    except OSError as error:
        raise CommandFailure(f"{file}: {error.strerror or error}") from error


def _stem(file: str) -> str | None:
    path = Path(file)
    while path.suffix in _SUFFIXES:
        path = path.with_suffix("")
    return None if file == "-" else path.name


def _settings(file: Path | None) -> "RecordSettings":
    import orjson

    from deploy.command.project_settings import validated
    from schemas.projects import ProjectSettings, record_settings

    if file is None:
        return record_settings(1, ProjectSettings())
    try:
        settings: Mapping[str, Any] = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise CommandFailure(f"{file}: not JSON: {error}") from error
    except OSError as error:
        raise CommandFailure(f"{file}: {error.strerror or error}") from error
    try:
        return record_settings(1, validated(settings))
    except CommandFailure as error:
        raise CommandFailure(f"{file}: {error}", error.code) from error


def _row(finding: "Mapping[str, Any]") -> list[Any]:
    from datetime import UTC, datetime

    element = finding["element"] or {}
    text = finding["error_message"] or element.get("text") or ""
    shown = " ".join(filter(None, (element.get("selector") or element.get("tag"), text and f"“{text[:60]}”")))
    evidence = ", ".join(f"{name} {value}" for name, value in finding["evidence"].items())
    time = datetime.fromtimestamp(finding["timestamp"] / 1000, UTC)
    place = [finding["x"], finding["y"]]
    return [finding["session"], time, finding["kind"], *place, shown, finding["page_url"], evidence]
