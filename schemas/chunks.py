"""Opening a recording chunk: from the bytes as the SDK sent them to its rrweb events, with every growth bounded.

Theory. Two services open chunks, one to interpret them and one to store them. What one takes and the other refuses is a
recording without findings, or findings without a recording; so what opens is decided here, once, by one set of limits.

A chunk is at most `MAX_CHUNK_INFLATED_BYTES` once inflated, and that budget holds for everything inside it too: events
and fields that are packed are paid from the same purse. Size alone does not bound memory (an empty list costs two bytes
of JSON and 64 of memory), so the number of JSON values is bounded as well, and that of events.

The declared encoding is a hint. posthog-js sends gzip without saying so, and proxies inflate bodies but leave the
header: the first bytes decide, and the header only where they cannot (raw deflate).

An event is `{"type", "data", "timestamp"}`. Two packings are known:
- packFn of rrweb: the event is a string, its characters the bytes of a zlib stream of the event's JSON;
- posthog-js, `cv: "2024-10"`: the data of a full snapshot, or the lists of a mutation, are strings whose characters are
  the bytes of a gzip stream of their JSON.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import zstandard
from isal import isal_zlib

from schemas.json_values import holds_more_values
from schemas.reasons import Reason
from schemas.topics import MAX_CHUNK_INFLATED_BYTES

MAX_VALUES = 4_000_000
"""JSON values in a chunk: about 400 MB of memory at worst. A dense real recording has one value per 12 to 20 bytes."""

CHECKED_FROM_BYTES = 4_000_000
"""Smaller JSON cannot hold so many values that it matters; counting costs 0.3 ms per MB."""

MAX_EVENTS = 200_000
"""A chunk that takes 3 s to read at worst; a busy page makes some hundred events a second."""

LATEST_MS = 253_402_300_799_999
"""The end of year 9999: what Postgres and every client can still say."""

MAX_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
"""What RFC 8878 asks every decoder to support; a frame may ask for gigabytes."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

# the stub declares an instance where the module has a class
_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment]
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15
_POSTHOG_FIELDS = ("texts", "attributes", "removes", "adds")
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""A pair of surrogates, a lone one (group 1), any other escape: read in turn, so that no backslash is misread."""


class ChunkRefused(ValueError):
    """The chunk cannot be used: `chunk_malformed`, `chunk_too_large` or `chunk_not_rrweb`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Event(NamedTuple):
    """One rrweb event: its time in epoch ms, its type, its data."""

    t: int
    type: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """A chunk that can be used."""

    plain: bytes
    """Its JSON, as it was before it was compressed."""
    events: list[Event]
    """In the order in which they were written."""
    is_packed: bool
    """An event, or a field of one, is compressed bytes in a string."""


def open_chunk(data: bytes, *, encoding: str, fields: bool = True) -> Opened:
    """Open a chunk.

    Without `fields` what is packed within an event is measured and left out of its data: for who wants only to know
    which events there are. The verdict is the same.

    Raises:
        ChunkRefused: as it says.
    """
    inflater = Inflater(MAX_CHUNK_INFLATED_BYTES)
    plain = inflater.inflate(data, encoding=encoding)
    items = parse_json(plain)
    events = read_events(items, inflater, fields=fields)
    is_packed = any(isinstance(item, str) or (isinstance(item, dict) and "cv" in item) for item in items)
    return Opened(plain, events, is_packed)


