"""The request as Falcon's type, with what this gateway needs: the headers early, the body in bounds.

Two things differ from Falcon's own. The responder runs as soon as the headers are there, so that a key is checked
before a body is read (Falcon waits for the body's first bytes, and with them tells `Expect: 100-continue` clients to
send). And a client that goes away in the middle of a body raises `ClientGone`: Falcon's stream would end there as if
all had come, and half a recording chunk would be stored.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote_from_bytes

import falcon.asgi
import orjson

from ingest_gateway.admission.project_key import parameters
from ingest_gateway.admission.refusal import Refusal
from schemas.reasons import Reason

AsgiEvent = dict[str, Any]
Receive = Callable[[], Awaitable[AsgiEvent]]
Send = Callable[[AsgiEvent], Awaitable[None]]
AsgiApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

_HEADERS_ARE_THERE: AsgiEvent = {"type": "http.request", "body": b"", "more_body": True}
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class GatewayRequest(falcon.asgi.Request):
    """A request whose parts are read once."""

    def __init__(self, scope: dict[str, Any], receive: Receive, **kwargs: Any) -> None:
        super().__init__(scope, receive, **kwargs)
        self._receive_event = receive
        self.raw_headers: dict[bytes, bytes] = self._asgi_headers
        """Lower-case names; several values of a name are joined by commas."""
        self.query: dict[str, str] = parameters(self.params) if self.query_string else {}
        self.began_s = 0.0
        """When the headers were there, by time.perf_counter."""
        self.origin: str = self.raw_headers.get(b"origin", b"").decode("latin-1")

    def declared_length(self) -> int:
        """Return Content-Length, 0 if it is not told; the HTTP parser has checked it."""
        return int(self.raw_headers.get(b"content-length", b"0"))

    async def read_body(self, *, limit: int, hold: Callable[[int], None]) -> bytes:
        """Read the whole body; `hold` is told each part's size before it is kept, and may refuse.

        Raises:
            Refusal: `body_too_large`.
            ClientGone: the connection ended before the body did.
        """
        if self.declared_length() > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            event = await self._receive_event()
            if event["type"] == "http.disconnect":
                raise ClientGone
            part: bytes = event.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            hold(len(part))
            parts.append(part)
            more = event.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class HeadersFirst:
    """Call an application as soon as the headers are there."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer the application's first question at once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not scope["query_string"].isascii():
            # Falcon decodes it as UTF-8 before it can handle an error
            scope["query_string"] = quote_from_bytes(scope["query_string"], _URL_CHARACTERS).encode()
        try:
            await self._app(scope, _AfterHeaders(receive), send)
        except asyncio.CancelledError:
            await _say_shutting_down(send)


async def _say_shutting_down(send: Send) -> None:
    """Answer a request that the deadline of the shutdown cuts off: whether it was stored is unknown."""
    body = orjson.dumps({"error": Reason.SHUTTING_DOWN, "message": Reason.SHUTTING_DOWN.describe})
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), (b"retry-after", b"1")]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": Reason.SHUTTING_DOWN.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _AfterHeaders:
    __slots__ = ("_asked", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._asked = False

    async def __call__(self) -> AsgiEvent:
        if self._asked:
            return await self._receive()
        self._asked = True
        return _HEADERS_ARE_THERE


def _too_large(limit: int) -> Refusal:
    return Refusal(Reason.BODY_TOO_LARGE, f"the body is larger than {limit} bytes: send less at once")
