"""Opening a recording chunk: from the bytes as the SDK sent them to JSON, with every growth bounded.

A chunk is at most `MAX_CHUNK_INFLATED_BYTES` once inflated, and that budget holds for everything inside it too: events
packed by rrweb's packFn and fields that posthog-js compresses are paid from the same purse. Size alone does not bound
memory (an empty list costs two bytes of JSON and 64 of memory), so the number of JSON values is bounded as well.

The declared encoding is a hint. posthog-js sends gzip without saying so, and proxies inflate bodies but leave the
header: the first bytes decide, and the header only where they cannot (raw deflate).
"""

import re
from typing import Any

import orjson
import zstandard
from isal import isal_zlib

from schemas.json_values import holds_more_values
from schemas.reasons import Reason
from schemas.topics import MAX_CHUNK_INFLATED_BYTES
from stream_processors.logic import RecordRefused

MAX_VALUES = 4_000_000
"""JSON values in a chunk: about 400 MB of memory at worst. A dense real recording has one value per 12 to 20 bytes."""

_CHECKED_FROM_BYTES = 4_000_000
"""Smaller JSON cannot hold so many values that it matters; counting costs 0.3 ms per MB."""

# the stub declares an instance where the module has a class
_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment]
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15
_MAX_ZSTD_WINDOW = 1 << 26
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""A pair of surrogates, a lone one (group 1), any other escape: read in turn, so that no backslash is misread."""


class Inflater:
    """Inflates within one budget of bytes for a chunk and everything packed inside it."""

    def __init__(self, budget: int = MAX_CHUNK_INFLATED_BYTES) -> None:
        self._left = budget

    def inflate(self, data: bytes, *, encoding: str = "") -> bytes:
        """Return the plain bytes of `data`, whatever it is compressed with.

        Raises:
            RecordRefused: `chunk_too_large` beyond the budget, `chunk_malformed` if it is damaged.
        """
        try:
            plain = self._by_magic(data, encoding)
        except (_IsalError, zstandard.ZstdError, EOFError) as error:
            raise RecordRefused(Reason.CHUNK_MALFORMED, f"cannot be inflated: {error}") from error
        self._left -= len(plain)
        if self._left < 0:
            raise RecordRefused(Reason.CHUNK_TOO_LARGE, "inflated beyond the limit")
        return plain

    def _by_magic(self, data: bytes, encoding: str) -> bytes:
        if data[:2] == b"\x1f\x8b":
            return self._zlib(data, _GZIP)
        if data[:4] == b"\x28\xb5\x2f\xfd":
            with zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW).stream_reader(
                data, read_across_frames=True
            ) as reader:
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
            if data[:2] != b"\x1f\x8b":  # padding after the last member
                break
        return b"".join(parts)


def parse_json(raw: bytes) -> Any:
    """Parse JSON strictly, but mend lone surrogates, which browsers do send, to U+FFFD.

    Raises:
        RecordRefused: `chunk_malformed` if it is no JSON or nested beyond 1,024, `chunk_too_large` if it holds too
            many values.
    """
    if holds_more_values(raw, MAX_VALUES, counted_from=_CHECKED_FROM_BYTES):
        raise RecordRefused(Reason.CHUNK_TOO_LARGE, f"more than {MAX_VALUES} JSON values")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    text = raw.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        return orjson.loads(_ESCAPE.sub(_mend_escape, text))
    except orjson.JSONDecodeError as error:
        raise RecordRefused(Reason.CHUNK_MALFORMED, f"not JSON: {error}") from error


def _mend_escape(match: re.Match[str]) -> str:
    return "\\ufffd" if match.group(1) else match.group()
