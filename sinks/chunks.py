r"""What a recording chunk becomes: JSON that SQL can read, or bytes as the SDK sent them.

Stored as JSON text, a chunk has to be one that every JSON function of Postgres takes: one NUL (`\u0000`) or lone
surrogate makes each query over it fail, so both become U+FFFD. There is one exception. What rrweb's packFn and
posthog-js pack are compressed bytes in a string, full of NULs, and replacing one would destroy them; such a chunk is
stored as bytes, whole, whatever the project's codec, and `traceflow recordings export` gives it back as it was.
"""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.json_values import holds_more_values
from schemas.reasons import Reason
from schemas.topics import MAX_CHUNK_INFLATED_BYTES
from sinks.inflation import Damaged, TooLarge, gzipped, inflate, zstandardised
from sinks.verdicts import RecordRefused

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999."""

MAX_VALUES = 6_000_000
"""JSON values in a chunk, about 600 MB of memory at worst; a real recording has one in 12 to 20 bytes."""

_CHECKED_FROM_BYTES = 4_000_000
"""Smaller JSON cannot hold so many values that it matters."""

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)|.)", re.DOTALL
)
"""A pair of surrogates, one that is alone or a NUL (group 1), any other escape: read in turn, no backslash misread."""

_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


@dataclass(frozen=True, slots=True)
class ChunkBody:
    """A chunk as it is stored: `events` for codec json, `payload` for the others."""

    codec: str
    """json | gzip | zstd"""
    events: str | None
    payload: bytes | None
    event_count: int
    first_event_at: int | None
    """Event time, epoch ms; None if no event tells one."""
    last_event_at: int | None
    plain_bytes: int
    """Size of the JSON."""

    @property
    def stored_bytes(self) -> int:
        """Return the size of what is handed to Postgres."""
        return self.plain_bytes if self.payload is None else len(self.payload)


def chunk_body(data: bytes, *, encoding: str, codec: str) -> ChunkBody:
    """Open a chunk, check that it is an array of rrweb events, and lay it out for its codec.

    Raises:
        RecordRefused: `chunk_malformed`, `chunk_too_large` or `chunk_not_rrweb`.
    """
    try:
        plain = inflate(data, encoding=encoding, limit=MAX_CHUNK_INFLATED_BYTES)
    except Damaged as error:
        raise RecordRefused(Reason.CHUNK_MALFORMED, f"cannot be inflated: {error}") from error
    except TooLarge as error:
        raise RecordRefused(Reason.CHUNK_TOO_LARGE, str(error)) from error
    mended, events = _parsed(plain)
    times = _event_times(events)
    payload = None
    if codec == "gzip" or (codec == "json" and _holds_packed(events, plain)):
        codec, payload = "gzip", gzipped(data, plain)
    elif codec == "zstd":
        payload = zstandardised(data, plain)
    return ChunkBody(
        codec=codec,
        events=mended if payload is None else None,
        payload=payload,
        event_count=len(times),
        first_event_at=min((t for t in times if t), default=None),
        last_event_at=max((t for t in times if t), default=None),
        plain_bytes=len(plain),
    )


def _parsed(plain: bytes) -> tuple[str, Any]:
    """Return the JSON as text that Postgres takes, and decoded."""
    if holds_more_values(plain, MAX_VALUES, counted_from=_CHECKED_FROM_BYTES):
        raise RecordRefused(Reason.CHUNK_TOO_LARGE, f"more than {MAX_VALUES} JSON values")
    if not _SUSPECT.search(plain):
        try:
            return plain.decode(), orjson.loads(plain)
        except (UnicodeDecodeError, orjson.JSONDecodeError):
            pass
    text = _ESCAPE.sub(_mended_escape, plain.decode("utf-8", "replace").removeprefix("\ufeff"))
    try:
        return text, orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RecordRefused(Reason.CHUNK_MALFORMED, f"not JSON: {error}") from error


def _mended_escape(match: re.Match[str]) -> str:
    return "\\ufffd" if match.group(1) else match.group()


def _event_times(events: Any) -> list[int]:
    """Return the time of each item that is an rrweb event, 0 for a packed one."""
    if not isinstance(events, list):
        raise RecordRefused(Reason.CHUNK_NOT_RRWEB, "not an array")
    times: list[int] = []
    for event in events:
        if isinstance(event, str):
            times.append(0)
        elif isinstance(event, dict) and isinstance(event.get("type"), int):
            time = event.get("timestamp")
            if isinstance(time, int | float) and 0 < time <= LATEST_MS:
                times.append(int(time))
    if events and not times:
        raise RecordRefused(Reason.CHUNK_NOT_RRWEB, "no item is an rrweb event")
    return times


def _holds_packed(events: list[Any], plain: bytes) -> bool:
    """Tell whether mending the text would destroy what an event holds packed."""
    if b"\\u0000" not in plain:
        return False
    return any(isinstance(event, str) or (isinstance(event, dict) and "cv" in event) for event in events)
