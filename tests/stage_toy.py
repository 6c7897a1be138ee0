"""A small logic that uses every part of the contract, for the tests of the fold and of the stage.

A record's value is a JSON object: `x` is folded into a hash, so that whatever is lost, doubled or out of order shows;
`wake` asks to be woken so many ms after the record; `refuse` refuses it, after changing the state; `bad` names a method
that raises from then on (`apply`: on this record alone), after changing the state; `src` and `at` as in digests.
"""

import zlib
from typing import Any

import orjson

from schemas.reasons import Reason
from stream_processors.fold.logic import Emitted, Lifetime, LogRecord, Output, Parked, RecordRefused

GAP_MS = 1_000
RESIDUE_MS = 2_000

State = dict[str, Any]


class ToyLogic:
    """The second stage: events and digests belong to sessions; digest ticks move the clock, plain ticks do not."""

    session_kinds = frozenset({"events", "digest"})
    tick_kinds = frozenset({"tick", "digest_tick"})

    def __init__(self, *, gap_ms: int = GAP_MS, residue_ms: int = RESIDUE_MS) -> None:
        self.gap_ms = gap_ms
        self.residue_ms = residue_ms

    def clock(self, record: LogRecord) -> int:
        if record.kind != "digest_tick":
            return 0
        moment: int = _read(record)["at"]
        return moment

    def source(self, record: LogRecord) -> int | None:
        return _read(record).get("src") if record.kind in ("digest", "digest_tick") else None

    def open(self, key: bytes, record: LogRecord) -> State:  # noqa: ARG002 (the contract's)
        return {"life": record.offset, "n": 0, "h": 0, "wakes": [], "closes": 0, "bad": ""}

    def apply(self, state: State, key: bytes, record: LogRecord, out: Emitted) -> None:
        data = _read(record)
        state["n"] += 1
        state["h"] = zlib.crc32(b"%d" % data["x"], state["h"])
        if "wake" in data:
            state["wakes"] = sorted([*state["wakes"], record.timestamp + data["wake"]])
        state["bad"] = data.get("bad", state["bad"])
        out.outputs.append(_output("signals", key, {"id": record.offset, "h": state["h"]}))
        if data["x"] % 5 == 0:
            out.parked.append(Parked(record, Reason.EVENT_FIELD_INVALID, "a multiple of 5", index=0))
        if data.get("refuse"):
            raise RecordRefused(Reason.CHUNK_MALFORMED, "as it says")
        if state["bad"] == "apply":
            raise ValueError("apply is bad")

    def reopen(self, state: State, key: bytes, record: LogRecord) -> None:  # noqa: ARG002 (the contract's)
        state["h"] += 1

    def wake_at(self, state: State) -> int:
        return state["wakes"][0] if state["wakes"] else 0

    def on_time(self, state: State, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:
        due = [at for at in state["wakes"] if at < moment]
        state["wakes"] = state["wakes"][len(due) :]
        state["h"] = zlib.crc32(b"woken %d" % len(due), state["h"])
        out.outputs.append(_output("signals", key, {"id": offset, "woken": due}))
        if state["bad"] == "on_time":
            raise ValueError("on_time is bad")

    def on_close(self, state: State, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:
        state["wakes"] = []
        state["closes"] += 1
        out.outputs.append(_output("ai_jobs", key, {"life": state["life"], "close": state["closes"], "at": moment}))
        out.outputs.append(_output("sessions", key, {"version": offset, "closed": True, **state}))
        if state["bad"] == "on_close":
            raise ValueError("on_close is bad")

    def on_report(self, state: State, key: bytes, *, offset: int, out: Emitted) -> None:
        out.outputs.append(_output("sessions", key, {"version": offset, **state}))
        if state["bad"] == "on_report":
            raise ValueError("on_report is bad")

    def on_tick(self, record: LogRecord, out: Emitted) -> None:
        data = _read(record) if record.value else {}
        out.outputs.append(_output("ai_jobs", b"", {"tick": record.offset}))
        if data.get("bad") == "on_tick":
            raise ValueError("on_tick is bad")

    def on_refused(self, key: bytes, record: LogRecord, out: Emitted) -> None:
        out.outputs.append(_output("signals", key, {"id": record.offset, "refused": True}))

    def lifetime(self, state: State) -> Lifetime:  # noqa: ARG002 (the contract's)
        return Lifetime(gap_ms=self.gap_ms, residue_ms=self.residue_ms)

    def weight(self, state: State) -> int:
        return 1 + len(state["wakes"])

    def encode(self, state: State) -> bytes:
        return orjson.dumps(state, option=orjson.OPT_SORT_KEYS)

    def decode(self, data: bytes) -> State:
        state: State = orjson.loads(data)
        return state


class ToyDigest(ToyLogic):
    """The first stage: each record of its log gives one record of the second stage's, in order, poison included."""

    session_kinds = frozenset({"chunk"})
    tick_kinds = frozenset({"tick"})

    def clock(self, record: LogRecord) -> int:
        return record.timestamp

    def source(self, record: LogRecord) -> int | None:  # noqa: ARG002 (the contract's)
        return None

    def apply(self, state: State, key: bytes, record: LogRecord, out: Emitted) -> None:
        data = _read(record)
        state["n"] += 1
        state["h"] = zlib.crc32(b"%d" % data["x"], state["h"])
        if data.get("bad"):
            raise ValueError("a bad chunk")
        digest = {"v": 1, "src": record.offset, "x": state["h"] * 5 + 1}
        out.outputs.append(_output("events", key, digest, kind=b"digest"))

    def on_close(self, state: State, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:
        """Keep quiet: the second stage closes for itself."""

    def on_report(self, state: State, key: bytes, *, offset: int, out: Emitted) -> None:
        """Keep quiet: nobody reads a digest's snapshots."""

    def on_tick(self, record: LogRecord, out: Emitted) -> None:
        tick = {"v": 1, "src": record.offset, "at": record.timestamp}
        out.outputs.append(_output("events", b"", tick, kind=b"digest_tick"))

    def on_refused(self, key: bytes, record: LogRecord, out: Emitted) -> None:
        out.outputs.append(_output("events", key, {"v": 1, "src": record.offset, "x": 1}, kind=b"digest"))


def _read(record: LogRecord) -> dict[str, Any]:
    try:
        data: dict[str, Any] = orjson.loads(record.value)
    except orjson.JSONDecodeError as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, "not JSON") from error
    return data


def _output(topic: str, key: bytes, value: dict[str, Any], *, kind: bytes = b"toy") -> Output:
    return Output(topic, key or None, orjson.dumps(value, option=orjson.OPT_SORT_KEYS), (("kind", kind),))
