"""Give a whole recording back as one JSON array of rrweb events, whatever its chunks are stored as.

Streamed chunk by chunk, so a recording of any length costs the memory of its largest chunk.
"""

from collections.abc import Iterator

from adapters.postgres import Connection, read_queries
from schemas.chunks import Inflater

_CHUNKS_AT_ONCE = 10
_SPACE = b" \t\r\n"


class NoRecording(LookupError):
    """There is no recording of this session."""


def recording_pieces(connection: Connection, session_id: str) -> Iterator[bytes]:
    """Yield the recording's JSON array in pieces: its chunks in order of window and sequence.

    Raises:
        NoRecording: before the first piece.
        ChunkRefused: a stored chunk is damaged.
    """
    queries = read_queries("sinks", "export.sql")
    inline = connection.execute(queries["inline"], {"session_id": session_id}).fetchone()
    if inline is None:
        raise NoRecording(f"session {session_id} has no recording")
    opening = b"["
    with connection.transaction(), connection.cursor("traceflow_export") as cursor:
        cursor.itersize = _CHUNKS_AT_ONCE
        cursor.execute(queries["chunks"], {"session_id": session_id})
        for text, payload in cursor:
            if members := _members(text.encode() if payload is None else _inflated(payload)):
                yield opening + members
                opening = b","
    if opening == b"[" and (members := _members(inline[0].encode())):
        yield opening + members
        opening = b","
    yield b"[]" if opening == b"[" else b"]"


def _members(array: bytes) -> bytes:
    """Return what is between the brackets."""
    return array.strip(_SPACE)[1:-1].strip(_SPACE)


def _inflated(payload: bytes) -> bytes:
    return Inflater().inflate(bytes(payload)).removeprefix(b"\xef\xbb\xbf")
