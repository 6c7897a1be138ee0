"""Where the log does not continue what a sink has stored, and from where the sink may go on.

Theory. A sink reads on where Postgres says. That place may lie outside the log:

- **Before its beginning**: records were deleted before they were stored. They are lost; what is left begins at the
  log's beginning.
- **Beyond its end**: the broker acknowledged records, they were stored, and it lost them with its machine. Their rows
  are in Postgres. But the broker gives the same offsets again, to new records, and those must not be passed over: an
  offset below the stored one says nothing about whether its record was stored. The broker's time does: a record that
  was stored came into the log before the stored offset moved last. So the sink goes on at the first record since then,
  less a margin for clocks that differ. What it reads twice it stores once: a row's id is its own.
"""

from dataclasses import dataclass

CLOCKS_APART_MS = 600_000
"""How far the clocks of broker and database may differ."""


@dataclass(frozen=True, slots=True)
class LogRange:
    """What the broker has of a partition."""

    begins: int
    """The first offset that it still has."""
    ends: int
    """The offset that it gives next."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A partition whose log does not continue what a sink has stored."""

    sink: str
    topic: str
    part: int
    stored: int
    """The offset that the sink would read next."""
    log: LogRange

    @property
    def is_beyond(self) -> bool:
        """Tell whether the log has lost its end, and not its beginning."""
        return self.stored > self.log.ends

    @property
    def lost(self) -> int:
        """Return how many offsets are missing."""
        return self.stored - self.log.ends if self.is_beyond else self.log.begins - self.stored

    def __str__(self) -> str:
        """Say what is missing."""
        if self.is_beyond:
            return f"the log ends at {self.log.ends}, before the {self.stored} records that were stored of it"
        return f"records {self.stored} to {self.log.begins - 1} were deleted before they were stored"


def gap_of(sink: str, topic: str, part: int, *, stored: int, log: LogRange) -> Gap | None:
    """Return the gap of a partition, or None where the log continues what was stored."""
    return None if log.begins <= stored <= log.ends else Gap(sink, topic, part, stored, log)


def goes_on_at(gap: Gap, *, first_since: int | None) -> int:
    """Return the offset from which nothing new is passed over.

    `first_since` is that of the first record that came into the log after the stored offset moved last, less
    `CLOCKS_APART_MS`; None if there is none.
    """
    if not gap.is_beyond:
        return gap.log.begins
    return gap.log.ends if first_since is None else first_since
