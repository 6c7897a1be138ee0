"""Send one request over and over on many connections, as fast as the answers come: a load at little CPU."""

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import uvloop

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(slots=True)
class Blast:
    """What came back."""

    answered: int = 0
    other_than_202: int = 0
    seconds: float = 0.0


class _Sender(asyncio.Protocol):
    """One connection with one request in flight; answers are small, so each comes whole."""

    def __init__(self, wire: bytes, blast: Blast, ends_at: float, done: "asyncio.Future[None]") -> None:
        self._wire = wire
        self._blast = blast
        self._ends_at = ends_at
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own transport, which is no subclass
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._wire)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(_END_OF_HEAD)
        if not found or len(body) < _content_length(head):
            return
        self._received = b""
        self._blast.answered += 1
        self._blast.other_than_202 += not head.startswith(b"HTTP/1.1 202")
        if time.monotonic() < self._ends_at:
            self._transport.write(self._wire)
        else:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def blast(port: int, wire: bytes, *, connections: int, seconds: float) -> Blast:
    """Send for some seconds from this process."""

    async def drive() -> Blast:
        loop = asyncio.get_running_loop()
        result = Blast()
        began = time.monotonic()
        waiting: list[asyncio.Future[None]] = []
        for _ in range(connections):
            done: asyncio.Future[None] = loop.create_future()
            ends_at = began + seconds
            await loop.create_connection(lambda d=done, e=ends_at: _Sender(wire, result, e, d), "127.0.0.1", port)  # type: ignore[misc]
            waiting.append(done)
        await asyncio.gather(*waiting)
        result.seconds = time.monotonic() - began
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(drive())
