"""Bound what a client may cost before it is a request: time for headers and body, size of headers, connections.

Theory. uvicorn has no deadline for what it receives, so one machine can hold every connection open a byte at a time.
A connection is always in one of three phases, and each has a due time at which it ends:

- HEADERS: from the connection, or from a request's first byte, until its headers are complete;
- BODY: until the body is complete. Its due time grows with the bytes that came, so a slow network is served and a
  client that stalls is not. Once the request is answered (refused before its body was read), what still comes is thrown
  away for `LINGER_S`: closing at once would reset the connection, and the client would never see why it was refused;
- NONE: nothing is expected; an idle connection is ended by keep-alive.

A request that arrives whole passes through all of them within one call and costs no timer.

Connections are bounded in number, and one that waits for nothing must not keep out one that has something to say: when
all places are taken, a new connection takes that of the one that has been idle for longest. Its client connects again
when it needs to. Only where every place is busy a new one is answered 503.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from schemas.reasons import Reason

LINGER_S = 2.0

# above this many times the limit there is not even an answer
_HARD_CONNECTION_FACTOR = 2


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may cost."""

    header_timeout_s: float
    max_header_bytes: int
    body_timeout_s: float
    min_body_rate: int
    """Bytes a second that extend the body's deadline."""
    max_connections: int
    retry_after_s: float


class _Phase(Enum):
    HEADERS = auto()
    BODY = auto()
    NONE = auto()


def protocol_with(
    limits: ConnectionLimits, on_refused: Callable[[Reason], None], on_evicted: Callable[[], None] = lambda: None
) -> type[HttpToolsProtocol]:
    """Return the protocol class that uvicorn makes one instance of per connection."""
    members = {
        "limits": limits,
        "on_refused": staticmethod(on_refused),
        "on_evicted": staticmethod(on_evicted),
        "idle": {},
    }
    return type("LimitedProtocol", (DeadlineProtocol,), members)


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol within limits."""

    limits: ConnectionLimits
    on_refused: Callable[[Reason], None]
    on_evicted: Callable[[], None]
    idle: "dict[DeadlineProtocol, None]"
    """Of all connections those that wait for nothing, the longest first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = _Phase.HEADERS
        self._due_s = 0.0
        self._armed_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._fed_bytes = 0
        self._header_bytes = 0
        self._body_bytes = 0
        self._body_began_s = 0.0
        self._surplus = False
        self._stopping = False
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and expect a request."""
        super().connection_made(transport)
        self._surplus = len(self.connections) > self.limits.max_connections and not self._evict_one()
        if len(self.connections) > _HARD_CONNECTION_FACTOR * self.limits.max_connections:
            transport.abort()
        else:
            self.idle[self] = None
            self._expect_by(self.loop.time() + self.limits.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self.idle.pop(self, None)
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then look at what is still missing."""
        self.idle.pop(self, None)
        self._fed_bytes = len(data)
        super().data_received(data)
        if self._phase is _Phase.NONE:
            if self._timer is not None:
                self._expect_nothing()
            if self.cycle.response_complete and self.timeout_keep_alive_task is None:
                self._expect_next()
        elif self.transport.is_closing():
            self._expect_nothing()
        elif self._phase is _Phase.HEADERS:
            self._header_bytes += len(data)
            if self._header_bytes > self.limits.max_header_bytes:
                self._refuse(Reason.HEADERS_TOO_LARGE)
            elif self._timer is None:
                self._expect_by(self.loop.time() + self.limits.header_timeout_s)
        elif not self.cycle.response_complete:
            grown_s = self._body_bytes / self.limits.min_body_rate
            self._expect_by(self._body_began_s + self.limits.body_timeout_s + grown_s)

    def on_message_begin(self) -> None:
        """Start a request."""
        self._phase = _Phase.HEADERS
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hand the request over, or refuse it for its headers' size or for want of a place."""
        if self._headers_too_large():
            self._refuse(Reason.HEADERS_TOO_LARGE)
        elif self._surplus:
            self._refuse(Reason.OVERLOADED)
        else:
            self._phase = _Phase.BODY
            self._body_bytes = 0
            self._body_began_s = self.loop.time()
            super().on_headers_complete()
            if self._stopping:
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count the bytes that extend the deadline."""
        if not self._refused:
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect nothing more of this request."""
        if not self._refused:
            self._phase = _Phase.NONE
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give what remains of a body that nobody reads a short while, so that the client sees its answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._phase is _Phase.BODY:
            self._expect_by(self.loop.time() + LINGER_S)
        elif self._phase is _Phase.NONE and self.cycle.response_complete:
            self.idle[self] = None

    def shutdown(self) -> None:
        """End the connection once what it has begun is answered."""
        if self._phase is _Phase.HEADERS and self._header_bytes:
            self._stopping = True
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what is not HTTP, with a body like every other refusal's."""
        if not self._refused:
            self._refuse(Reason.HTTP_MALFORMED)

    def _headers_too_large(self) -> bool:
        # only what came in large pieces is worth counting exactly
        limit = self.limits.max_header_bytes
        if self._header_bytes + self._fed_bytes <= limit:
            return False
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limit

    def _expect_by(self, due_s: float) -> None:
        """Set the due time; a timer that rings earlier is set again when it does."""
        self._due_s = due_s
        if self._timer is not None and self._armed_s > due_s:
            self._expect_nothing()
        if self._timer is None:
            self._armed_s = due_s
            self._timer = self.loop.call_at(due_s, self._on_due)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _evict_one(self) -> bool:
        """End the connection that has been idle for longest; return whether there was one."""
        longest = next(iter(self.idle), None)
        if longest is None:
            return False
        del self.idle[longest]
        longest.transport.close()
        self.on_evicted()
        return True

    def _expect_next(self) -> None:
        """Start keep-alive again: uvicorn did at the answer, and the rest of the body has ended that."""
        self.idle[self] = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _on_due(self) -> None:
        self._timer = None
        answering = self.cycle is not None and not self.cycle.response_complete
        silent = self._phase is _Phase.HEADERS and not self._header_bytes
        if self.transport.is_closing() or self._phase is _Phase.NONE:
            return
        if self._armed_s < self._due_s:
            self._expect_by(self._due_s)
        elif self._phase is _Phase.HEADERS and answering:
            # the next request of a pipeline waits for the answer to the one before
            self._expect_by(self.loop.time() + self.limits.header_timeout_s)
        elif silent or not (answering or self._phase is _Phase.HEADERS):
            # nobody waits for an answer: a connection made in advance, or one that was answered already
            self.transport.close()
        else:
            self._refuse(Reason.REQUEST_TIMEOUT)

    def _refuse(self, reason: Reason) -> None:
        """Answer in the application's place and close."""
        self._refused = True
        self._expect_nothing()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_answer(reason, self.limits.retry_after_s))
        self.transport.close()
        self.on_refused(reason)


def _answer(reason: Reason, retry_after_s: float) -> bytes:
    status = reason.status or 400
    body = orjson.dumps({"error": reason, "message": reason.describe})
    head = [
        STATUS_LINE[status],
        b"content-type: application/json\r\n",
        b"content-length: %d\r\n" % len(body),
        b"connection: close\r\n",
    ]
    if status == 503:
        head.append(b"retry-after: %d\r\n" % round(retry_after_s))
    return b"".join([*head, b"\r\n", body])
