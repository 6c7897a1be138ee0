"""The admin HTTP server of every service, on a thread of its own: /metrics, /healthz, /readyz.

- `/metrics`: the given Prometheus registry.
- `/healthz`: 200 while the process can run a thread at all; it never depends on anything else.
- `/readyz`: 200, or 503 with the reasons why the service cannot do its work now.
"""

import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from schemas.connections import LogSettings

Ready = Callable[[], Sequence[str]]
"""Returns the reasons against readiness, none if ready; called on the server's thread, must not block."""

_CONNECTION_TIMEOUT_S = 5.0


def serve_admin(settings: LogSettings, *, registry: CollectorRegistry, ready: Ready) -> "AdminServer | None":
    """Serve on the port of the settings; None where it is 0."""
    if settings.admin_port == 0:
        return None
    return AdminServer(host=settings.admin_host, port=settings.admin_port, registry=registry, ready=ready)


class AdminServer:
    """A running admin server; port 0 takes a free one."""

    def __init__(self, *, host: str, port: int, registry: CollectorRegistry, ready: Ready) -> None:
        self._server = _Server((host, port), _AdminHandler)
        self._server.answers = {
            "/metrics": lambda accept: _metrics(registry, accept),
            "/healthz": lambda _accept: (HTTPStatus.OK, "text/plain", b"ok\n"),
            "/readyz": lambda _accept: _readiness(ready),
        }
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="admin-http", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # a slow scraper must not delay the end of the process
    block_on_close = False
    answers: dict[str, Callable[[str], tuple[int, str, bytes]]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a scraper that hung up."""


class _AdminHandler(BaseHTTPRequestHandler):
    timeout = _CONNECTION_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /healthz or /readyz\n")
            return
        self._reply(*answer(self.headers.get("Accept", "")))

    def _reply(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep probes and scrapes out of the log."""


def _metrics(registry: CollectorRegistry, accept: str) -> tuple[int, str, bytes]:
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(registry)


def _readiness(ready: Ready) -> tuple[int, str, bytes]:
    reasons = list(ready())
    body = orjson.dumps({"ready": not reasons, "reasons": reasons}) + b"\n"
    return HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK, "application/json", body
