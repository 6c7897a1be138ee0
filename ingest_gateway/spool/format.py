"""The spool on disk as bytes: frames in segments, written and read back whatever has become of the file.

Theory. A segment is a file that only grows, frame after frame, one frame a request:

    marker    8 bytes, random, the same in the whole segment and part of its file's name
    number    uint64: the spool's requests are counted without a gap
    at        uint64, epoch milliseconds: when it was written
    length    uint32 of the payload
    crc       uint32, CRC-32 of the three numbers before it and the payload
    payload   the request's records, as a MessagePack array of [topic, key, value, headers]

A crash leaves a frame cut anywhere, a bad disk changes or loses bytes anywhere. Neither may cost more than the frames
that it touched: after a frame that is not whole, reading goes on at the next marker that begins one. Markers are random
because the payload is what clients sent: whoever knew the marker could put a frame of his own into a recording, and
have it read as another project's once the frame around it is damaged.

Numbers tell how many requests a damage has cost, and a segment's name carries the number of its first one, so that the
waiting ones can be counted without reading.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from ingest_gateway.admission.records import Outgoing

MARKER_BYTES = 8

_HEAD = Struct(">8sQQII")
HEAD_BYTES = _HEAD.size
_CHECKED_FROM, _CHECKED_TO = MARKER_BYTES, HEAD_BYTES - 4
_NAME = re.compile(r"(\d{20})-([0-9a-f]{16})\.spool")

_Row = tuple[str, bytes, bytes, list[tuple[str, Any]]]
# a header's value is text or bytes, which the encoding tells apart and a typed decoder cannot be told
_decoder = msgspec.msgpack.Decoder(list[_Row])
_encoder = msgspec.msgpack.Encoder()


class Frame(NamedTuple):
    """A request as a segment has it."""

    number: int
    at_ms: int
    start: int
    """Its first byte in the segment."""
    end: int
    payload: bytes


class Damage(NamedTuple):
    """Bytes of a segment that are no frame; at its very end they may be one whose writing never ended."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds."""

    frames: Sequence[Frame]
    damages: Sequence[Damage]


def segment_name(first: int, marker: bytes) -> str:
    """Return the file name of a segment; names sort as their first requests do."""
    return f"{first:020d}-{marker.hex()}.spool"


def parse_name(name: str) -> tuple[int, bytes] | None:
    """Return the number of a segment's first request and its marker; None if no segment is named so."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), bytes.fromhex(match[2])) if match else None


def encode_request(records: Sequence[Outgoing]) -> bytes:
    """Return a request's payload."""
    return _encoder.encode(records)


def decode_request(payload: bytes) -> list[Outgoing]:
    """Return the records of a payload, equal to those that were encoded.

    Raises:
        msgspec.MsgspecError: it was written by another version.
    """
    return [Outgoing(*row) for row in _decoder.decode(payload)]


def encode_frame(marker: bytes, number: int, at_ms: int, payload: bytes) -> bytes:
    """Return a frame."""
    head = _HEAD.pack(marker, number, at_ms, len(payload), 0)
    return head[:_CHECKED_TO] + _crc(head, payload).to_bytes(4, "big") + payload


def scan(data: bytes, marker: bytes, *, offset: int = 0) -> Scan:
    """Return the whole frames of a segment's bytes, and what lies between them; `offset` is where the bytes begin."""
    frames: list[Frame] = []
    damages: list[Damage] = []
    at, good_until, end = 0, 0, len(data)
    while at < end:
        frame = _frame_at(data, marker, at, offset)
        if frame is None:
            found = data.find(marker, at + 1)
            at = end if found < 0 else found
            continue
        if at > good_until:
            damages.append(Damage(offset + good_until, offset + at))
        frames.append(frame)
        at = good_until = frame.end - offset
    if good_until < end:
        damages.append(Damage(offset + good_until, offset + end))
    return Scan(frames, damages)


def _frame_at(data: bytes, marker: bytes, at: int, offset: int) -> Frame | None:
    if len(data) - at < HEAD_BYTES:
        return None
    found, number, at_ms, length, crc = _HEAD.unpack_from(data, at)
    start, end = at + HEAD_BYTES, at + HEAD_BYTES + length
    if found != marker or end > len(data):
        return None
    payload = data[start:end]
    if _crc(data[at:start], payload) != crc:
        return None
    return Frame(number, at_ms, offset + at, offset + end, payload)


def _crc(head: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(head[_CHECKED_FROM:_CHECKED_TO]))
