"""What load balancers and tools ask for: health, readiness, the description of the interface."""

from collections.abc import Callable, Sequence

import falcon
import orjson
from falcon.asgi import Request, Response

from ingest_gateway.api.answers import JSON


class Healthz:
    """Alive: the loop answers. It never depends on Kafka, or an outage would restart every gateway."""

    route = "healthz"

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer 200."""
        resp.content_type = falcon.MEDIA_TEXT
        resp.data = b"ok\n"


class Readyz:
    """Ready: what arrives now can be stored."""

    route = "readyz"

    def __init__(self, against: Callable[[], Sequence[str]]) -> None:
        self._against = against

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer 200, or 503 with the reasons."""
        reasons = list(self._against())
        resp.status = falcon.HTTP_503 if reasons else falcon.HTTP_200
        resp.content_type = JSON
        resp.data = orjson.dumps({"ready": not reasons, "reasons": reasons})


class OpenApi:
    """The interface, described for tools."""

    route = "openapi"

    def __init__(self, document: bytes) -> None:
        self._document = document

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Answer the OpenAPI document."""
        resp.content_type = JSON
        resp.data = self._document
