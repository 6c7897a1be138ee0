"""The labelled browser sessions as logs: recording chunks as an SDK would send them, folded by both stages."""

import base64
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson

from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.digest import build_logic
from stream_processors.fold.logic import LogRecord, Output
from stream_processors.fold.partition import UNBOUNDED, PartitionFold
from stream_processors.offline.flushes import FLUSH_MS, flushes
from stream_processors.offline.stages import Stages, judge
from stream_processors.offline.timetable import Arrival, recordings_log, with_ticks
from tests.browser_score import Found

SESSIONS = Path(__file__).parent / "data" / "browser"
PROJECT = "p"
AFTERWARDS_MS = 60_000
"""The session's gap, so that ticks go on for so long only: longer than any click waits, and than any pause."""


class Chunk(NamedTuple):
    """A recording chunk and when it arrived."""

    arrived: int
    window: str
    body: bytes


def truths(sdk: str) -> list[dict[str, Any]]:
    """Return the labels of all sessions of a pass."""
    return [json.loads(path.read_bytes()) for path in sorted((SESSIONS / sdk).glob("*/truth.json"))]


def chunks_of(sdk: str, session: str, *, flush_ms: int = FLUSH_MS) -> list[Chunk]:
    """Return the chunks of a session in order of arrival."""
    directory = SESSIONS / sdk / session
    if sdk == "posthog":
        return [chunk for request in _lines(directory / "requests.jsonl.gz") for chunk in _snapshots(request)]
    chunks = []
    for path in sorted(directory.glob("rrweb*.jsonl.gz")):
        events = list(_lines(path))
        for at, flushed in flushes(events, [_time_of(event) for event in events], flush_ms=flush_ms):
            chunks.append(Chunk(at, path.name.split(".")[1], json.dumps(flushed).encode()))
    return sorted(chunks, key=lambda chunk: chunk.arrived)


def arrivals_of(session: str, chunks: Sequence[Chunk]) -> list[Arrival]:
    """Return the chunks as the gateway writes them."""
    counts: Counter[str] = Counter()
    arrivals = []
    for chunk in chunks:
        meta = {
            "v": 1,
            "project_id": PROJECT,
            "session_id": session,
            "window_id": chunk.window,
            "seq": counts[chunk.window],
            "received_at": chunk.arrived,
            "encoding": "identity",
            "codec": "json",
            "settings": {"version": 1},
        }
        counts[chunk.window] += 1
        headers = [("kind", b"chunk"), ("meta", orjson.dumps(meta))]
        arrivals.append(Arrival(chunk.arrived, "chunk", f"{PROJECT}/{session}".encode(), chunk.body, headers))
    return arrivals


def log_of(session: str, chunks: Sequence[Chunk]) -> list[LogRecord]:
    """Lay out chunks as the recordings log of one partition, with a tick each second."""
    return recordings_log(with_ticks(arrivals_of(session, chunks), quiet_ms=AFTERWARDS_MS))


def digest(
    records: Sequence[LogRecord], *, cuts: Sequence[int] = (), cache_weight: int = UNBOUNDED
) -> tuple[list[Output], Mapping[bytes, bytes]]:
    """Fold a recordings log; return what was sent, and the sessions' facts. Nothing may be parked."""
    fold = PartitionFold(build_logic({}), cache_weight=cache_weight)
    sent: list[Output] = []
    for start, end in pairwise(sorted({0, len(records), *cuts})):
        batch = fold.apply(records[start:end])
        assert batch.parked == ()
        sent += batch.outputs
    return sent, dict(fold.facts)


def errors_of(session: str, errors: Sequence[tuple[int, str]]) -> list[Arrival]:
    """Return structured errors, time and message each, as the gateway writes them."""
    key = f"{PROJECT}/{session}".encode()
    batch = {"v": 1, "project_id": PROJECT, "session_id": session, "settings": {"version": 1}}
    arrivals = []
    for n, (t, message) in enumerate(errors):
        event = {
            "id": f"0192e0b0-0000-4000-8000-{n:012}",
            "timestamp": t,
            "event_type": "error",
            "error_message": message,
        }
        value = orjson.dumps(batch | {"received_at": t + 1_000, "events": [event]})
        arrivals.append(Arrival(t + 1_000, "events", key, value, [("kind", b"events")]))
    return arrivals


def findings_of(session: str, chunks: Sequence[Chunk], *, errors: Sequence[tuple[int, str]] = ()) -> list[Found]:
    """Return what both stages find in a session, its end included; `errors` are told beside the recording."""
    stages = Stages(build_logic({}), AnalyzeLogic(gap_ms=AFTERWARDS_MS))
    arrivals = [*arrivals_of(session, chunks), *errors_of(session, errors)]
    arrivals.sort(key=lambda arrival: arrival.at)
    outcome = judge(arrivals, stages, gap_ms=AFTERWARDS_MS)
    assert outcome.parked == []
    return [Found(session, f.kind, f.timestamp, f.x_position, f.y_position) for f in outcome.findings]


@cache
def found_in(sdk: str) -> tuple[Found, ...]:
    """Return what both stages find in all sessions of a pass."""
    return tuple(f for truth in truths(sdk) for f in findings_of(truth["session"], chunks_of(sdk, truth["session"])))


def _lines(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rb") as lines:
        yield from map(json.loads, lines)


def _time_of(event: Any) -> int:
    plain = json.loads(zlib.decompress(event.encode("latin-1"))) if isinstance(event, str) else event
    return int(plain["timestamp"])


def _snapshots(request: Mapping[str, Any]) -> Iterator[Chunk]:
    """Take the recording out of a request of posthog-js, its compressed fields as they are."""
    body = base64.b64decode(request["body_b64"])
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    if body.startswith(b"data="):
        body = base64.b64decode(parse_qs(body.decode())["data"][0])
    sent = json.loads(body)
    for event in sent if isinstance(sent, list) else [sent]:
        if event["event"] == "$snapshot":
            properties = event["properties"]
            recorded = json.dumps(properties["$snapshot_data"]).encode()
            yield Chunk(request["received"], properties["$window_id"], recorded)
