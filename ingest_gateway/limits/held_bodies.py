"""Bound the memory of all bodies that are being read, together: clients that upload slowly cannot fill it."""

from types import TracebackType

from ingest_gateway.admission.refusal import Refusal
from schemas.reasons import Reason


class HeldBodies:
    """The bytes of bodies from their arrival until their records are handed over."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0


class HeldBody:
    """One body's share: a context that lets go of it at its end."""

    __slots__ = ("_all", "_size")

    def __init__(self, bodies: HeldBodies) -> None:
        self._all = bodies
        self._size = 0

    def __enter__(self) -> "HeldBody":
        """Hold nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        self._all.size -= self._size

    def hold(self, size: int) -> None:
        """Count a part before it is kept.

        Raises:
            Refusal: `overloaded` if all bodies together would be more than may be held.
        """
        if self._all.size + size > self._all.max_bytes:
            raise Refusal(Reason.OVERLOADED)
        self._all.size += size
        self._size += size
