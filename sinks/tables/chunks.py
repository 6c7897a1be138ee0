r"""What a recording chunk becomes: JSON that SQL can read, or bytes as the SDK sent them.

Stored as JSON text, a chunk has to be one that every JSON function of Postgres takes: one NUL (`\u0000`) or lone
surrogate makes each query over it fail, so both become U+FFFD. There is one exception. What rrweb's packFn and
posthog-js pack are compressed bytes in a string, full of NULs, and replacing one would destroy them; such a chunk is
stored as bytes, whole, whatever the project's codec, and `traceflow recordings export` gives it back as it was.
"""

import re
import zlib
from dataclasses import dataclass

import zstandard

from schemas.chunks import GZIP_MAGIC, ZSTD_MAGIC, ChunkRefused, open_chunk
from sinks.contract.verdicts import RecordRefused

_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
"""242 MB/s at a ratio of 4.9; level 9 gives 5.7 at 47 MB/s (measured on rrweb)."""

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
    """Open a chunk and lay it out for its codec.

    Raises:
        RecordRefused: as `schemas.chunks.open_chunk` refuses it.
    """
    try:
        chunk = open_chunk(data, encoding=encoding, fields=False)
    except ChunkRefused as refused:
        raise RecordRefused(refused.reason, refused.detail) from refused
    times = [event.t for event in chunk.events]
    payload = None
    if codec == "gzip" or (codec == "json" and chunk.is_packed and b"\\u0000" in chunk.plain):
        codec, payload = "gzip", _gzipped(data, chunk.plain)
    elif codec == "zstd":
        payload = _zstandardised(data, chunk.plain)
    return ChunkBody(
        codec=codec,
        events=_mended(chunk.plain) if payload is None else None,
        payload=payload,
        event_count=len(times),
        first_event_at=min(times, default=None),
        last_event_at=max(times, default=None),
        plain_bytes=len(chunk.plain),
    )


def _mended(plain: bytes) -> str:
    """Return JSON as text that Postgres takes."""
    text = plain.decode("utf-8", "replace").removeprefix("\ufeff")
    return _ESCAPE.sub(_mended_escape, text) if _SUSPECT.search(plain) else text


def _mended_escape(match: re.Match[str]) -> str:
    return "\\ufffd" if match.group(1) else match.group()


def _gzipped(data: bytes, plain: bytes) -> bytes:
    """Return the chunk as gzip: as it came if it is gzip, else its plain bytes compressed."""
    return data if data.startswith(GZIP_MAGIC) else zlib.compress(plain, _GZIP_LEVEL, wbits=31)


def _zstandardised(data: bytes, plain: bytes) -> bytes:
    """Return the chunk as zstd: as it came if it is zstd, else its plain bytes compressed."""
    return data if data.startswith(ZSTD_MAGIC) else zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(plain)
