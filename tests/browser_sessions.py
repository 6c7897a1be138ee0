"""The labelled browser sessions as logs: recording chunks as an SDK would send them, folded by both stages."""

import base64
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson

from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.digest import build_logic
from stream_processors.fold import UNBOUNDED, PartitionFold
from stream_processors.logic import LogRecord, Output
from tests.browser_score import Found

SESSIONS = Path(__file__).parent / "data" / "browser"
PROJECT = "p"
FLUSH_MS = 2_000
"""How often an SDK sends what it has recorded."""
TICK_MS = 1_000
AFTERWARDS_MS = 60_000
"""Ticks go on this long after the last chunk: longer than any click waits."""


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
    chunks = [
        chunk
        for path in sorted(directory.glob("rrweb*.jsonl.gz"))
        for chunk in _flushes(path.name.split(".")[1], list(_lines(path)), flush_ms)
    ]
    return sorted(chunks, key=lambda chunk: chunk.arrived)


def log_of(session: str, chunks: Sequence[Chunk]) -> list[LogRecord]:
    """Lay out chunks as the recordings log of one partition, with a tick each second."""
    records: list[LogRecord] = []
    counts: Counter[str] = Counter()
    now = chunks[0].arrived
    for chunk in chunks:
        now = _tick_until(records, now, chunk.arrived)
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
        records.append(LogRecord(len(records), now, "chunk", f"{PROJECT}/{session}".encode(), chunk.body, headers))
    _tick_until(records, now, now + AFTERWARDS_MS)
    return records


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


def findings_of(session: str, chunks: Sequence[Chunk]) -> list[Found]:
    """Return what both stages find in a session, its end included."""
    records = log_of(session, chunks)
    sent, _ = digest(records)
    analyze = PartitionFold(AnalyzeLogic())
    log = [
        LogRecord(n, record.timestamp, dict(output.headers)["kind"].decode(), output.key or b"", output.value)
        for n, (record, output) in enumerate(zip(records, sent, strict=True))
    ]
    over = {"v": 1, "src": len(log), "at": records[-1].timestamp + 86_400_000}
    log.append(LogRecord(len(log), over["at"], "digest_tick", b"", orjson.dumps(over)))
    batch = analyze.apply(log)
    assert batch.parked == ()
    found = [orjson.loads(output.value) for output in batch.outputs if output.topic == "signals"]
    return [Found(session, f["kind"], f["timestamp"], f.get("x_position"), f.get("y_position")) for f in found]


def _lines(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rb") as lines:
        yield from map(json.loads, lines)


def _flushes(window: str, events: Sequence[Any], flush_ms: int) -> Iterator[Chunk]:
    """Cut a recording into what an SDK flushes."""
    held: list[Any] = []
    start = 0
    for event in events:
        t = _time_of(event)
        if held and t - start >= flush_ms:
            yield Chunk(start + flush_ms, window, json.dumps(held).encode())
            held = []
        start = start if held else t
        held.append(event)
    yield Chunk(start + min(flush_ms, AFTERWARDS_MS), window, json.dumps(held).encode())


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


def _tick_until(records: list[LogRecord], now: int, end: int) -> int:
    while now + TICK_MS <= end:
        now += TICK_MS
        records.append(LogRecord(len(records), now, "tick", b"", b""))
    return max(now, end)
