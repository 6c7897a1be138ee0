"""Delivery against a scripted gateway: what is sent again, what is written down, what the rows must then be."""

import asyncio
import contextlib
import gzip
import socketserver
import threading
from collections.abc import Sequence

import orjson
import pytest

from deploy.load.delivery import Client, RetryPolicy, Tally
from deploy.load.ledger import Ledger
from deploy.load.request import ChunkPlace, GatewayAddress, SessionRequest
from ingest_gateway.admission.events import canonical
from schemas.ids import EventIds, event_seed

PROJECT = "3f0c1b52-6f0d-4a3c-9c1e-2b7a5d8e4f10"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 30\r\n\r\n" + b'{"accepted":1,"rejected":[]}  '
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
HASTY = RetryPolicy(first_delay_s=0.001, max_delay_s=0.002, give_up_s=5.0, timeout_s=2.0)


class ScriptedGateway(socketserver.ThreadingTCPServer):
    """Answers each request with the next line of its script; an empty one closes the connection instead."""

    allow_reuse_address = True

    def __init__(self, script: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.script = script
        self.seen: list[bytes] = []


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        gateway = self.server
        assert isinstance(gateway, ScriptedGateway)
        with contextlib.suppress(ConnectionResetError):
            while first := self.rfile.readline():
                head = first + b"".join(iter(self.rfile.readline, b"\r\n"))
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                gateway.seen.append(head + b"\r\n" + self.rfile.read(length))
                answer = gateway.script.pop(0)
                if not answer:
                    break
                self.wfile.write(answer)


def deliver(script: list[bytes], *requests: SessionRequest, policy: RetryPolicy = HASTY) -> tuple[Ledger, list[bytes]]:
    ledger = Ledger(PROJECT)
    with ScriptedGateway(script) as gateway:
        threading.Thread(target=gateway.serve_forever, args=(0.01,)).start()
        asyncio.run(send(gateway.server_address[1], ledger, policy, requests))
        gateway.shutdown()
    return ledger, gateway.seen


async def send(port: int, ledger: Ledger, policy: RetryPolicy, requests: Sequence[SessionRequest]) -> None:
    client = Client(GatewayAddress("127.0.0.1", port), "tfk_key", ledger=ledger, tally=Tally(), policy=policy)
    for request in requests:
        await client.deliver(request)
    client.close()
    # the aborted transport reports its end in the next turn of the loop
    await asyncio.sleep(0)


def batch(*events: object, session_id: str = "s1") -> SessionRequest:
    body = orjson.dumps({"session_id": session_id, "events": events})
    return SessionRequest(session_id, "agent", lambda: body, len(events))


CLICK = {"event_type": "click", "timestamp": 1_795_373_461_472}


def test_an_acknowledged_batch_becomes_rows_with_the_ids_that_the_gateway_gives() -> None:
    ledger, seen = deliver([ACCEPTED], batch(CLICK, {**CLICK, "id": "0190163d-8694-739b-aea5-966c26f8ad91"}))
    seed = event_seed(
        project_id=PROJECT,
        session_id="s1",
        events=canonical([CLICK, {**CLICK, "id": "0190163d-8694-739b-aea5-966c26f8ad91"}]),
    )
    assert list(ledger.acknowledged_events()) == [
        ("s1", EventIds(seed=seed, count=1).make(0, 1_795_373_461_472), 1_795_373_461_472),
        ("s1", "0190163d-8694-739b-aea5-966c26f8ad91", 1_795_373_461_472),
    ]
    assert seen[0].startswith(b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Bearer tfk_key\r\n" in seen[0]


def test_a_busy_gateway_gets_the_same_bytes_again() -> None:
    ledger, seen = deliver([BUSY, BUSY, ACCEPTED], batch(CLICK))
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert (len(ledger.acknowledged), ledger.unknown, ledger.refused) == (1, [], [])


def test_a_lost_answer_is_followed_by_the_same_bytes_on_a_new_connection() -> None:
    ledger, seen = deliver([ACCEPTED, b"", ACCEPTED], batch(CLICK), batch(CLICK, CLICK))
    assert seen[1] == seen[2]
    assert [entry.request.event_count for entry in ledger.acknowledged] == [1, 2]


def test_a_rejected_event_need_not_become_a_row() -> None:
    answer = b'{"accepted":1,"rejected":[{"index":0,"reason":"event_type_missing"}]}'
    script = [b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)]
    ledger, _ = deliver(script, batch({}, CLICK))
    assert ledger.acknowledged[0].rejected == frozenset({0})


def test_nothing_of_a_batch_over_quota_needs_to_become_a_row() -> None:
    answer = b'{"accepted":0,"rejected":[],"quota_limited":true}'
    script = [b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)]
    ledger, _ = deliver(script, batch(CLICK))
    assert list(ledger.acknowledged_events()) == []


def test_a_refusal_is_final() -> None:
    answer = b'{"reason":"key_unknown"}'
    script = [b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)]
    ledger, seen = deliver(script, batch(CLICK))
    assert [(entry.status, entry.reason) for entry in ledger.refused] == [(401, "key_unknown")]
    assert len(seen) == 1


def test_what_is_given_up_may_have_been_stored() -> None:
    request = batch(CLICK)
    ledger, _ = deliver([BUSY] * 50, request, policy=RetryPolicy(first_delay_s=0.01, give_up_s=0.03))
    assert ledger.unknown == [request]
    assert len(list(ledger.unknown_events())) == 1


def test_a_closed_port_is_tried_again_until_the_policy_gives_up() -> None:
    request, ledger = batch(CLICK), Ledger(PROJECT)
    with ScriptedGateway([]) as gateway:
        port = gateway.server_address[1]
    asyncio.run(send(port, ledger, RetryPolicy(first_delay_s=0.01, give_up_s=0.05), [request]))
    assert ledger.unknown == [request]


def test_a_chunk_travels_compressed_with_its_place_in_the_query() -> None:
    request = SessionRequest("s/1", "agent", lambda: b'[{"type":4}]', 1, ChunkPlace("w 1", 3, "v1"), compressed=True)
    ledger, seen = deliver([ACCEPTED], request)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/recordings?session_id=s%2F1&window_id=w+1&seq=3&visitor_id=v1 HTTP/1.1\r\n")
    assert b"\r\nContent-Encoding: gzip\r\n" in head
    assert gzip.decompress(body) == b'[{"type":4}]'
    assert list(ledger.acknowledged_chunks()) == [request]
    assert list(ledger.acknowledged_events()) == []


@pytest.mark.parametrize(
    ("attempt", "retry_after_s", "share", "delay_s"),
    [
        (1, None, 1.0, 0.2),
        (1, None, 0.0, 0.1),
        (3, None, 1.0, 0.8),
        (50, None, 1.0, 5.0),
        (1, 7.0, 0.5, 7.0),
        (50, 1.0, 1.0, 5.0),
    ],
)
def test_delays_double_up_to_a_bound_and_heed_the_server(
    attempt: int, retry_after_s: float | None, share: float, delay_s: float
) -> None:
    assert RetryPolicy().delay_s(attempt, retry_after_s=retry_after_s, share=share) == pytest.approx(delay_s)


@pytest.mark.parametrize("url", ["127.0.0.1:8100", "https://gateway.example", "http://"])
def test_an_address_that_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://host:port"):
        GatewayAddress.parse(url)
