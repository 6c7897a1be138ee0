"""The spool's directory: who holds it, its segments, and the order of what is done to them.

    DIR/lock                    held while a gateway uses the spool
    DIR/events/                 a lane's segments, mode 0600 in directories of mode 0700: they hold what clients sent
    DIR/events/damaged/         segments in which something is damaged, kept for a person

The steps of a request through the spool, each of which a test crashes at:

1. CREATED: a segment is made where there is none to write to, and its directory synced, so that the file itself lasts.
2. WRITTEN: the frames of all requests that have come meanwhile are written at the segment's end.
3. SYNCED: one fsync makes all of them durable. Only now their clients are answered.
4. HANDED: a request's records are given to the producer.
5. ACKED: the broker has them.
6. REMOVED: the oldest segment is removed once the broker has all of its requests.

A crash before 3 costs what no client was told is stored. One between 4 and 6 has the requests of the segments that are
left sent again: later stages know the events by id and the chunks by window and number, so that counts once.

A segment of a former process is never written to: whatever a crash left at its end stays as it is until it is read.
"""

import fcntl
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import structlog

from ingest_gateway.spool.format import MARKER_BYTES, Damage, Scan, encode_frame, parse_name, scan, segment_name

log = structlog.get_logger()

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND


class SpoolStep(Enum):
    """The moments at which `on_step` is called: where tests end the process."""

    CREATED = 1
    WRITTEN = 2
    SYNCED = 3
    HANDED = 4
    ACKED = 5
    REMOVED = 6


OnStep = Callable[[SpoolStep], None]


class SpoolUnusable(Exception):
    """The directory cannot be used; the message is one line that says what to do."""


@contextmanager
def hold_spool(directory: Path) -> Iterator[None]:
    """Make the directory, and hold it for this process until the end of the block, or its own.

    Raises:
        SpoolUnusable: another process holds it, or it cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SpoolUnusable(f"cannot use the spool {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SpoolUnusable(
            f"the spool {directory} is in use by another gateway: give each process a directory of its own"
        ) from None
    finally:
        os.close(lock)


@dataclass(slots=True, eq=False)
class Segment:
    """A file of frames, and how far its requests have come."""

    path: Path
    first: int
    """Number of its first request."""
    marker: bytes
    size: int = 0
    """Bytes of frames that are synced; what lies behind them is not ours to read."""
    count: int = 0
    """Requests in it; of a former process's segment what the numbers say, until it is read."""
    loaded: int = 0
    """Requests of it that were taken into memory, to be handed over or handed over already."""
    acked: int = 0
    is_open: bool = False
    """This process may still write to it."""
    is_known: bool = True
    """It was written by this process, or read from its beginning."""
    is_damaged: bool = False

    @property
    def is_done(self) -> bool:
        """Tell whether the broker has all that is in it."""
        return not self.is_open and self.is_known and self.count == self.loaded == self.acked


