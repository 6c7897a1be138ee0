"""What has been seen already: an event that comes twice counts once.

An event is known again by its id, or by its kind, time and place (an SDK that sends twice makes new ids). The memory is
two generations of 32-bit hashes; a generation lasts `LATENESS_MS` of event time or `MAX_GENERATION` hashes, then it
becomes the old one and the one before is forgotten. An event older than `LATENESS_MS` before the newest cannot be told
from a repetition, so it is stored but not judged (`stream_processors.analyze.state`).

With 1,000 hashes the chance of taking a new event for an old one is 1 in 4 million.
"""

import struct
import zlib
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LATENESS_MS = 600_000

MAX_GENERATION = 400
"""Hashes in a generation: 400 clicks within ten minutes."""

_HASH = struct.Struct("<I")


@dataclass(slots=True)
class Seen:
    """Hashes of events, by generation, as the bytes that a state holds."""

    since: int = 0
    """Event time at which the present generation began."""
    present: bytes = b""
    past: bytes = b""
    _known: set[int] = field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        self._known = {*_hashes(self.present), *_hashes(self.past)}

    def __len__(self) -> int:
        return (len(self.present) + len(self.past)) // _HASH.size

    def add(self, t: int, names: Iterable[str]) -> bool:
        """Remember an event under its names; return whether one of them was known."""
        hashes = [zlib.crc32(name.encode("utf-8", "replace")) for name in names]
        if not self._known.isdisjoint(hashes):
            return True
        if t - self.since > LATENESS_MS or len(self.present) >= MAX_GENERATION * _HASH.size:
            self.since, self.past, self.present = t, self.present, b""
            self._known = {*_hashes(self.past)}
        self.present += b"".join(map(_HASH.pack, hashes))
        self._known.update(hashes)
        return False

    def pack(self) -> list[Any]:
        """Return the memory as plain values."""
        return [self.since, self.present, self.past]

    @classmethod
    def unpack(cls, since: int, present: bytes | str, past: bytes | str) -> "Seen":
        """Make the memory from what `pack` returned; up to format 3 its bytes were base64."""
        return cls(since, _bytes(present), _bytes(past))


def _hashes(packed: bytes) -> Iterable[int]:
    return struct.unpack(f"<{len(packed) // _HASH.size}I", packed)


def _bytes(packed: bytes | str) -> bytes:
    return b64decode(packed) if isinstance(packed, str) else packed
