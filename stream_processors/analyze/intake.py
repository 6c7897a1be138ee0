"""From a record to what it tells: what can be refused is refused before a state is touched."""

from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.reasons import Reason
from schemas.signals import Click, PageView, ScriptError, Signal
from schemas.signals import decode as decode_signal
from stream_processors.analyze.normalise import place_of, signals_of
from stream_processors.analyze.records import Digest, Event, EventBatch
from stream_processors.fold.logic import RecordRefused

PAST_MS = 7 * 86_400_000
FUTURE_MS = 600_000
"""How far a recorded time may lie from its chunk's arrival, as for structured events: beyond, the clock is wrong."""

REPEATED_MS = 15 * 86_400_000
"""How far the time that a client sent may lie from a restamped event's arrival for a try of it to be believed."""

_COUNTED = frozenset(("click", "pageview", "error", "web_vital", "form_submit"))
"""Event types whose repetition would matter; the signals of others are sets already."""

_NO_WINDOW = "-"
"""Stands for a recorder's window without a name: an empty name means a structured event."""

_MISSHAPEN = (KeyError, TypeError, AttributeError, ValueError)


class Observation(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened, as one source tells it."""

    t: int
    signals: Sequence[Signal]
    names: tuple[str, ...]
    """By any of these it is known again; none if a repetition does not matter."""
    timed: bool
    """False for an event that was restamped: `t` is its arrival, so only what needs no time can be judged."""


def observe(told: EventBatch | Digest) -> list[Observation]:
    """Return what a record tells, in the order in which it tells it.

    Raises:
        RecordRefused: it is misshapen.
    """
    if isinstance(told, Digest):
        return _observe_digest(told)
    return [seen for event in told.events if (seen := _observe_event(event)) is not None]


def _observe_event(event: Event) -> Observation | None:
    kind, t, signals = event.event_type, event.timestamp, signals_of(event)
    if not signals:
        return None
    timed = not event.restamped
    if kind not in _COUNTED:
        return Observation(t, signals, (), timed)
    sent_ms = t if timed else _time_of(event.id)
    if not timed and not t - REPEATED_MS <= sent_ms <= t + REPEATED_MS:
        # no try of it will ever be believed, and a clock that stands says nothing about what is the same
        return Observation(t, signals, (event.id,), timed)
    place = f"{kind}|{sent_ms}|{place_of(event)}"
    return Observation(t, signals, (place,) if _is_derived(event.id) else (event.id, place), timed)


def _is_derived(event_id: str) -> bool:
    """Return whether the gateway made the id from the event (UUIDv8): then it says no more than time and place do."""
    return event_id[14:15] == "8"


def _time_of(event_id: str) -> int:
    """Return the time that the client sent, as the id that the gateway made holds it; 0 for any other id."""
    try:
        return int(event_id[:8] + event_id[9:13], 16) if _is_derived(event_id) else 0
    except ValueError:
        return 0


def _observe_digest(digest: Digest) -> list[Observation]:
    """Return what the signals of a digest tell; those whose time is implausible are left out.

    The recorded span is brought into the plausible time too.
    """
    earliest, latest = digest.received_at - PAST_MS, digest.received_at + FUTURE_MS
    if digest.first is not None and not earliest <= digest.first <= latest:
        digest.first = digest.received_at
    if digest.last is not None and not earliest <= digest.last <= latest:
        digest.last = digest.received_at
    window = digest.window_id or _NO_WINDOW
    try:
        signals = [_recorded(plain, window) for plain in digest.signals]
        return [
            Observation(signal.t, (signal,), _names(signal), timed=True)
            for signal in signals
            if signal is not None and earliest <= signal.t <= latest
        ]
    except _MISSHAPEN as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"digest: {error!r}") from error


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
