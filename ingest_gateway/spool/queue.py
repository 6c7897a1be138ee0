"""A lane's queue that the disk makes longer: what the broker cannot take now goes to the disk, and later to the broker.

Which way a request goes is `route`'s to say, and how the disk is written `files`'. Here they meet: one
window of requests that were handed to the producer, one list of those that are being written, and one task that does
all that has to do with the disk, so that its steps never overlap. While one fsync runs, requests gather for the next:
it serves all of them, however many they are.

Bounds: the window, what is being written, what waits at the door, one segment that was read; and the bytes on disk.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog
from msgspec import MsgspecError

from adapters.kafka_producer import DeliveryFailed
from ingest_gateway.admission.records import Outgoing
from ingest_gateway.spool.files import OnStep, Segment, SegmentFiles, SpoolStep
from ingest_gateway.spool.format import HEAD_BYTES, Frame, decode_request, encode_request
from ingest_gateway.spool.route import Route, Signs, SpoolLimits, next_route
from ingest_gateway.spool.window import Entry, Log, Window

log = structlog.get_logger()

T = TypeVar("T")

_TICK_S = 0.1
_SLICE = 200
"""Requests handed over at once: 5 ms of the loop."""
_DISK_PAUSE_S = 1.0
"""After a failed write."""


class SpoolFull(Exception):
    """The broker does not take the request now, and the disk cannot."""


class Spool:
    """A lane's queue. Every method runs in the loop; `run` has to."""

    def __init__(
        self,
        name: str,
        files: SegmentFiles,
        producer: Log,
        limits: SpoolLimits,
        *,
        topic_prefix: str,
        on_sync: Callable[[float], None] = lambda _seconds: None,
        on_set_aside: Callable[[], None] = lambda: None,
        on_step: OnStep = lambda _step: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._files = files
        self._producer = producer
        self._limits = limits
        self._on_sync = on_sync
        self._on_set_aside = on_set_aside
        self._on_step = on_step
        self._clock = clock
        self._wall_clock = wall_clock
        self._loop = asyncio.get_running_loop()
        self._disk = ThreadPoolExecutor(1, f"spool-{name}")
        self._route = Route.SPOOL if files.segments else Route.DIRECT
        self._window = Window(
            name, producer, topic_prefix=topic_prefix, max_bytes=limits.window_bytes, clock=clock, owner=self
        )
        self._writing: deque[tuple[Entry, bytes]] = deque()
        self._writing_bytes = 0
        self._at_door: list[Entry] = []
        self._door_bytes = 0
        self._door_since_s = 0.0
        self._next_unread: tuple[Segment, int] | None = (files.segments[0], 0) if files.segments else None
        self._read: deque[tuple[Segment, Frame]] = deque()
        self._stored = files.requests
        """On disk and not acknowledged."""
        self._unusable: deque[tuple[Entry, bytes]] = deque()
        """On disk, and never to be in the log."""
        self._trouble = False
        self._disk_from_s = 0.0
        """The disk failed: not tried again before this."""
        self._wake = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._stopping = False

    @property
    def route(self) -> Route:
        """Where requests go now."""
        return self._route

    @property
    def size(self) -> int:
        """Bytes on disk, and on their way there."""
        return self._files.size + self._writing_bytes

    @property
    def requests(self) -> int:
        """Requests on disk that the broker is not known to have."""
        return self._stored

    @property
    def oldest_s(self) -> float:
        """Age of the oldest of them; 0 if there is none."""
        first = self._window.oldest_stored_at_s
        if first is None and self._read:
            first = self._read[0][1].at_ms / 1e3
        return 0.0 if first is None else max(0.0, self._wall_clock() - first)

    @property
    def has_room(self) -> bool:
        """Tell whether requests can be taken now; may be asked from any thread."""
        if self._route is Route.DIRECT:
            return True
        limits = self._limits
        is_writable = self._writing_bytes < limits.writing_bytes and self._clock() >= self._disk_from_s
        return is_writable and self.size < limits.max_bytes

    def admit(self) -> bool:
        """Tell whether a request may be let in, after a look at the broker."""
        self._steer()
        return self.has_room

    def send(self, records: Sequence[Outgoing]) -> "asyncio.Future[None]":
        """Put a request into the queue; the future is done when it is durable, on the broker or on the disk.

        It fails with SpoolFull if neither can have it: it may reach the log all the same. It fails with DeliveryFailed
        if no broker would ever take it.
        """
        client: asyncio.Future[None] = self._loop.create_future()
        if not records:
            client.set_result(None)
            return client
        entry = Entry(records, client=client, at_s=self._wall_clock())
        self._steer()
        if self._route is Route.DIRECT:
            self._hand(entry)
        elif self._route is Route.SPOOL:
            self._write(entry)
        else:
            self._at_door.append(entry)
            self._door_bytes += entry.size
        return client

    async def run(self) -> None:
        """Write, read and remove until `close`."""
        while not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._wake.wait()
            self._wake.clear()
            self._steer()
            self._window.hand_again()
            while await self._work():
                self._steer()
            is_left = self._stored > 0 or not self._window.is_empty
            if not (self._writing or self._at_door) and (self._trouble or not is_left):
                self._at_rest.set()

    async def drain(self, *, timeout_s: float) -> int:
        """Wait until the broker has all, or until what it cannot take now is on the disk; return what is left there."""
        self._at_rest.clear()
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._at_rest.wait()
        return self._stored

    def close(self) -> None:
        """Let `run` end after the step that it is at."""
        self._stopping = True
        self._wake.set()

    # what is steered

    def _steer(self) -> None:
        """Take the way that the signs of this moment ask for."""
        health, limits = self._producer.health(), self._limits
        self._trouble = (
            self._window.has_failures
            or health.is_replacing
            or health.all_brokers_down
            or health.oldest_unacked_s > limits.max_unacked_s
            or health.queue_fill > limits.max_queue_fill
        )
        signs = Signs(
            trouble=self._trouble,
            unread=self._next_unread is not None or bool(self._read),
            unsettled=self._writing_bytes > 0 or self._stored > 0,
            door_s=self._clock() - self._door_since_s,
            door_bytes=self._door_bytes,
        )
        route = next_route(self._route, signs)
        if route is not self._route:
            self._take(route)

    def _take(self, route: Route) -> None:
        before, self._route = self._route, route
        waiting, self._at_door, self._door_bytes = self._at_door, [], 0
        if route is Route.DOOR:
            self._door_since_s = self._clock()
        elif route is Route.DIRECT:
            log.info("spool_empty", lane=self._name)
            for entry in waiting:
                self._hand(entry)
        else:
            if before is Route.DIRECT:
                in_flight = self._window.in_flight
                log.warning("spooling", lane=self._name, in_flight=len(in_flight))
                for entry in in_flight:
                    self._write(entry)
            for entry in waiting:
                self._write(entry)
        self._wake.set()

    # what is handed over

    def _hand(self, entry: Entry) -> None:
        self._window.hand(entry)
        if entry.segment is not None:
            self._on_step(SpoolStep.HANDED)

    def on_taken(self, entry: Entry) -> None:
        """Answer the client of a request that the broker has, if it still waits."""
        entry.tell()
        self._settle(entry)

    def on_refused(self, entry: Entry, error: DeliveryFailed) -> None:
        """Answer the client of a request that no broker takes; one that was answered 202 is kept for a person."""
        entry.tell(error)
        if entry.segment is None:
            self._settle(entry)
        else:
            self._unusable.append((entry, encode_request(entry.records)))
            self._wake.set()

    def on_failed(self) -> None:
        """Take to the disk at once: what comes must not overtake what is handed over again."""
        self._steer()
        self._wake.set()

    def _settle(self, entry: Entry) -> None:
        """Note that nothing more is to be done for a request."""
        if entry.segment is not None:
            entry.segment.acked += 1
            self._stored -= 1
            self._on_step(SpoolStep.ACKED)
            self._wake.set()

    # what is written and read

    def _write(self, entry: Entry) -> None:
        payload = encode_request(entry.records)
        size = HEAD_BYTES + len(payload)
        if self.size + size > self._limits.max_bytes:
            entry.tell(SpoolFull())
            return
        self._writing.append((entry, payload))
        self._writing_bytes += size
        self._wake.set()

    async def _work(self) -> bool:
        """Take each step that is due once, so that none starves another; return whether there may be more."""
        has_fed = self._feed()
        # also where all that follows is done without waiting
        await asyncio.sleep(0)
        if self._clock() < self._disk_from_s:
            return has_fed
        try:
            return await self._work_on_disk() or has_fed
        except OSError as error:
            log.error("spool_disk_failed", lane=self._name, reason=error.strerror)
            self._disk_from_s = self._clock() + _DISK_PAUSE_S
            return has_fed

    async def _work_on_disk(self) -> bool:
        has_worked, segments = False, self._files.segments
        if self._writing:
            await self._sync()
            has_worked = True
        if self._unusable:
            await self._keep_aside(*self._unusable[0])
            has_worked = True
        if self._next_unread is not None and not self._read:
            await self._load(*self._next_unread)
            has_worked = True
        if self._route is Route.DIRECT and segments and segments[-1].is_open:
            self._files.seal()
        if segments and segments[0].is_done:
            await self._on_disk(self._files.remove_done)
        return has_worked

    async def _sync(self) -> None:
        """Write what has gathered, up to a batch, and answer its clients.

        Raises:
            OSError: nothing of it is stored, and its clients know.
        """
        batch: list[tuple[Entry, bytes]] = []
        size = 0
        while self._writing and size < self._limits.segment_bytes:
            batch.append(self._writing.popleft())
            size += HEAD_BYTES + len(batch[-1][1])
        began_s = self._clock()
        try:
            segment, starts = await self._on_disk(partial(self._files.append, [payload for _, payload in batch]))
        except OSError:
            for entry, _ in batch:
                entry.tell(SpoolFull())
            raise
        finally:
            self._writing_bytes -= size
        self._on_sync(self._clock() - began_s)
        for (entry, _), start in zip(batch, starts, strict=True):
            self._on_synced(entry, segment, start)

    def _on_synced(self, entry: Entry, segment: Segment, start: int) -> None:
        entry.tell()
        is_next = self._next_unread is None and not self._read
        if entry.landed:
            segment.loaded += 1
            segment.acked += 1
            return
        self._stored += 1
        if entry.handed:
            segment.loaded += 1
            entry.segment = segment
        elif is_next and self._window.has_room:
            segment.loaded += 1
            entry.segment = segment
            self._hand(entry)
        elif self._next_unread is None:
            self._next_unread = (segment, start)

    async def _load(self, segment: Segment, offset: int) -> None:
        expected = segment.count
        found = await self._on_disk(partial(self._files.read, segment, offset))
        self._stored -= expected - segment.count
        if found.damages or expected != segment.count:
            self._on_set_aside()
        self._read.extend((segment, frame) for frame in found.frames)
        segments = list(self._files.segments)
        after = segments[segments.index(segment) + 1 :]
        self._next_unread = (after[0], 0) if after else None

    def _feed(self) -> bool:
        """Hand over some of what was read; return whether there was something that could be."""
        fed = 0
        while fed < _SLICE and self._read and self._window.has_room:
            fed += 1
            segment, frame = self._read.popleft()
            entry = Entry((), client=None, at_s=frame.at_ms / 1e3)
            entry.segment, entry.size = segment, len(frame.payload)
            try:
                entry.records = decode_request(frame.payload)
            except MsgspecError:
                self._unusable.append((entry, frame.payload))
            else:
                self._hand(entry)
        return fed > 0

    async def _keep_aside(self, entry: Entry, payload: bytes) -> None:
        """Keep what no broker will take, or nobody can read, for a person, and go on."""
        kept = await self._on_disk(partial(self._files.keep, payload))
        self._unusable.popleft()
        self._on_set_aside()
        log.error("spool_request_refused", lane=self._name, kept_as=str(kept))
        self._settle(entry)

    async def _on_disk(self, step: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._disk, step)
