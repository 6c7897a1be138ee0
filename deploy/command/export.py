"""`traceflow recordings export`: the rrweb events of a session as one JSON array, of any size and codec.

Chunks are arrays; their insides are written one after the other, so that a recording is never whole in memory.
"""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from adapters.postgres import connect, read_queries
from deploy.command.failure import CommandFailure
from schemas.connections import DatabaseSettings
from schemas.topics import MAX_CHUNK_INFLATED_BYTES

_FETCHED_CHUNKS = 16
"""At a time; a chunk can have 64 MB."""


def export_recording(database: DatabaseSettings, session_id: str, output: BinaryIO) -> int:
    """Write the events of a session's recording and return the number of its chunks.

    Raises:
        CommandFailure: there is no recording of that session, or a chunk of it is damaged.
    """
    queries = read_queries("deploy.command", "export.sql")
    with connect(database, application_name="traceflow export") as connection, connection.transaction():
        row = connection.execute(queries["materialised"], {"session_id": session_id}).fetchone()
        if row is None:
            raise CommandFailure(
                f"no recording of session {session_id}: `traceflow sql` on session_recordings lists them"
            )
        chunks = 0
        with connection.cursor(name="chunks") as cursor:
            cursor.itersize = _FETCHED_CHUNKS
            cursor.execute(queries["chunks"], {"session_id": session_id})
            output.write(b"[")
            for inside in joined(array_inside(decode(*chunk)) for chunk in cursor):
                chunks += 1
                output.write(inside)
        # retention keeps the short recordings' materialised events longer than their chunks
        output.write(array_inside(str(row[0]).encode()) if chunks == 0 else b"")
        output.write(b"]\n")
    return chunks


def decode(codec: str, events: str | None, payload: bytes | None) -> bytes:
    """Return a stored chunk as JSON.

    Raises:
        CommandFailure: it is damaged.
    """
    if codec == "json":
        return (events or "[]").encode()
    try:
        if codec == "gzip":
            return gzip.decompress(payload or b"")
        with zstandard.ZstdDecompressor().stream_reader(payload or b"", read_across_frames=True) as reader:
            return reader.read(MAX_CHUNK_INFLATED_BYTES + 1)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise CommandFailure(f"a chunk stored as {codec} cannot be inflated: {error}") from error


def array_inside(array: bytes) -> bytes:
    """Return what stands between the brackets of a JSON array.

    Raises:
        CommandFailure: it is none.
    """
    text = array.strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        raise CommandFailure("a stored chunk is not a JSON array")
    return text[1:-1].strip()


def joined(insides: Iterator[bytes]) -> Iterator[bytes]:
    """Put commas between those that hold something."""
    first = True
    for inside in insides:
        if not inside:
            yield b""
        else:
            yield inside if first else b"," + inside
            first = False