class SegmentFiles:
    """A lane's segments. Its methods block, and are called one at a time."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int,
        on_step: OnStep = lambda _step: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._directory = directory
        self._damaged = directory / "damaged"
        self._segment_bytes = segment_bytes
        self._on_step = on_step
        self._now_ms = now_ms
        self._file = -1
        self._next_number = 1
        self.segments: deque[Segment] = deque()
        """In order of their requests."""
        self.size = 0
        """Bytes of all of them."""

    @property
    def requests(self) -> int:
        """Requests that the broker is not known to have."""
        return sum(segment.count - segment.acked for segment in self.segments)

    def recover(self) -> None:
        """Find what a former process left.

        Raises:
            SpoolUnusable: the directory cannot be used.
        """
        try:
            self._recover()
        except OSError as error:
            raise SpoolUnusable(f"cannot use the spool {self._directory}: {error.strerror}") from error

    def _recover(self) -> None:
        for directory in (self._directory, self._damaged):
            directory.mkdir(mode=0o700, exist_ok=True)
        for path in sorted(self._directory.glob("*")):
            name = parse_name(path.name)
            if name is None:
                if path != self._damaged:
                    log.warning("spool_file_unknown", file=str(path))
            elif not (size := path.stat().st_size):
                path.unlink()
            else:
                self.segments.append(Segment(path, *name, size=size, is_known=False))
                self.size += size
        if not self.segments:
            return
        last = self.segments[-1]
        frames = self._scan(last, 0).frames
        self._next_number = frames[-1].number + 1 if frames else last.first
        ends = [*(segment.first for segment in list(self.segments)[1:]), self._next_number]
        for segment, end in zip(self.segments, ends, strict=True):
            segment.count = max(0, end - segment.first)

    def append(self, payloads: Sequence[bytes]) -> tuple[Segment, list[int]]:
        """Write requests and sync; return where they are: the segment, and the first byte of each.

        Raises:
            OSError: none of them is stored. The next call begins a new segment.
        """
        segment = self._writable()
        now_ms, first = self._now_ms(), self._next_number
        frames = [
            encode_frame(segment.marker, number, now_ms, payload) for number, payload in enumerate(payloads, first)
        ]
        try:
            _write(self._file, b"".join(frames))  # 2
            self._on_step(SpoolStep.WRITTEN)
            os.fsync(self._file)  # 3
            self._on_step(SpoolStep.SYNCED)
        except OSError:
            self._abandon(segment)
            raise
        starts = []
        for frame in frames:
            starts.append(segment.size)
            segment.size += len(frame)
            self.size += len(frame)
        segment.count += len(frames)
        self._next_number += len(frames)
        return segment, starts

    def read(self, segment: Segment, offset: int) -> Scan:
        """Read all requests of a segment from a byte on, and tell what is damaged; one that cannot be read has none."""
        try:
            found = self._scan(segment, offset)
        except OSError as error:
            log.error("spool_unreadable", segment=segment.path.name, reason=error.strerror, requests=segment.count)
            found = Scan((), (Damage(offset, segment.size),))
        segment.is_known = True
        segment.loaded += len(found.frames)
        lost, segment.count = segment.count - segment.loaded, segment.loaded
        if found.damages or lost > 0:
            log.error(
                "spool_damaged",
                segment=segment.path.name,
                bytes=[f"{start}-{end}" for start, end in found.damages],
                requests_known_lost=max(0, lost),
                goes_to=str(self._damaged),
                hint="the very end of a segment may be a crash while writing: no client was told that it is stored",
            )
            segment.is_damaged = True
        return found

    def keep(self, payload: bytes) -> Path:
        """Keep a request that will never be in the log, in a segment of its own among the damaged ones."""
        marker, number = secrets.token_bytes(MARKER_BYTES), 0
        path = self._damaged / segment_name(number, marker)
        file = os.open(path, _NEW, 0o600)
        try:
            _write(file, encode_frame(marker, number, self._now_ms(), payload))
            os.fsync(file)
        finally:
            os.close(file)
        return path

    def remove_done(self) -> None:
        """Remove the oldest segments as far as the broker has all of their requests; damaged ones are moved aside."""
        while self.segments and self.segments[0].is_done:
            path = self.segments[0].path
            with suppress(FileNotFoundError):
                if self.segments[0].is_damaged:
                    path.rename(self._damaged / path.name)
                else:
                    path.unlink()  # 6
            self.size -= self.segments.popleft().size
            self._on_step(SpoolStep.REMOVED)

    def seal(self) -> None:
        """Write no more to the segment that is open, if one is."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.segments[-1].is_open = False

    def _writable(self) -> Segment:
        if self._file >= 0 and self.segments[-1].size >= self._segment_bytes:
            self.seal()
        if self._file < 0:
            marker = secrets.token_bytes(MARKER_BYTES)
            path = self._directory / segment_name(self._next_number, marker)
            self._file = os.open(path, _NEW, 0o600)  # 1
            self.segments.append(Segment(path, self._next_number, marker, is_open=True))
            try:
                _sync_directory(self._directory)
            except OSError:
                self._abandon(self.segments[-1])
                raise
            self._on_step(SpoolStep.CREATED)
        return self.segments[-1]

    def _abandon(self, segment: Segment) -> None:
        """Cut what could not be synced, and write no more to this segment: what a failed fsync left is not known."""
        with suppress(OSError):
            os.ftruncate(self._file, segment.size)
            os.fsync(self._file)
        self.seal()
        if not segment.size:
            with suppress(OSError):
                segment.path.unlink()
            self.segments.pop()

    def _scan(self, segment: Segment, offset: int) -> Scan:
        with segment.path.open("rb") as file:
            file.seek(offset)
            return scan(file.read(segment.size - offset), segment.marker, offset=offset)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
