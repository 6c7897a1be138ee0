"""Bound the memory of all bodies that are being read, together: clients that upload slowly cannot fill it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ingest_gateway.refusal import Refusal
from schemas.reasons import Reason


class HeldBodies:
    """Counts the bytes of bodies from their arrival until their records are handed over."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size = 0

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Give a function that counts a part of one body before it is kept; all parts are let go at the end.

        The function raises Refusal `overloaded` where no more may be held.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self.size + size > self._max_bytes:
                raise Refusal(Reason.OVERLOADED)
            self.size += size
            held += size

        try:
            yield hold
        finally:
            self.size -= held
