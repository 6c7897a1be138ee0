"""When the clock concerns which session next: one heap for waking, closing and forgetting. Pure."""

import heapq
from collections.abc import Iterable

from stream_processors.fold.facts import SessionHead


class Agenda:
    """Sessions by the moment at which they are due.

    An entry may be stale: sessions change more often than they are due. What holds is that each session has an entry no
    later than its due moment, so whoever pops one looks at the session itself, and notes it again if it is not due yet.
    """

    def __init__(self, heads: Iterable[tuple[bytes, SessionHead]] = ()) -> None:
        self._entries = [(head.due, key) for key, head in heads]
        heapq.heapify(self._entries)

    def note(self, key: bytes, head: SessionHead, *, before: SessionHead | None = None) -> None:
        """Note what became of a session; `before` is its former head if that one is noted still."""
        if before is None or head.due < before.due:
            heapq.heappush(self._entries, (head.due, key))

    def pop_until(self, moment: int) -> set[bytes]:
        """Take out the sessions that may be due before a moment."""
        popped = set()
        while self._entries and self._entries[0][0] < moment:
            popped.add(heapq.heappop(self._entries)[1])
        return popped
