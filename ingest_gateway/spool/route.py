"""Decide where a lane with a spool takes its requests: to the broker, to the disk, or through the door between.

Theory. All requests of a lane form one queue, and they reach the log in its order whatever way they take:

- DIRECT: they are handed to the producer; the client is answered when the broker has them. The disk holds nothing.
- SPOOL: something speaks against the broker. What is on its way is written to the disk as it stands, and what comes is
  written behind it; the client is answered when that is synced. Meanwhile the disk's requests are handed to the
  producer in order, as many at once as its window takes.
- DOOR: all that is on disk is handed over and the broker acknowledges, so the way back is open. But under load there is
  always one more request being written: for the few milliseconds until the last of them is acknowledged, what comes
  waits at the door, and then goes DIRECT behind it. If that takes long, the broker is not that well: SPOOL again.

One queue for all sessions, and no list of those that have something on disk: it needs no memory per session, whoever
sends random ids, and handing over costs a tenth of what receiving does, so that the disk is soon empty again.
"""

from dataclasses import dataclass
from enum import Enum


class Route(Enum):
    """Where a request goes now."""

    DIRECT = "direct"
    SPOOL = "spool"
    DOOR = "door"


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """When to take to the disk, and what it may cost."""

    max_bytes: int
    """On disk."""
    max_unacked_s: float
    max_queue_fill: float
    window_bytes: int = 16_000_000
    """Handed over and not acknowledged while the disk is read: ten times what a broker nearby acknowledges in 20 ms."""
    writing_bytes: int = 32_000_000
    """Waiting for fsync: a disk that hangs does not fill the memory."""

    @property
    def segment_bytes(self) -> int:
        """The size at which a segment is full, and what is written at once: an eighth of all, because it goes whole."""
        return min(8_000_000, self.max_bytes // 8)


MAX_DOOR_S = 1.0
"""Twenty times what the last requests take to be synced and acknowledged."""
MAX_DOOR_BYTES = 16_000_000
"""What may come in that time; beyond it, memory says SPOOL."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a lane."""

    trouble: bool
    """The broker does not take requests as fast as it should, or not at all."""
    unread: bool
    """Requests lie on the disk that were not handed to the producer."""
    unsettled: bool
    """Requests are being written, or written and not acknowledged by the broker."""
    door_s: float
    """Since the door was closed, seconds."""
    door_bytes: int
    """What waits at it."""


def next_route(route: Route, signs: Signs) -> Route:
    """Return where requests go from now on."""
    is_late = signs.door_s > MAX_DOOR_S or signs.door_bytes > MAX_DOOR_BYTES
    if signs.trouble or (route is Route.DOOR and signs.unsettled and is_late):
        return Route.SPOOL
    if route is Route.DIRECT or not (signs.unread or signs.unsettled):
        return Route.DIRECT
    return route if signs.unread else Route.DOOR
