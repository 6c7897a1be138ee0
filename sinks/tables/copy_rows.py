"""Send lines by COPY, in pieces, and hold the server to their number."""

from collections.abc import Iterable

from adapters.postgres import Cursor
from sinks.contract.verdicts import SinkHalted

WRITE_BYTES = 262_144
"""What is handed to the driver at once: the server works on it while the next piece is joined."""


def copy_pieces(cursor: Cursor, statement: bytes, pieces: Iterable[bytes], *, rows: int) -> None:
    """Send pieces of whole lines, `rows` in all.

    Raises:
        SinkHalted: the server took another number of rows, so a line was not escaped as it should be.
        psycopg.Error: the server refuses a line; nothing of this COPY remains once the transaction rolls back.
    """
    with cursor.copy(statement) as copy:
        waiting: list[bytes] = []
        size = 0
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= WRITE_BYTES:
                copy.write(b"".join(waiting))
                waiting, size = [], 0
        copy.write(b"".join(waiting))
    if cursor.rowcount != rows:
        raise SinkHalted(f"COPY stored {cursor.rowcount} of {rows} rows: a line was not escaped")
