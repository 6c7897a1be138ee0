"""`POST /v1/recordings`."""

import asyncio
from dataclasses import replace
from typing import Final

from falcon.asgi import Response

from ingest_gateway.admission.chunk import EVENTS_PER_CHUNK, Place, checked_encoding, chunk_record, place
from ingest_gateway.admission.project_key import key_outside_body
from ingest_gateway.api.answers import accept, accepted_body, dropped_body
from ingest_gateway.api.request import GatewayRequest
from ingest_gateway.api.request_flow import Admitted, Dropped, Lane, RequestFlow
from ingest_gateway.limits.held_bodies import HeldBody
from ingest_gateway.settings import GatewaySettings


class RecordingsResource:
    """Takes one chunk of a recording."""

    route: Final = "recordings"

    def __init__(self, flow: RequestFlow, lane: Lane, settings: GatewaySettings) -> None:
        self._flow = flow
        self._lane = lane
        self._settings = settings
        self._body_bytes = flow.metrics.body_bytes.labels(self.route)

    async def on_post(self, req: GatewayRequest, resp: Response) -> None:
        """Take a chunk; 202 once the broker has it.

        1. The key, in the headers or the query, is checked with its project's rules, then the query.
        2. The gate refuses while the log cannot take more; or, while there is not enough for all, this project.
        3. The body is read within bounds and looked at, not inflated.
        4. It goes to the producer as it came; the answer waits until the broker has it.
        """
        flow = self._flow
        admitted = await flow.admit(req, key_outside_body(req.raw_headers, req.query), self.route)
        if isinstance(admitted, Dropped):
            flow.metrics.dropped_requests.labels(admitted.cause).inc()
            accept(resp, dropped_body(admitted.cause))
            return
        at = place(req.query)
        flow.check_gate(self._lane)
        await flow.check_share(self._lane, admitted.project)
        await flow.acknowledged(self._lane, await self._take(req, admitted, at))
        flow.metrics.accepted_chunks.inc()
        accept(resp, accepted_body(1))

    async def _take(self, req: GatewayRequest, admitted: Admitted, at: Place) -> asyncio.Future[None]:
        """Do step 3 and hand over: the chunk is librdkafka's from then on."""
        flow = self._flow
        with HeldBody(flow.bodies) as held:
            body = await req.read_body(limit=self._settings.max_chunk_bytes, hold=held.hold)
            self._body_bytes.observe(len(body))
            declared = req.query.get("encoding") or req.raw_headers.get(b"content-encoding", b"").decode("latin-1")
            encoding = checked_encoding(body, declared)
            flow.charge(admitted.project, EVENTS_PER_CHUNK)
            record = chunk_record(
                body,
                encoding=encoding,
                codec=admitted.project.settings.recording_codec,
                at=replace(at, visitor_id=None) if admitted.anonymous else at,
                origin=flow.origin(req, admitted),
            )
            return flow.send(self._lane, admitted.project, [record])
