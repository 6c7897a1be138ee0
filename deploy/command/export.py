"""`traceflow recordings export`: a session's rrweb events as one JSON array, of any size and codec."""

from typing import BinaryIO

from adapters.postgres import connect
from deploy.command.failure import CommandFailure
from schemas.chunks import ChunkRefused
from schemas.connections import DatabaseSettings
from sinks.export import NoRecording, recording_pieces


def export_recording(database: DatabaseSettings, session_id: str, output: BinaryIO) -> None:
    """Write the events of a session's recording, never more than one chunk of it in memory.

    Raises:
        CommandFailure: there is no recording of that session (then nothing was written), or a chunk is damaged.
    """
    with connect(database, application_name="traceflow export", only_reads=True) as connection:
        try:
            for piece in recording_pieces(connection, session_id):
                output.write(piece)
        except NoRecording as error:
            raise CommandFailure(f"{error}: `traceflow sql` on session_recordings lists them") from error
        except ChunkRefused as error:
            raise CommandFailure(f"a stored chunk of session {session_id} cannot be opened: {error.detail}") from error
    output.write(b"\n")
