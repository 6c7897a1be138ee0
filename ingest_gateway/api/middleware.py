"""What happens to every request: CORS, and counting.

CORS. A page of any origin may ask, since a preflight carries no key; whether it may send is decided by its project and
answered 403. The origin is mirrored with credentials allowed, because sendBeacon always sends them: no cookie is ever
read or set. An origin that its project does not list gets no CORS headers, so the page cannot read the refusal either.
"""

import time

import falcon
from falcon.asgi import Response
from prometheus_client import Counter, Histogram

from ingest_gateway.api.request import GatewayRequest
from ingest_gateway.metrics import GatewayMetrics

ALLOW_METHODS = "POST, GET, OPTIONS"
ALLOW_HEADERS = "Authorization, Content-Type, Content-Encoding, X-TraceFlow-Key"
EXPOSE_HEADERS = "Retry-After"

_MAX_MIRRORED_HEADERS = 1_000


class Cors:
    """Answers preflights before anything else, and lets pages read answers."""

    def __init__(self, *, max_age_s: int) -> None:
        self._max_age = str(max_age_s)

    async def process_request(self, req: GatewayRequest, resp: Response) -> None:
        """Answer a preflight."""
        if req.method != "OPTIONS" or not req.origin or b"access-control-request-method" not in req.raw_headers:
            return
        asked = req.raw_headers.get(b"access-control-request-headers", b"").decode("latin-1")
        resp.status = falcon.HTTP_204
        resp.set_headers(
            {
                "Access-Control-Allow-Methods": ALLOW_METHODS,
                # whatever a tracing library adds to requests may come along
                "Access-Control-Allow-Headers": asked if 0 < len(asked) <= _MAX_MIRRORED_HEADERS else ALLOW_HEADERS,
                "Access-Control-Max-Age": self._max_age,
            }
        )
        resp.complete = True

    async def process_response(self, req: GatewayRequest, resp: Response, _resource: object, _succeeded: bool) -> None:
        """Let the page read the answer."""
        if req.origin and resp.status != falcon.HTTP_403:
            resp.set_headers(
                {
                    "Access-Control-Allow-Origin": req.origin,
                    "Access-Control-Allow-Credentials": "true",
                    "Access-Control-Expose-Headers": EXPOSE_HEADERS,
                    "Vary": "Origin",
                }
            )


class Observe:
    """Counts and times every request; while the gateway stops, it tells clients to come back on another connection."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._bound: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.stopping = False

    async def process_request(self, req: GatewayRequest, _resp: Response) -> None:
        """Start the clock."""
        req.began_s = time.perf_counter()
        self._metrics.in_flight.inc()

    async def process_response(self, req: GatewayRequest, resp: Response, resource: object, _succeeded: bool) -> None:
        """Count the answer."""
        route = getattr(resource, "route", "none")
        self._metrics.in_flight.dec()
        answered, seconds = self._bound.get((route, resp.status_code)) or self._bind(route, resp.status_code)
        answered.inc()
        seconds.observe(time.perf_counter() - req.began_s)
        if self.stopping:
            resp.set_header("Connection", "close")

    def _bind(self, route: str, code: int) -> tuple[Counter, Histogram]:
        """Look labels up once per route and code: it costs as much as the counting."""
        metrics = self._metrics
        bound = self._bound[route, code] = (
            metrics.requests.labels(route, str(code)),
            metrics.request_seconds.labels(route),
        )
        return bound
