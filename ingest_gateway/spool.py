"""A lane's queue that the disk makes longer: what the broker cannot take now goes to the disk, and later to the broker.

Which way a request goes is `spool_route`'s to say, and how the disk is written `spool_files`'. Here they meet: one
window of requests that were handed to the producer, one list of those that are being written, and one task that does
all that has to do with the disk, so that its steps never overlap. While one fsync runs, requests gather for the next:
it serves all of them, however many they are.

The producer of a lane with a spool has no timeout: it keeps its queue's order by itself, sends again until the broker
is back, and nothing of what it holds has to be handed over twice. What it fails all the same (it was replaced, a right
is missing) is handed over again once all of the window is known, and until then nothing else is.

Bounds: the window, what is being written, what waits at the door, one segment that was read; and the bytes on disk.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

import structlog
from msgspec import MsgspecError

from adapters.kafka_producer import DeliveryFailed, ProducerHealth, Record
from ingest_gateway.records import Outgoing
from ingest_gateway.spool_files import OnStep, Segment, SegmentFiles, SpoolStep
from ingest_gateway.spool_format import HEAD_BYTES, Frame, decode_request, encode_request
from ingest_gateway.spool_route import Route, Signs, SpoolLimits, next_route

log = structlog.get_logger()

T = TypeVar("T")

_TICK_S = 0.1
_SLICE = 200
"""Requests handed over at once: 5 ms of the loop."""
_RETRY_S = 1.0
"""After a failed write, or before handing over again what the producer failed."""


class SpoolFull(Exception):
    """The broker does not take the request now, and the disk cannot."""


class Log(Protocol):
    """The producer, as far as a spool needs it."""

    def send(self, records: Sequence[Record]) -> "asyncio.Future[None]":
        """Hand records over; fails with DeliveryFailed."""

    def health(self) -> ProducerHealth:
        """Return the state of queue and brokers."""


class _Entry:
    """A request in memory."""

    __slots__ = ("acked", "at_s", "client", "failed", "handed", "records", "segment", "size", "writing")

    def __init__(self, records: Sequence[Outgoing], *, client: "asyncio.Future[None] | None", at_s: float) -> None:
        self.records = records
        self.client = client
        """Done as soon as the request is durable anywhere; None where that was told already."""
        self.at_s = at_s
        self.size = sum(len(record.value) for record in records)
        self.segment: Segment | None = None
        """Where it is on disk."""
        self.writing = False
        self.handed = False
        self.acked = False
        self.failed = False

    def tell(self, error: Exception | None = None) -> None:
        """Answer the client, once."""
        if self.client is not None and not self.client.done():
            if error is None:
                self.client.set_result(None)
            else:
                self.client.set_exception(error)


class Spool:
    """A lane's queue. Every method runs in the loop; `run` has to."""

    def __init__(
        self,
        name: str,
        files: SegmentFiles,
        log_of_events: Log,
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
        self._producer = log_of_events
        self._limits = limits
        self._prefix = topic_prefix
        self._on_sync = on_sync
        self._on_set_aside = on_set_aside
        self._on_step = on_step
        self._clock = clock
        self._wall_clock = wall_clock
        self._loop = asyncio.get_running_loop()
        self._disk = ThreadPoolExecutor(1, f"spool-{name}")
        self._route = Route.SPOOL if files.segments else Route.DIRECT
        self._window: deque[_Entry] = deque()
        """Handed to the producer, in order; those at its front that are acknowledged are gone."""
        self._window_bytes = 0
        self._failed = 0
        """Of the window."""
        self._writing: deque[tuple[_Entry, bytes]] = deque()
        self._writing_bytes = 0
        self._at_door: list[_Entry] = []
        self._door_bytes = 0
        self._door_since_s = 0.0
        self._next_unread: tuple[Segment, int] | None = (files.segments[0], 0) if files.segments else None
        self._read: deque[tuple[Segment, Frame]] = deque()
        self._stored = files.requests
        """On disk and not acknowledged."""
        self._unusable: deque[tuple[_Entry, bytes]] = deque()
        """On disk, and never to be in the log."""
        self._trouble = False
        self._disk_from_s = 0.0
        """The disk failed: not tried again before this."""
        self._retry_at_s = 0.0
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
        first = next((entry.at_s for entry in self._window if entry.segment is not None and not entry.acked), None)
        if first is None and self._read:
            first = self._read[0][1].at_ms / 1e3
        return 0.0 if first is None else max(0.0, self._wall_clock() - first)

    def has_room(self) -> bool:
        """Tell whether a request may be let in."""
        self._steer()
        if self._route is Route.DIRECT:
            return True
        limits = self._limits
        is_writable = self._writing_bytes < limits.writing_bytes and self._clock() >= self._disk_from_s
        return is_writable and self.size < limits.max_bytes

    def send(self, records: Sequence[Outgoing]) -> "asyncio.Future[None]":
        """Put a request into the queue; the future is done when it is durable, on the broker or on the disk.

        It fails with SpoolFull if neither can have it: it may reach the log all the same. It fails with DeliveryFailed
        if no broker would ever take it.
        """
        client: asyncio.Future[None] = self._loop.create_future()
        if not records:
            client.set_result(None)
            return client
        entry = _Entry(records, client=client, at_s=self._wall_clock())
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
            self._hand_again()
            while await self._work():
                self._steer()
            is_left = bool(self._stored or self._window)
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
            self._failed > 0
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
                log.warning("spooling", lane=self._name, in_flight=len(self._window))
                for entry in self._window:
                    if not entry.acked:
                        self._write(entry)
            for entry in waiting:
                self._write(entry)
        self._wake.set()

    # what is handed over

    def _window_has_room(self) -> bool:
        is_in_order = not self._failed and not self._producer.health().is_replacing
        return is_in_order and self._window_bytes < self._limits.window_bytes

    def _hand(self, entry: _Entry) -> None:
        entry.handed = True
        self._window.append(entry)
        self._window_bytes += entry.size
        self._produce(entry)

    def _produce(self, entry: _Entry) -> None:
        prefix = self._prefix
        flight = self._producer.send([Record(prefix + o.topic, o.key, o.value, o.headers) for o in entry.records])
        flight.add_done_callback(partial(self._on_landed, entry))
        if entry.segment is not None:
            self._on_step(SpoolStep.HANDED)

    def _on_landed(self, entry: _Entry, flight: "asyncio.Future[None]") -> None:
        error = flight.exception()
        if error is None:
            entry.tell()
            self._settle(entry)
        elif isinstance(error, DeliveryFailed) and error.is_permanent:
            if entry.segment is None:
                entry.tell(error)
                self._settle(entry)
            else:
                self._unusable.append((entry, encode_request(entry.records)))
        else:
            if not self._failed:
                log.warning("delivery_failed", lane=self._name, reason=str(error))
            entry.failed = True
            self._failed += 1
            self._retry_at_s = self._clock() + _RETRY_S
            self._steer()
        self._wake.set()

    def _settle(self, entry: _Entry) -> None:
        """Note that nothing more is to be done for a request that was handed over."""
        entry.acked = True
        if entry.segment is not None:
            entry.segment.acked += 1
            self._stored -= 1
            self._on_step(SpoolStep.ACKED)
        while self._window and self._window[0].acked:
            self._window_bytes -= self._window.popleft().size

    def _hand_again(self) -> None:
        """Hand over again what the producer failed, once nothing else of the window is on its way."""
        if not self._failed or self._clock() < self._retry_at_s:
            return
        if all(entry.acked or entry.failed for entry in self._window):
            again = [entry for entry in self._window if entry.failed]
            self._failed = 0
            for entry in again:
                entry.failed = False
                self._produce(entry)

    # what is written and read

    def _write(self, entry: _Entry) -> None:
        payload = encode_request(entry.records)
        size = HEAD_BYTES + len(payload)
        if self.size + size > self._limits.max_bytes or self._writing_bytes > self._limits.writing_bytes:
            entry.tell(SpoolFull())
            return
        entry.writing = True
        self._writing.append((entry, payload))
        self._writing_bytes += size
        self._wake.set()

    async def _work(self) -> bool:
        """Do one step, the most urgent first; return whether there may be more."""
        if self._read and self._window_has_room() and not self._writing:
            self._feed()
            await asyncio.sleep(0)
            return True
        if self._clock() < self._disk_from_s:
            return False
        try:
            return await self._work_on_disk()
        except OSError as error:
            log.error("spool_disk_failed", lane=self._name, reason=error.strerror)
            self._disk_from_s = self._clock() + _RETRY_S
            return False

    async def _work_on_disk(self) -> bool:
        segments = self._files.segments
        if self._writing:
            await self._sync()
        elif self._unusable:
            await self._keep_aside(*self._unusable[0])
        elif segments and segments[0].is_done:
            await self._on_disk(self._files.remove_done)
        elif self._next_unread is not None and not self._read:
            await self._load(*self._next_unread)
        elif self._route is Route.DIRECT and segments and segments[-1].is_open:
            self._files.seal()
        else:
            return False
        return True

    async def _sync(self) -> None:
        """Write what has gathered, up to a batch, and answer its clients.

        Raises:
            OSError: nothing of it is stored, and its clients know.
        """
        batch: list[tuple[_Entry, bytes]] = []
        size = 0
        while self._writing and size < self._limits.segment_bytes:
            batch.append(self._writing.popleft())
            size += HEAD_BYTES + len(batch[-1][1])
        began_s = self._clock()
        try:
            segment, starts = await self._on_disk(partial(self._files.append, [payload for _, payload in batch]))
        except OSError:
            for entry, _ in batch:
                entry.writing = False
                entry.tell(SpoolFull())
            raise
        finally:
            self._writing_bytes -= size
        self._on_sync(self._clock() - began_s)
        for (entry, _), start in zip(batch, starts, strict=True):
            self._on_synced(entry, segment, start)

    def _on_synced(self, entry: _Entry, segment: Segment, start: int) -> None:
        entry.writing = False
        entry.tell()
        is_next = self._next_unread is None and not self._read
        if entry.acked:
            segment.loaded += 1
            segment.acked += 1
            return
        self._stored += 1
        if entry.handed:
            segment.loaded += 1
            entry.segment = segment
        elif is_next and self._window_has_room():
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

    def _feed(self) -> None:
        for _ in range(_SLICE):
            if not self._read or not self._window_has_room():
                return
            segment, frame = self._read.popleft()
            entry = _Entry((), client=None, at_s=frame.at_ms / 1e3)
            entry.segment, entry.size = segment, len(frame.payload)
            try:
                entry.records = decode_request(frame.payload)
            except MsgspecError:
                self._unusable.append((entry, frame.payload))
            else:
                self._hand(entry)

    async def _keep_aside(self, entry: _Entry, payload: bytes) -> None:
        """Keep what no broker will take, or nobody can read, for a person, and go on."""
        kept = await self._on_disk(partial(self._files.keep, payload))
        self._unusable.popleft()
        self._on_set_aside()
        log.error("spool_request_refused", lane=self._name, kept_as=str(kept))
        self._settle(entry)

    async def _on_disk(self, step: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._disk, step)
