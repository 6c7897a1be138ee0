"""Cut a stream of things that happened into the requests by which an SDK would have sent them."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

FLUSH_MS = 2_000
"""How long an SDK holds back what it has seen: common ones flush every 2 to 5 s."""


def flushes(items: Sequence[T], times: Sequence[int], *, flush_ms: int = FLUSH_MS) -> Iterator[tuple[int, list[T]]]:
    """Yield the items of each flush, with the moment at which it is sent.

    `times` are when the items happened, epoch ms, in the order in which they were noted. Time never goes back here, and
    a single time that lies far from its neighbours does not move it.
    """
    held: list[T] = []
    start = 0
    for item, now in zip(items, _clock(times), strict=True):
        if held and now - start >= flush_ms:
            yield start + flush_ms, held
            held = []
        start = start if held else now
        held.append(item)
    if held:
        yield start + flush_ms, held


def _clock(times: Sequence[int]) -> Iterator[int]:
    """Yield what a clock shows that each time was read from: the median of the time and its neighbours, never back."""
    now = 0
    for at, t in enumerate(times):
        around = sorted((times[at - 1] if at else t, t, times[at + 1] if at + 1 < len(times) else t))
        now = max(now, around[1])
        yield now
