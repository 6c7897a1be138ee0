"""A log for the tests of analyze: records as the gateway and the digest stage write them, and the fold over them."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import orjson

from schemas import signals
from schemas.ids import session_key
from schemas.reasons import Reason
from schemas.signals import Signal
from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.fold.logic import LogRecord, Output, Parked
from stream_processors.fold.partition import UNBOUNDED, PartitionFold

PROJECT = "0a51f6f7-2b0c-4d1e-a6a2-1f0f2ac0c0aa"
SESSION = "s-1"
KEY = session_key(PROJECT, SESSION)
T0 = 1_765_000_000_000
"""Event time at which the sessions of the tests begin."""

GAP_MS = 1_800_000
DAY_MS = 86_400_000
GRACE_MS = 10_000
SETTLE_MS = 5_000


class Log:
    """Builds one partition's log; offsets and the sources of digests count by themselves."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self._source = 0

    def add(self, kind: str, value: bytes, *, at: int, key: bytes = KEY) -> LogRecord:
        """Append a record of any kind, `at` ms after T0."""
        record = LogRecord(offset=len(self.records), timestamp=T0 + at, kind=kind, key=key, value=value)
        self.records.append(record)
        return record

    def events(self, *events: dict[str, Any], at: int, **batch: Any) -> LogRecord:
        """Append a batch of events; an event's `t` is ms after T0."""
        made = [
            {"id": f"event-{len(self.records)}-{n}", "timestamp": T0 + event.get("t", 0)}
            | {name: value for name, value in event.items() if name != "t"}
            for n, event in enumerate(events)
        ]
        value = {"received_at": T0 + at, "settings": {"version": 1}} | batch
        return self.add("events", _record(value | {"events": made}), at=at)

    def digest(self, *sent: Signal, at: int, chunk_at: int | None = None, **digest: Any) -> LogRecord:
        """Append a digest with these signals, of a chunk that came at `chunk_at`."""
        value = {
            "src": self._next_source(),
            "window_id": "w",
            "received_at": T0 + at,
            "settings": {"version": 1},
            "at": T0 + (at if chunk_at is None else chunk_at),
            "event_count": 10,
            "signals": [signals.encode(signal) for signal in sent],
        } | digest
        return self.add("digest", _record(value), at=at)

    def tick(self, at: int) -> LogRecord:
        """Append a tick that lets changed sessions be reported."""
        return self.add("tick", b"", at=at, key=b"")

    def digest_tick(self, at: int) -> LogRecord:
        """Append a tick that moves the clock."""
        value = {"v": 1, "src": self._next_source(), "at": T0 + at}
        return self.add("digest_tick", orjson.dumps(value), at=at, key=b"")

    def _next_source(self) -> int:
        self._source += 1
        return self._source


def _record(value: dict[str, Any]) -> bytes:
    return orjson.dumps({"v": 1, "project_id": PROJECT, "session_id": SESSION} | value)


class Told:
    """What a fold said and knows at its end. Nothing may be parked as an error of ours."""

    def __init__(self, outputs: Sequence[Output], parked: Sequence[Parked], facts: dict[bytes, bytes]) -> None:
        assert [p.detail for p in parked if p.reason is Reason.ENGINE_ERROR] == []
        self.topics: dict[str, list[dict[str, Any]]] = {"signals": [], "sessions": [], "ai_jobs": []}
        for output in outputs:
            self.topics[output.topic].append(orjson.loads(output.value))
        self.outputs = outputs
        self.parked = parked
        self.facts = facts

    @property
    def findings(self) -> list[dict[str, Any]]:
        return self.topics["signals"]

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        return self.topics["sessions"]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return self.topics["ai_jobs"]


def fold(
    records: Sequence[LogRecord],
    logic: AnalyzeLogic | None = None,
    *,
    cuts: Iterable[int] = (),
    cache_weight: int = UNBOUNDED,
) -> Told:
    """Fold the records, cut into batches before each of the offsets."""
    engine = PartitionFold(logic or AnalyzeLogic(), cache_weight=cache_weight)
    outputs: list[Output] = []
    parked: list[Parked] = []
    for start, end in pairwise(sorted({0, len(records), *cuts})):
        batch = engine.apply(records[start:end])
        outputs += batch.outputs
        parked += batch.parked
    return Told(outputs, parked, dict(engine.facts))
