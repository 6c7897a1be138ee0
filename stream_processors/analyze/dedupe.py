"""What has been seen already: an event that comes twice counts once.

An event is known again by its id, or by its kind, time and place (an SDK that sends twice makes new ids). The memory is
two generations of 32-bit hashes; a generation lasts `LATENESS_MS` of event time or `MAX_GENERATION` hashes, then it
becomes the old one and the one before is forgotten. An event older than `LATENESS_MS` before the newest cannot be told
from a repetition, so it is stored but not judged (`stream_processors.analyze.state`).

With 1,000 hashes the chance of taking a new event for an old one is 1 in 4 million.
"""

import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LATENESS_MS = 600_000

MAX_GENERATION = 400
"""Hashes in a generation, 5 bytes each once packed: 400 clicks within ten minutes."""


@dataclass(slots=True)
class Seen:
    """Hashes of events, by generation."""

    since: int = 0
    """Event time at which the present generation began."""
    present: list[int] = field(default_factory=list)
    past: list[int] = field(default_factory=list)
    _known: set[int] = field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        self._known = {*self.present, *self.past}

    def add(self, t: int, names: Iterable[str]) -> bool:
        """Remember an event under its names; return whether one of them was known."""
        hashes = [zlib.crc32(name.encode("utf-8", "replace")) for name in names]
        if not self._known.isdisjoint(hashes):
            return True
        if t - self.since > LATENESS_MS or len(self.present) >= MAX_GENERATION:
            self.since, self.past, self.present = t, self.present, []
            self._known = set(self.past)
        self.present += hashes
        self._known.update(hashes)
        return False

    def pack(self) -> list[Any]:
        """Return the memory as plain JSON values."""
        return [self.since, _packed(self.present), _packed(self.past)]

    @classmethod
    def unpack(cls, since: int, present: str, past: str) -> "Seen":
        """Make the memory from what `pack` returned."""
        return cls(since, _unpacked(present), _unpacked(past))


def _packed(hashes: list[int]) -> str:
    return b64encode(struct.pack(f"<{len(hashes)}I", *hashes)).decode() if hashes else ""


def _unpacked(text: str) -> list[int]:
    data = b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}I", data))
