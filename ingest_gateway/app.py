"""Build the HTTP application from its parts."""

from typing import Any

import falcon
import structlog
from falcon.asgi import App, Response

from ingest_gateway.admission.refusal import Refusal
from ingest_gateway.api.answers import refuse
from ingest_gateway.api.events import EventsResource
from ingest_gateway.api.middleware import Cors, Observe
from ingest_gateway.api.recordings import RecordingsResource
from ingest_gateway.api.request import ClientGone, GatewayRequest, HeadersFirst
from ingest_gateway.api.service import Healthz, OpenApi, Readyz
from ingest_gateway.metrics import GatewayMetrics
from schemas.reasons import Reason

log = structlog.get_logger()

_BY_STATUS = {404: Reason.NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED}


def build_app(
    *,
    events: EventsResource,
    recordings: RecordingsResource,
    readyz: Readyz,
    openapi: OpenApi,
    cors: Cors,
    observe: Observe,
    metrics: GatewayMetrics,
    retry_after_s: float,
) -> HeadersFirst:
    """Return the ASGI application."""
    middleware: list[Any] = [observe, cors]
    app = App(middleware=middleware, request_type=GatewayRequest)
    app.req_options.strip_url_path_trailing_slash = True
    app.add_route("/v1/events", events)
    app.add_route("/v1/recordings", recordings)
    app.add_route("/healthz", Healthz())
    app.add_route("/readyz", readyz)
    app.add_route("/openapi.json", openapi)
    errors = _Errors(metrics, retry_after_s)
    app.add_error_handler(Exception, errors.on_bug)
    app.add_error_handler(falcon.HTTPError, errors.on_http_error)
    app.add_error_handler(Refusal, errors.on_refusal)
    app.add_error_handler(ClientGone, errors.on_client_gone)
    return HeadersFirst(app)


class _Errors:
    """Every way in which a request ends without 2xx."""

    def __init__(self, metrics: GatewayMetrics, retry_after_s: float) -> None:
        self._metrics = metrics
        self._retry_after_s = retry_after_s

    async def on_refusal(self, _req: GatewayRequest, resp: Response, refusal: Refusal, _params: object) -> None:
        """Answer what was decided."""
        self._answer(resp, refusal)

    async def on_http_error(
        self, _req: GatewayRequest, resp: Response, error: falcon.HTTPError, _params: object
    ) -> None:
        """Answer what Falcon's router found: no such path or method."""
        headers = dict(error.headers or {})
        resp.set_headers(headers)
        reason = _BY_STATUS.get(error.status_code, Reason.HTTP_MALFORMED)
        allowed = headers.get("Allow")
        self._answer(resp, Refusal(reason, f"this path takes {allowed}" if allowed else ""))

    async def on_client_gone(self, _req: GatewayRequest, resp: Response, _error: ClientGone, _params: object) -> None:
        """Leave: nobody reads the answer."""
        resp.status = "499 Client Closed Request"

    async def on_bug(self, req: GatewayRequest, resp: Response, error: Exception, _params: object) -> None:
        """Answer 500 and leave the cause in the log: neither key nor body is in it."""
        log.error("request_failed", path=req.path, exc_info=error)
        self._answer(resp, Refusal(Reason.INTERNAL_ERROR))

    def _answer(self, resp: Response, refusal: Refusal) -> None:
        self._metrics.refused.labels(refusal.reason).inc()
        refuse(resp, refusal, retry_after_s=self._retry_after_s)
