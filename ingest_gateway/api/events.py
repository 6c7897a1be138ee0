"""`POST /v1/events`."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from falcon.asgi import Response

from ingest_gateway.admission.events import Rejected, admit
from ingest_gateway.admission.inflation import IDENTITY, encoding_of, inflate
from ingest_gateway.admission.json_body import Decoded, NotJson, TooManyValues, bound_values, decode
from ingest_gateway.admission.ordinary import OrdinaryReader
from ingest_gateway.admission.privacy import anonymised
from ingest_gateway.admission.project_key import key_in_body, key_outside_body
from ingest_gateway.admission.records import dead_letters, event_records
from ingest_gateway.admission.refusal import Refusal
from ingest_gateway.api.answers import accept, accepted_body, dropped_body
from ingest_gateway.api.request import GatewayRequest
from ingest_gateway.api.request_flow import Admitted, Dropped, Lane, RequestFlow
from ingest_gateway.limits.held_bodies import HeldBody
from ingest_gateway.settings import GatewaySettings
from schemas.reasons import Reason

_INFLATED_HERE = 500_000
"""Bytes: half a millisecond of the loop, and fifty times what an SDK sends."""


class EventsResource:
    """Takes the events of one request."""

    route: Final = "events"

    def __init__(self, flow: RequestFlow, lane: Lane, settings: GatewaySettings, *, version: str) -> None:
        self._flow = flow
        self._lane = lane
        self._settings = settings
        self._version = version
        self._ordinary = OrdinaryReader()
        self._body_bytes = flow.metrics.body_bytes.labels(self.route)
        # one: bombs wait for each other, and hold no more memory than one of them
        self._inflater = ThreadPoolExecutor(1, "inflate")

    async def on_post(self, req: GatewayRequest, resp: Response) -> None:
        """Take events; 202 once the broker has them.

        1. A key in the headers or the query is checked, with its project's rules, before anything is read.
        2. The gate refuses while the log cannot take more; or, while there is not enough for all, this project.
        3. The body is read within bounds, inflated, decoded; a key in the body is checked now.
        4. Each event is judged. The accepted ones and, as dead letters, the refused ones go to the producer together.
        5. The answer waits until the broker has all of them.
        """
        flow = self._flow
        key = key_outside_body(req.raw_headers, req.query)
        admitted = await flow.admit(req, key, self.route) if key else None
        if not isinstance(admitted, Dropped):
            flow.check_gate(self._lane)
            if admitted is not None:
                await flow.check_share(self._lane, admitted.project)
            outcome = await self._take(req, admitted)
            if isinstance(outcome, _Sent):
                flow.metrics.received_events.inc(outcome.events)
                try:
                    await flow.acknowledged(self._lane, outcome.future)
                except BaseException:  # a client that has left, too
                    flow.metrics.unacknowledged_events.inc(outcome.events)
                    raise
                outcome.count(flow)
                accept(resp, outcome.answer)
                return
            admitted = outcome
        flow.metrics.dropped_requests.labels(admitted.cause).inc()
        accept(resp, dropped_body(admitted.cause))

    async def _take(self, req: GatewayRequest, admitted: Admitted | None) -> "_Sent | Dropped":
        """Do steps 3 and 4; everything parsed ends with this call, before the wait for the acknowledgement.

        A body that is large once inflated is inflated in a thread.
        """
        flow = self._flow
        with HeldBody(flow.bodies) as held:
            body = await req.read_body(limit=self._settings.max_body_bytes, hold=held.hold)
            self._body_bytes.observe(len(body))
            json = await self._inflate(req, body)
            _bound(json)
            if admitted is not None and not admitted.anonymous:
                origin = flow.origin(req, admitted)
                if ordinary := self._ordinary.read(json, origin, max_events=self._settings.max_events):
                    record, events = ordinary
                    flow.charge(admitted.project, events)
                    return _Sent(flow.send(self._lane, admitted.project, [record]), events, ())
            decoded = _decode(json)
            if admitted is None:
                admission_ = await flow.admit(req, key_in_body(decoded.value), self.route)
                if isinstance(admission_, Dropped):
                    return admission_
                admitted = admission_
                await flow.check_share(self._lane, admitted.project)
            return self._send(req, admitted, decoded)

    async def _inflate(self, req: GatewayRequest, body: bytes) -> bytes:
        """Inflate here what is small, and elsewhere what is not: nobody waits for another one's bomb."""
        declared = req.query.get("encoding") or req.raw_headers.get(b"content-encoding", b"").decode("latin-1")
        encoding, limit = encoding_of(body, declared), self._settings.max_inflated_bytes
        if encoding == IDENTITY:
            return body
        try:
            return inflate(body, encoding, limit=min(limit, _INFLATED_HERE))
        except Refusal as refusal:
            if refusal.reason is not Reason.BODY_INFLATED_TOO_LARGE or limit <= _INFLATED_HERE:
                raise
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._inflater, partial(inflate, body, encoding, limit=limit))

    def _send(self, req: GatewayRequest, admitted: Admitted, decoded: Decoded) -> "_Sent":
        origin = self._flow.origin(req, admitted)
        admission = admit(
            decoded,
            project_id=origin.project_id,
            received_at=origin.received_at,
            max_events=self._settings.max_events,
        )
        if admitted.anonymous:
            admission = anonymised(admission)
        self._flow.charge(admitted.project, admission.accepted + len(admission.rejected))
        outgoing = [
            *event_records(admission, origin),
            *dead_letters(admission.rejected, origin, version=self._version),
        ]
        sent = self._flow.send(self._lane, admitted.project, outgoing)
        return _Sent(sent, admission.accepted, admission.rejected, restamped=admission.disbelieved)


def _bound(json: bytes) -> None:
    try:
        bound_values(json)
    except TooManyValues as error:
        raise Refusal(Reason.BODY_INFLATED_TOO_LARGE, f"the body holds {error}: send less at once") from error


def _decode(json: bytes) -> Decoded:
    try:
        return decode(json)
    except NotJson as error:
        raise Refusal(Reason.JSON_MALFORMED, f"the body is not JSON: {error}") from error


class _Sent:
    """A request whose records are on their way: what its answer will be, and nothing of what it held."""

    __slots__ = ("accepted", "answer", "future", "reasons", "restamped")

    def __init__(
        self, future: asyncio.Future[None], accepted: int, rejected: Sequence[Rejected], *, restamped: int = 0
    ) -> None:
        self.future = future
        self.accepted = accepted
        self.restamped = restamped
        self.reasons = [refused.reason for refused in rejected]
        self.answer = accepted_body(accepted, rejected, restamped=restamped)

    @property
    def events(self) -> int:
        """Return how many events the request held."""
        return self.accepted + len(self.reasons)

    def count(self, flow: RequestFlow) -> None:
        """Count what was acknowledged."""
        flow.metrics.batch_events.observe(self.events)
        flow.metrics.accepted_events.inc(self.accepted)
        flow.metrics.restamped_events.inc(self.restamped)
        for reason in self.reasons:
            flow.metrics.rejected_events.labels(reason).inc()
