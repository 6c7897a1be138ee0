"""Arrivals and ticks as the two logs of one partition: the time of the log without a broker.

Theory. The stages settle by the time of the log: a click is judged when ticks have passed its deadline and the grace
for what is still under way, a session closes when they have passed its gap. The running system ticks once a second into
each partition. So do the ticks here: every `TICK_MS` from the first arrival on, and after each arrival as long as
anything may wait, `quiet_ms`. A longer silence has one more tick, at its end, before the next arrival: by then nothing
waits, so the ticks that are left out would have changed nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from schemas.messages import KIND_HEADER, Kind
from stream_processors.fold.logic import LogRecord, Output

TICK_MS = 1_000
"""As the stages' own: deadlines are settled to this precision."""


class Arrival(NamedTuple):
    """A record that the gateway would have written, and when the broker would have had it."""

    at: int
    """Epoch ms; the log never goes back, so an earlier one than its predecessor counts as arriving with it."""
    kind: str
    """`chunk` or `events`; a timetable holds `tick` too."""
    key: bytes = b""
    value: bytes = b""
    headers: Sequence[tuple[str, bytes]] = ()


def with_ticks(arrivals: Iterable[Arrival], *, quiet_ms: int) -> list[Arrival]:
    """Return the arrivals in order of time with the ticks between and after them."""
    timetable: list[Arrival] = []
    now = None
    for arrival in sorted(arrivals, key=lambda arrival: arrival.at):
        if now is not None:
            timetable += (Arrival(at, Kind.TICK.value) for at in _ticks(now, arrival.at, quiet_ms))
        now = arrival.at
        timetable.append(arrival)
    if now is not None:
        timetable += (Arrival(at, Kind.TICK.value) for at in _ticks(now, now + quiet_ms + TICK_MS, quiet_ms))
    return timetable


def _ticks(start: int, end: int, quiet_ms: int) -> Iterator[int]:
    """Yield the moments of the ticks after `start` and before `end`."""
    first = start - start % TICK_MS + TICK_MS
    last = end - 1 - (end - 1) % TICK_MS
    yield from range(first, min(last, start + quiet_ms) + 1, TICK_MS)
    if last > start + quiet_ms:
        yield last


def recordings_log(timetable: Iterable[Arrival]) -> list[LogRecord]:
    """Return the log that `digest` folds: chunks and ticks."""
    kinds = (Kind.CHUNK.value, Kind.TICK.value)
    records = (arrival for arrival in timetable if arrival.kind in kinds)
    return [LogRecord(offset, *arrival) for offset, arrival in enumerate(records)]


def events_log(timetable: Iterable[Arrival], digests: Iterable[Output]) -> list[LogRecord]:
    """Return the log that `analyze` folds: events, and in the place of each chunk and tick what `digest` made of it."""
    records: list[LogRecord] = []
    made = iter(digests)
    for arrival in timetable:
        if arrival.kind == Kind.EVENTS:
            kind, key, value, headers = arrival.kind, arrival.key, arrival.value, arrival.headers
        else:
            digest = next(made)
            kind, key = dict(digest.headers)[KIND_HEADER].decode(), digest.key or b""
            value, headers = digest.value, digest.headers
        records.append(LogRecord(len(records), arrival.at, kind, key, value, headers))
    return records
