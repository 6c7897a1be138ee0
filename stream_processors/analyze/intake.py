"""From a record to what it tells: all that can be refused is refused here, before a state is touched."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas import messages
from schemas.messages import Event
from schemas.reasons import Reason
from schemas.signals import Click, PageView, ScriptError, Signal
from schemas.signals import decode as decode_signal
from stream_processors.analyze.normalise import place_of, signals_of
from stream_processors.logic import LogRecord, RecordRefused

PAST_MS = 7 * 86_400_000
FUTURE_MS = 600_000
"""How far a recorded time may lie from its chunk's arrival, as for structured events: beyond, the clock is wrong."""

_COUNTED = frozenset(("click", "pageview", "error", "web_vital", "form_submit"))
"""Event types whose repetition would matter; the signals of others are sets already."""

_NO_WINDOW = "-"
"""Stands for a recorder's window without a name: an empty name means a structured event."""

_MISSHAPEN = (KeyError, TypeError, AttributeError, ValueError)


class Observation(NamedTuple):
    """One thing that happened, as one source tells it."""

    t: int
    signals: Sequence[Signal]
    names: tuple[str, ...]
    """By any of these it is known again; none if a repetition does not matter."""
    timed: bool
    """False for an event that was restamped: `t` is its arrival, so only what needs no time can be judged."""


def read_object(record: LogRecord) -> dict[str, Any]:
    """Decode a record's JSON.

    Raises:
        RecordRefused: it is malformed, or written by a newer version.
    """
    try:
        return messages.decode_object(record.value)
    except messages.MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    except messages.NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, str(error)) from error


def read_integer(record: LogRecord, name: str) -> int:
    """Decode one integer of a record.

    Raises:
        RecordRefused: the record or the field is malformed.
    """
    value = read_object(record).get(name)
    if not isinstance(value, int):
        raise RecordRefused(Reason.RECORD_MALFORMED, f"{name} is no integer")
    return value


def observe_events(batch: dict[str, Any]) -> list[Observation]:
    """Return what the events of a batch tell, in the client's order.

    Raises:
        RecordRefused: a field is missing or of the wrong shape.
    """
    try:
        _require(batch)
        return [seen for event in batch["events"] if (seen := _observe(event)) is not None]
    except _MISSHAPEN as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"events: {error!r}") from error


def _observe(event: Event) -> Observation | None:
    kind, t, signals = event["event_type"], event["timestamp"], signals_of(event)
    if not signals:
        _ = t + 0
        return None
    timed = "restamped" not in event
    if kind not in _COUNTED:
        return Observation(t, signals, (), timed)
    if not timed:
        return Observation(t, signals, (event["id"],), timed)
    place = f"{kind}|{t}|{place_of(event)}"
    return Observation(t, signals, (place,) if _is_derived(event["id"]) else (event["id"], place), timed)


def _is_derived(event_id: str) -> bool:
    """Return whether the gateway made the id from the event (UUIDv8): then it says no more than time and place do."""
    return event_id[14:15] == "8"


def observe_digest(digest: dict[str, Any]) -> list[Observation]:
    """Return what the signals of a digest tell; those whose time is implausible are left out.

    The recorded span is brought into the plausible time too.

    Raises:
        RecordRefused: a field is missing or of the wrong shape.
    """
    try:
        _require(digest)
        _ = digest["at"] + digest["event_count"]
        received_at, window = digest["received_at"], digest["window_id"] or _NO_WINDOW
        earliest, latest = received_at - PAST_MS, received_at + FUTURE_MS
        for name in ("first", "last"):
            if name in digest and not earliest <= digest[name] <= latest:
                digest[name] = received_at
        signals = [_recorded(plain, window) for plain in digest["signals"]]
        return [
            Observation(signal.t, (signal,), _names(signal), timed=True)
            for signal in signals
            if signal is not None and earliest <= signal.t <= latest
        ]
    except _MISSHAPEN as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"digest: {error!r}") from error


def _require(data: dict[str, Any]) -> None:
    """Look at what every record carries."""
    _ = data["settings"].get("version"), data["received_at"] + 0


def _recorded(plain: dict[str, Any], window: str) -> Signal | None:
    if not plain.get("window"):
        plain["window"] = window
    return decode_signal(plain)


def _names(signal: Signal) -> tuple[str, ...]:
    match signal:
        case Click():
            return (f"c|{signal.t}|{signal.window}|{signal.node}|{signal.x}|{signal.y}",)
        case ScriptError():
            return (f"e|{signal.t}|{signal.message}",)
        case PageView():
            return (f"p|{signal.t}|{signal.window}|{signal.url}",)
        case _:
            return ()
