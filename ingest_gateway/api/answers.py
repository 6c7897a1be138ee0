"""What the gateway answers: bodies of success, and one way from a refusal to an HTTP response."""

import math
import random
from collections.abc import Iterable

import falcon
import orjson
from falcon.asgi import Response

from ingest_gateway.admission.events import Rejected
from ingest_gateway.admission.inflation import ENCODINGS
from ingest_gateway.admission.refusal import Refusal
from schemas.reasons import Reason

JSON = "application/json"


def accept(resp: Response, body: bytes) -> None:
    """Answer 202."""
    resp.status = falcon.HTTP_202
    resp.content_type = JSON
    resp.data = body


def accepted_body(accepted: int, rejected: Iterable[Rejected] = (), *, restamped: int = 0) -> bytes:
    """Return what a request's client is told: how many events are stored, of these with another time, and why not."""
    verdicts = [{"index": r.index, "reason": r.reason, "message": r.message} for r in rejected]
    told = {"accepted": accepted, "rejected": verdicts}
    return orjson.dumps(told | {"restamped": restamped} if restamped else told)


def dropped_body(cause: str) -> bytes:
    """Return what the client of a request is told of which nothing is stored; `quota_limited` makes SDKs stop."""
    return orjson.dumps({"accepted": 0, "rejected": [], cause: True})


def refuse(resp: Response, refusal: Refusal, *, retry_after_s: float) -> None:
    """Answer a refusal; what may pass by itself says when to come back."""
    status = refusal.reason.status or 400
    resp.status = falcon.code_to_http_status(status)
    resp.content_type = JSON
    resp.data = orjson.dumps({"error": refusal.reason, "message": refusal.message})
    if status in (429, 503):
        # spread over twice the time, so that clients do not come back at once
        wait_s = refusal.retry_after_s or retry_after_s * (1 + random.random())  # noqa: S311 - no secret
        resp.set_header("Retry-After", str(max(1, math.ceil(wait_s))))
    if status == 401:
        resp.set_header("WWW-Authenticate", "Bearer")
    if refusal.reason is Reason.ENCODING_UNSUPPORTED:
        resp.set_header("Accept-Encoding", ", ".join(ENCODINGS))
