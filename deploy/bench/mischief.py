"""Clients that mean no good, as a process of their own: `python -m deploy.bench.mischief CASE PORT KEY SECONDS`.

Each case sends for some seconds and prints what it got as one JSON object: outcome → how often. An outcome is an HTTP
status, `closed` for a connection that was ended without an answer, `open` for one that still stands at the end.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import orjson
import uvloop
import zstandard
from isal import isal_zlib

from deploy.bench.cpu import allow_many_files
from deploy.load.connection import Connection, ConnectionFailed
from deploy.load.request import GatewayAddress

TIMEOUT_S = 60.0
SLOW_CONNECTIONS = 500
IDLE_CONNECTIONS = 10_000
CONNECTIONS = 32
CROWD = 1_000
BOMB_CONNECTIONS = 16
BOMB_BYTES = 100_000_000
"""Once inflated: five times the limit."""
HOT_SESSION_REQUESTS_PER_S = 250
EVENTS_PER_REQUEST = 20
_AT_ONCE = 200


class Mischief:
    """One case against one gateway."""

    def __init__(self, address: GatewayAddress, key: str, *, seconds: float) -> None:
        self._address = address
        self._key = key
        self._ends_at = time.monotonic() + seconds
        self.outcomes: Counter[str] = Counter()
        self._held: list[asyncio.StreamWriter] = []
        """Connections that must not be closed before the end."""

    async def slow_headers(self) -> None:
        """Send a byte of headers a second on many connections."""
        await self._slowly(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 1_000)

    async def slow_bodies(self) -> None:
        """Send complete headers and then a byte of the body a second."""
        await self._slowly(b"x" * 1_000, before=self._head(100_000))

    async def idle(self) -> None:
        """Hold as many connections as a gateway takes, each with one answered request behind it."""
        places, seconds = asyncio.Semaphore(_AT_ONCE), self._ends_at - time.monotonic()
        opened = await asyncio.gather(*(self._open(places) for _ in range(IDLE_CONNECTIONS)))
        # so many take their time to open
        self._ends_at = time.monotonic() + seconds
        self.outcomes.update(status for status, reader in opened if reader is None)
        readers = [reader for _, reader in opened if reader is not None]
        self.outcomes.update(await asyncio.gather(*(self._hold(reader) for reader in readers)))

    async def hot_project(self) -> None:
        """Send one project's events without a pause."""
        await self._flood(lambda number: self._events(f"hot-{number % 1_000}"))

    async def hot_crowd(self) -> None:
        """Send one project's events without a pause over many connections."""
        await self._flood(lambda number: self._events(f"hot-{number % 1_000}"), connections=CROWD)

    async def hot_session(self) -> None:
        """Send 5,000 events a second of one session."""
        began, numbers = time.monotonic(), count()

        async def paced(number: int) -> bytes:
            await asyncio.sleep(max(0.0, began + number / HOT_SESSION_REQUESTS_PER_S - time.monotonic()))
            return self._events("hot")

        await asyncio.gather(*(self._send(paced, numbers) for _ in range(CONNECTIONS)))

    async def random_keys(self) -> None:
        """Send a new random key with each request."""
        body = self._events("s").partition(b"\r\n\r\n")[2]
        await self._flood(lambda number: self._head(len(body), key=f"tfk_{number:032x}") + body)

    async def bombs(self) -> None:
        """Send small bodies that inflate to 100 MB, gzip and zstd in turn."""
        seconds = self._ends_at - time.monotonic()
        spaces = b" " * BOMB_BYTES
        bombs = [
            (b"gzip", isal_zlib.compress(spaces, 1, 31)),
            (b"zstd", zstandard.ZstdCompressor(level=1).compress(spaces)),
        ]
        del spaces
        wires = [
            self._head(len(bomb)).replace(b"\r\n\r\n", b"\r\nContent-Encoding: " + encoding + b"\r\n\r\n") + bomb
            for encoding, bomb in bombs
        ]
        # making them took its time, on a busy machine all of it
        self._ends_at = time.monotonic() + seconds
        await self._flood(lambda number: wires[number % len(wires)], connections=BOMB_CONNECTIONS)

    def _head(self, length: int, *, key: str | None = None) -> bytes:
        return (
            f"POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key or self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    def _events(self, session: str) -> bytes:
        now_ms = time.time_ns() // 1_000_000
        events = [
            {
                "event_type": "click",
                "timestamp": now_ms,
                "element_tag": "button",
                "x_position": 10,
                "y_position": number,
            }
            for number in range(EVENTS_PER_REQUEST)
        ]
        body = orjson.dumps({"session_id": session, "events": events})
        return self._head(len(body)) + body

    async def _flood(self, wire: Callable[[int], bytes], *, connections: int = CONNECTIONS) -> None:
        async def made(number: int) -> bytes:
            return wire(number)

        numbers = count()
        await asyncio.gather(*(self._send(made, numbers) for _ in range(connections)))

    async def _send(self, wire: Callable[[int], Awaitable[bytes]], numbers: "count[int]") -> None:
        connection = Connection(self._address, timeout_s=TIMEOUT_S)
        while time.monotonic() < self._ends_at:
            try:
                answer = await connection.send(await wire(next(numbers)))
                self.outcomes[str(answer.status)] += 1
            except ConnectionFailed:
                self.outcomes["closed"] += 1
        connection.close()

    async def _slowly(self, text: bytes, *, before: bytes = b"") -> None:
        async def one() -> None:
            while time.monotonic() < self._ends_at:
                self.outcomes[await self._drip(text, before)] += 1

        await asyncio.gather(*(one() for _ in range(SLOW_CONNECTIONS)))

    async def _drip(self, text: bytes, before: bytes) -> str:
        try:
            reader, writer = await asyncio.open_connection(*self._address)
        except OSError:
            return "closed"
        try:
            writer.write(before)
            answer = asyncio.create_task(reader.read(12))
            for byte in text:
                if answer.done() or time.monotonic() > self._ends_at:
                    break
                writer.write(bytes((byte,)))
                await asyncio.wait((answer,), timeout=1.0)
            if not answer.done():
                answer.cancel()
                return "open"
            return answer.result()[9:12].decode() or "closed"
        except OSError:
            return "closed"
        finally:
            writer.close()

    async def _open(self, places: asyncio.Semaphore) -> "tuple[str, asyncio.StreamReader | None]":
        """Return the status of a first answer, and the connection if that is well."""
        try:
            async with places:
                reader, writer = await asyncio.open_connection(*self._address)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = await reader.readuntil(b"\r\n\r\nok\n")
        except (OSError, asyncio.IncompleteReadError):
            return "closed", None
        self._held.append(writer)
        return answer[9:12].decode(), reader if answer[9:12] == b"200" else None

    async def _hold(self, reader: asyncio.StreamReader) -> str:
        try:
            async with asyncio.timeout(max(0.0, self._ends_at - time.monotonic())):
                await reader.read()
            return "closed"
        except TimeoutError:
            return "open"
        except OSError:
            return "closed"


def main(arguments: Sequence[str]) -> None:
    """Run a case and print its outcomes."""
    case, port, key, seconds = arguments
    allow_many_files()

    async def send() -> Counter[str]:
        mischief = Mischief(GatewayAddress("127.0.0.1", int(port)), key, seconds=float(seconds))
        await getattr(mischief, case)()
        return mischief.outcomes

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(orjson.dumps(runner.run(send())).decode(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
