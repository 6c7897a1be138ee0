"""What a stretch of the log gives: collected record by record, written as three flights. Pure."""

import traceback
from dataclasses import dataclass, field

from schemas.reasons import Reason
from stream_processors.fold.logic import Emitted, LogRecord, Output, Parked, RecordRefused

MAX_DETAIL_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Batch:
    """What the records since the last cut give, to be written as `facts` says: three flights, each acknowledged."""

    outputs: tuple[Output, ...] = ()
    parked: tuple[Parked, ...] = ()
    facts: tuple[tuple[bytes, bytes], ...] = ()
    """New facts: changelog key and value."""
    deletions: tuple[bytes, ...] = ()
    """Changelog keys that the batch before this one superseded."""
    record: tuple[bytes, bytes] = (b"", b"")
    """The partition record: changelog key and value."""
    offset: int = -1
    """The last record folded."""
    records: int = 0
    """How many were folded."""
    ignored_sources: int = 0
    """How many of them count only when their sender sends them again, in order."""
    lost_sources: int = 0
    """How many sources nothing will ever stand for."""


@dataclass(slots=True)
class Collected:
    """Outputs and parked records in the order of the log, until they are cut into a batch."""

    outputs: list[Output] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    records: int = 0
    ignored_sources: int = 0
    lost_sources: int = 0

    def emit(self, out: Emitted) -> None:
        """Take what the logic said."""
        self.outputs.extend(out.outputs)
        self.parked.extend(out.parked)

    def park(self, record: LogRecord, error: Exception, *, session: bytes | None = None) -> None:
        """Park a record for what was raised on it; a tick is parked in the name of the session that raised."""
        if isinstance(error, RecordRefused) and session is None:
            self.parked.append(Parked(record, error.reason, error.detail[:MAX_DETAIL_CHARACTERS]))
            return
        name = "" if session is None else f"session {session[:300].decode('utf-8', 'replace')}: "
        # the end of a traceback says most
        text = "".join(traceback.format_exception(error))[-(MAX_DETAIL_CHARACTERS - len(name)) :]
        self.parked.append(Parked(record, Reason.ENGINE_ERROR, name + text))