class Inflater:
    """Inflates within one budget of bytes for a chunk and everything packed inside it."""

    def __init__(self, budget: int = MAX_CHUNK_INFLATED_BYTES) -> None:
        self._left = budget

    def inflate(self, data: bytes, *, encoding: str = "") -> bytes:
        """Return the plain bytes of `data`, whatever it is compressed with.

        Raises:
            ChunkRefused: `chunk_too_large` beyond the budget, `chunk_malformed` if it is damaged.
        """
        try:
            plain = self._by_magic(data, encoding)
        except (_IsalError, zstandard.ZstdError, EOFError) as error:
            raise ChunkRefused(Reason.CHUNK_MALFORMED, f"cannot be inflated: {error}") from error
        self._left -= len(plain)
        if self._left < 0:
            raise ChunkRefused(Reason.CHUNK_TOO_LARGE, "inflated beyond the limit")
        return plain

    def _by_magic(self, data: bytes, encoding: str) -> bytes:
        if data.startswith(GZIP_MAGIC):
            return self._zlib(data, _GZIP)
        if data.startswith(ZSTD_MAGIC):
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
            with decompressor.stream_reader(data, read_across_frames=True) as reader:
                return reader.read(self._left + 1)
        if len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0:
            return self._zlib(data, _ZLIB)
        if encoding == "deflate":
            try:
                return self._zlib(data, _RAW_DEFLATE)
            except (_IsalError, EOFError):
                if data[:1] not in b"[{":
                    raise
        return data

    def _zlib(self, data: bytes, window_bits: int) -> bytes:
        parts: list[bytes] = []
        room = self._left + 1
        while data and room > 0:
            member = isal_zlib.decompressobj(window_bits)
            part = member.decompress(data, room)
            room -= len(part)
            parts.append(part)
            if not member.eof and room > 0:
                raise EOFError("the compressed data ends early")
            data = member.unused_data if window_bits == _GZIP else b""
            if not data.startswith(GZIP_MAGIC):  # padding after the last member
                break
        return b"".join(parts)


def parse_json(raw: bytes) -> Any:
    """Parse JSON strictly, but mend lone surrogates, which browsers do send, to U+FFFD.

    Raises:
        ChunkRefused: `chunk_malformed` if it is no JSON or nested beyond 1,024, `chunk_too_large` if it holds too
            many values.
    """
    _bound_values(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    text = raw.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        return orjson.loads(_ESCAPE.sub(_mend_escape, text))
    except orjson.JSONDecodeError as error:
        raise ChunkRefused(Reason.CHUNK_MALFORMED, f"not JSON: {error}") from error


def read_events(chunk: Any, inflater: Inflater, *, fields: bool = True) -> list[Event]:
    """Return the chunk's events in the order in which they were written; `fields` as for `open_chunk`.

    What is no event, or has a time outside 1970 to 9999, is passed over: one bad event costs no good one.

    Raises:
        ChunkRefused: `chunk_not_rrweb` if it is no array, or none of its items is an event; `chunk_too_large` with
            too many events.
    """
    if not isinstance(chunk, list):
        raise ChunkRefused(Reason.CHUNK_NOT_RRWEB, "not an array")
    if len(chunk) > MAX_EVENTS:
        raise ChunkRefused(Reason.CHUNK_TOO_LARGE, f"more than {MAX_EVENTS} events")
    events: list[Event] = []
    for item in chunk:
        event = _unpacked(item, inflater) if isinstance(item, str) else item
        if not isinstance(event, dict):
            continue
        kind, t, data = event.get("type"), event.get("timestamp"), event.get("data")
        if not isinstance(kind, int) or not isinstance(t, int | float) or not 0 < t <= LATEST_MS:
            continue
        if "cv" in event:
            data = _unpacked_fields(data, inflater, parsed=fields)
        events.append(Event(int(t), kind, data if isinstance(data, dict) else {}))
    if chunk and not events:
        raise ChunkRefused(Reason.CHUNK_NOT_RRWEB, "no item is an rrweb event")
    return events


def _bound_values(raw: bytes) -> None:
    if holds_more_values(raw, MAX_VALUES, counted_from=CHECKED_FROM_BYTES):
        raise ChunkRefused(Reason.CHUNK_TOO_LARGE, f"more than {MAX_VALUES} JSON values")


def _unpacked_fields(data: Any, inflater: Inflater, *, parsed: bool) -> Any:
    if isinstance(data, str):
        return _unpacked(data, inflater, parsed=parsed)
    if isinstance(data, dict):
        for name in _POSTHOG_FIELDS:
            if isinstance(data.get(name), str):
                data[name] = _unpacked(data[name], inflater, parsed=parsed)
    return data


def _unpacked(text: str, inflater: Inflater, *, parsed: bool = True) -> Any:
    """Return what is packed in a string; None if it is damaged, or need not be parsed."""
    try:
        plain = inflater.inflate(text.encode("latin-1"))
        if parsed:
            return parse_json(plain)
        _bound_values(plain)
    except UnicodeEncodeError:
        pass
    except ChunkRefused as refused:
        if refused.reason is Reason.CHUNK_TOO_LARGE:
            raise
    return None


def _mend_escape(match: re.Match[str]) -> str:
    return "\\ufffd" if match.group(1) else match.group()
