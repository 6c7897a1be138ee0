"""Faults planted in the stages, to see that the replay oracle finds them. Each says what goes wrong."""

from stream_processors.analyze.dedupe import Seen
from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.analyze.state import SessionState
from stream_processors.digest.document import Document
from stream_processors.digest.logic import DigestLogic
from stream_processors.digest.windows import Session
from stream_processors.fold.logic import Emitted, LogRecord


class ForgetsWhatItHasSeen(AnalyzeLogic):
    """After a restart, analyze does not know again what it has seen before."""

    def decode(self, data: bytes) -> SessionState:
        state = super().decode(data)
        state.seen = Seen()
        return state


class TakesADigestTwice(AnalyzeLogic):
    """Analyze takes a digest that is sent again for a new one."""

    def source(self, record: LogRecord) -> int | None:
        super().source(record)
        return None


class GoesByItsOwnClock(AnalyzeLogic):
    """Analyze settles when its own records are late enough, without waiting for a digest that lags."""

    def clock(self, record: LogRecord) -> int:
        return record.timestamp


class LearnsAsItComes(AnalyzeLogic):
    """Analyze judges a click by all that has come by then, also by what happened only after the click's window."""

    def apply(self, state: SessionState, key: bytes, record: LogRecord, out: Emitted) -> None:
        super().apply(state, key, record, out)
        memory = state.memories.get("clicks")
        if memory is not None:
            memory.answering_since = min(memory.answering_since, 1)


class ForgetsTheDeltas(DigestLogic):
    """After a restart, digest goes on from the last full copy of each page, without what changed since."""

    def decode(self, data: bytes) -> Session:
        session = super().decode(data)
        for window in session.windows.values():
            if window.document is not None:
                window.document = Document(window.document.base)
        return session


IN_ANALYZE = (ForgetsWhatItHasSeen, TakesADigestTwice, GoesByItsOwnClock, LearnsAsItComes)
IN_DIGEST = (ForgetsTheDeltas,)
