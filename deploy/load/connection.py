"""One HTTP/1.1 connection that is kept alive, one request at a time: what a page's SDK has, at little CPU.

A load that shares two cores with the system under test must not be what is measured: with everything around it, a
request of 20 events and 10 kB takes about 200 µs of CPU (measured on two busy cores), 10 s per million events.
"""

import asyncio
from dataclasses import dataclass
from typing import cast

import httptools

from deploy.load.request import GatewayAddress


class ConnectionFailed(Exception):
    """No connection, or it broke before the answer was whole: whether the request took effect is unknown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    retry_after_s: float | None


class Connection:
    """A connection that opens itself when it is needed."""

    def __init__(self, address: GatewayAddress, *, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._protocol: _Exchange | None = None

    async def send(self, wire: bytes) -> Answer:
        """Send a whole request and return its answer.

        Raises:
            ConnectionFailed: refused, broken or timed out; the next request opens a new one.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._protocol is None or not self._protocol.usable:
                    loop = asyncio.get_running_loop()
                    _, self._protocol = await loop.create_connection(_Exchange, *self._address)
                return await self._protocol.exchange(wire)
        except (OSError, httptools.HttpParserError, TimeoutError) as error:
            self.close()
            raise ConnectionFailed(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._protocol is not None:
            self._protocol.close()
            self._protocol = None


class _Exchange(asyncio.Protocol):
    """The protocol: also the callbacks of the parser."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def exchange(self, wire: bytes) -> asyncio.Future[Answer]:
        assert self._transport is not None  # noqa: S101 # connected before it is handed out
        self._waiting = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._retry_after_s: float | None = None
        self._transport.write(wire)
        return self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or ConnectionResetError("closed before the answer was whole"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.strip().isdigit():
            self._retry_after_s = float(value)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        if self._transport is not None and not self._parser.should_keep_alive():
            self._transport.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Answer(status, b"".join(self._body), self._retry_after_s))

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
