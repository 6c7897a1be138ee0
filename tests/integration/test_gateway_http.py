"""The gateway through real HTTP, with a real broker and a real database."""

import gzip
import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from adapters.projects import create_project
from schemas.messages import parse_dead_letter_headers
from schemas.projects import ProjectSettings
from tests.integration.gateway_process import (
    Answer,
    Gateway,
    administer,
    gateway,
    read_answer,
    read_topic,
    stored_events,
    wait_until,
)

DOCS = Path(__file__).parents[2] / "deploy" / "docs" / "gateway.md"
ID = "0190163d-8694-739b-aea5-966c26f8ad92"
GOOD = {"event_type": "click", "event_name": "good"}
CHUNK = b'[{"type":4,"timestamp":1764057600000,"data":{"href":"https://a.example/","width":1,"height":1}}]'
CHUNKS = "/v1/recordings?session_id=s&window_id=w&seq=0"


def documented() -> dict[str, tuple[int, str]]:
    """Return the table "Bad input": what is sent, status, reason."""
    section = DOCS.read_text().partition("## Bad input\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {row[0]: (int(row[1]), row[2].strip("`")) for row in rows if row[1].isdigit()}


def reason_of(answer: Answer) -> str:
    """Return the reason of a refusal, or of the one refused event."""
    if answer.status != 202:
        assert answer.body["message"]
        return str(answer.body["error"])
    return "".join(r["reason"] for r in answer.body["rejected"])


def with_good(event: str, session: str = "s") -> bytes:
    """Put an event, as JSON text, beside a good one."""
    return f'{{"session_id":"{session}","events":[{json.dumps(GOOD)},{event}]}}'.encode()


def field(json_text: str) -> bytes:
    return with_good('{"event_type":"bad",' + json_text + "}")


def answered_raw(running: Gateway, *parts: bytes) -> Answer:
    """Send bytes as they are and read what comes back."""
    with running.socket() as connection:
        for part in parts:
            connection.sendall(part)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return read_answer(response)


Send = Callable[[Gateway, str], Answer]


def events(body: bytes, **headers: str) -> Send:
    return lambda running, key: running.events(key, body, **headers)


def chunk(body: bytes, path: str = CHUNKS, **headers: str) -> Send:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda running, key: running.request("POST", path, body, {"X-TraceFlow-Key": key, **named})


NESTED = "[" * 40 + "]" * 40
LARGE = "x" * 10_000_000

BAD_INPUT: dict[str, Send] = {
    "an empty body": events(b""),
    "malformed JSON": events(b'{"session_id":"s","events":[}'),
    "nesting deeper than 1,024 levels": events(b'{"session_id":"s","events":' + b"[" * 2_000 + b"]" * 2_000 + b"}"),
    "a bare array": events(b"[]"),
    "an empty array of events": events(b'{"session_id":"s","events":[]}'),
    "no events": events(b'{"session_id":"s"}'),
    "events that are no array": events(b'{"session_id":"s","events":{}}'),
    "a context that is no object": events(b'{"session_id":"s","context":1,"events":[]}'),
    "no session_id": events(b'{"events":[{"event_type":"click"}]}'),
    "a session_id that is a number": events(b'{"session_id":1,"events":[]}'),
    "a session_id with a NUL": events(b'{"session_id":"a\\u0000","events":[]}'),
    "1,001 events": events(b'{"session_id":"s","events":[' + b"{}," * 1_000 + b"{}]}"),
    "a body larger than the limit": events(b'{"session_id":"s","events":[]}' + b" " * 1_000_000),
    "a gzip bomb": events(gzip.compress(b" " * 30_000_000)),
    "a zstd bomb": events(zstandard.ZstdCompressor().compress(b" " * 30_000_000)),
    "millions of JSON values in a few kB of gzip": events(
        gzip.compress(b'{"session_id":"s","events":[{"event_type":"click","metadata":[' + b"[]," * 6_000_000 + b"0]}]}")
    ),
    "truncated gzip": events(gzip.compress(with_good("{}"))[:-4]),
    "plain JSON declared as gzip": events(with_good("{}"), Content_Encoding="gzip"),
    "an unknown Content-Encoding": events(with_good("{}"), Content_Encoding="br"),
    "no key": lambda running, _: running.request("POST", "/v1/events", b'{"session_id":"s","events":[]}'),
    "an unknown key": lambda running, _: running.events("tfk_" + "0" * 32, {"session_id": "s", "events": []}),
    "an origin that is not listed": events(b"{}", Origin="https://evil.example"),
    "a path that does not exist": lambda running, _: running.request("POST", "/v2/events", b"{}"),
    "a method that does not fit": lambda running, _: running.request("GET", "/v1/events"),
    "something that is not HTTP": lambda running, _: answered_raw(running, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    "headers larger than the limit": lambda running, _: answered_raw(
        running, b"GET /healthz HTTP/1.1\r\n", *[b"x-filler: " + b"y" * 8_000 + b"\r\n"] * 5
    ),
    "headers that come too slowly": lambda running, _: answered_raw(running, b"GET /healthz HTTP/1.1\r\nHost: a\r\n"),
    "a body that comes too slowly": lambda running, key: answered_raw(
        running,
        f"POST /v1/events HTTP/1.1\r\nHost: a\r\nX-TraceFlow-Key: {key}\r\nContent-Length: 100\r\n\r\n{{".encode(),
    ),
    "an event that is no object": events(with_good("7")),
    "an event without event_type": events(with_good("{}")),
    "an event_type that is a finding": events(with_good('{"event_type":"rage_click"}')),
    "a text that is a number": events(field('"page_url":5')),
    "a coordinate that is a string": events(field('"x_position":"12"')),
    "a coordinate beyond int4": events(field('"x_position":2147483648')),
    "a coordinate beyond 64 bits": events(field('"x_position":123456789012345678901234567890')),
    "a coordinate that is NaN": events(field('"x_position":NaN')),
    "NaN within metadata": events(field('"metadata":{"a":[NaN]}')),
    "an id that is no UUID": events(field('"id":"1"')),
    "a timestamp that is no time": events(field('"timestamp":"yesterday"')),
    "metadata that is no object": events(field('"metadata":[1]')),
    "metadata deeper than 32 levels": events(field(f'"metadata":{{"a":{NESTED}}}')),
    "metadata larger than 65,536 bytes": events(field(f'"metadata":{{"a":"{"x" * 70_000}"}}')),
    "an event with a bad session_id of its own": events(field('"session_id":""')),
    "a NUL in a text": events(field('"page_title":"a\\u0000b","metadata":{"k\\u0000":"v\\u0000"}')),
    "a lone surrogate": events(field('"page_title":"lone \\ud83d"')),
    "bytes that are not UTF-8": events(field('"page_title":"latin @"').replace(b"@", b"\xe9")),
    "a string of 10 MB": events(gzip.compress(field(f'"element_text":"{LARGE}"'))),
    "a timestamp of year 1": events(field('"timestamp":"0001-01-01T00:00:00Z"')),
    "a timestamp of year 9999": events(field('"timestamp":"9999-12-31T23:59:59Z"')),
    "a negative coordinate": events(field('"x_position":-7')),
    "a fractional coordinate": events(field('"y_position":7.6')),
    "an integer beyond 64 bits in metadata": events(field('"metadata":{"n":123456789012345678901234567890}')),
    "gzip that is not declared": events(gzip.compress(field('"event_name":"undeclared"'))),
    "an unknown field": events(field('"cart":3')),
    "another project's session_id": events(with_good('{"event_type":"bad"}', session="of-another-project")),
    "an event id that another session holds": events(field(f'"id":"{ID}"')),
    "a chunk without window_id": chunk(CHUNK, "/v1/recordings?session_id=s&seq=0"),
    "a chunk with a seq that is no number": chunk(CHUNK, "/v1/recordings?session_id=s&window_id=w&seq=x"),
    "a chunk without session_id": chunk(CHUNK, "/v1/recordings?window_id=w&seq=0"),
    "an empty chunk": chunk(b""),
    "a chunk that is an object": chunk(b'{"events":[]}'),
    "a gzipped chunk that is an object": chunk(gzip.compress(b'{"events":[]}')),
    "a plain chunk declared as gzip": chunk(CHUNK, Content_Encoding="gzip"),
    "a chunk larger than the limit": chunk(b"[" + b" " * 4_000_000 + b"]"),
    "a chunk whose gzip is truncated": chunk(gzip.compress(CHUNK)[:-4]),
    "a chunk whose array is broken further in": chunk(CHUNK[:-5]),
    "a chunk of something other than rrweb events": chunk(b'["a"]'),
}


def test_every_row_of_the_bad_input_table_is_answered_as_documented(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p", settings=ProjectSettings(origins=("https://shop.example",)))
    assert sorted(BAD_INPUT) == sorted(documented())
    slow = {"header_timeout_s": "1", "body_timeout_s": "1"}
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, **slow) as running:
        answers = {name: send(running, project.key) for name, send in BAD_INPUT.items()}
        assert {name: (answer.status, reason_of(answer)) for name, answer in answers.items()} == documented()

        assert answers["an empty array of events"].body == {"accepted": 0, "rejected": []}
        good = [n for n, a in answers.items() if a.status == 202 and "chunk" not in n and "empty" not in n]
        for name in good:
            accepted = 1 if reason_of(answers[name]) else 2
            assert answers[name].body["accepted"] == accepted, name
        assert answers["a coordinate that is NaN"].body["rejected"] == [
            {
                "index": 1,
                "reason": "event_field_invalid",
                "message": "x_position holds NaN or an infinite number, which is no JSON",
            }
        ]

        restamped = [name for name in good if "restamped" in answers[name].body]
        assert {answers[name].body["restamped"] for name in restamped} == {1}
        assert running.metric("traceflow_gateway_restamped_events_total") == len(restamped) == 2

        _stored_as_documented(stored_events(kafka, topics), count=len(good))
        refused = [name for name in good if reason_of(answers[name])]
        letters = [parse_dead_letter_headers(r.headers)[0] for r in read_topic(kafka, f"{topics}dead_letters")]
        assert sorted(letter.reason for letter in letters) == sorted(reason_of(answers[name]) for name in refused)
        assert {(letter.stage, letter.index) for letter in letters} == {("gateway", 1)}

        for reason in {reason_of(answers[name]) for name in refused}:
            sample = f'traceflow_gateway_rejected_events_total{{reason="{reason}"}}'
            assert running.metric(sample) == sum(letter.reason == reason for letter in letters)
        for reason in {reason_of(answer) for answer in answers.values() if answer.status >= 400}:
            assert running.metric(f'traceflow_gateway_refused_requests_total{{reason="{reason}"}}') > 0
        assert running.stop() == 0


def _stored_as_documented(stored: list[dict[str, Any]], *, count: int) -> None:
    """Check that good neighbours are there and that repaired events look as the table says."""
    assert sum(event.get("event_name") == "good" for event in stored) == count
    repaired = [event for event in stored if event["event_type"] == "bad"]
    assert {"a\ufffdb", "lone \ufffd", "latin \ufffd"} <= {event.get("page_title") for event in repaired}
    assert {"k\ufffd": "v\ufffd"} in [event.get("metadata") for event in repaired]
    assert "x" * 1_024 in [event.get("element_text") for event in repaired]
    years = {"0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"}
    restamped = [e for e in repaired if e.get("metadata", {}).get("client_timestamp") in years]
    assert [e["restamped"] for e in restamped] == [True, True]
    assert {-7, 8} <= {event.get("x_position", event.get("y_position")) for event in repaired}
    assert {"n": 1.2345678901234568e29} in [event.get("metadata") for event in repaired]
    assert {"cart": 3} in [event.get("metadata") for event in repaired]
    assert "undeclared" in [event.get("event_name") for event in repaired]


def test_what_is_acknowledged_is_in_kafka_by_session_with_its_origin(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    with administer(database) as connection:
        settings = ProjectSettings(ip_policy="truncate", session_gap_ms=60_000, recording_codec="gzip")
        project = create_project(connection, name="p", settings=settings)
    trust = {"trusted_proxies": "127.0.0.0/8"}
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, **trust) as running:
        body = {
            "session_id": "s",
            "visitor_id": "v",
            "events": [{"event_type": "a"}, {"event_type": "b", "session_id": "t"}],
        }
        headers = {"User_Agent": "agent/1", "X_Forwarded_For": "203.0.113.77"}
        before_ms = int(time.time() * 1000)
        assert running.events(project.key, body, **headers).body == {"accepted": 2, "rejected": []}
        packed = gzip.compress(CHUNK)
        path = f"{CHUNKS}&key={project.key}&visitor_id=v"
        assert running.request("POST", path, packed, {"X-Forwarded-For": "203.0.113.77"}).status == 202

        records = sorted(read_topic(kafka, f"{topics}events"))
        assert [record.key.decode() for record in records] == [f"{project.id}/s", f"{project.id}/t"]
        assert all(record.headers == [("kind", b"events")] for record in records)
        batch = json.loads(records[0].value)
        assert before_ms <= batch["received_at"] <= int(time.time() * 1000)
        assert {name: batch[name] for name in ("v", "project_id", "visitor_id", "ip", "user_agent", "settings")} == {
            "v": 1,
            "project_id": project.id,
            "visitor_id": "v",
            "ip": "203.0.113.0",
            "user_agent": "agent/1",
            "settings": {"version": 1, "session_gap_ms": 60_000},
        }
        (stored,) = read_topic(kafka, f"{topics}recordings")
        assert (stored.key.decode(), stored.value) == (f"{project.id}/s", packed)
        meta = json.loads(dict(stored.headers)["meta"])
        assert (meta["seq"], meta["window_id"], meta["encoding"], meta["codec"], meta["ip"], meta["visitor_id"]) == (
            0,
            "w",
            "gzip",
            "gzip",
            "203.0.113.0",
            "v",
        )
        assert stored.partition == next(r.partition for r in records if r.key == stored.key), "co-partitioned"


def test_a_request_of_many_large_events_is_split_and_counts_once(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p")
    sent = [{"event_type": "error", "error_stack": f"{n} " + "x" * 15_000} for n in range(200)]
    body = gzip.compress(json.dumps({"session_id": "s", "events": sent}).encode())
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        assert running.events(project.key, body).body["accepted"] == 200
        assert running.events(project.key, body).body["accepted"] == 200
    records = read_topic(kafka, f"{topics}events")
    assert len(records) == 8
    assert max(len(record.value) for record in records) <= 900_000
    stored = stored_events(kafka, topics)
    assert [event["error_stack"].split()[0] for event in stored] == [str(n) for n in range(200)] * 2
    assert len({event["id"] for event in stored}) == 200


def test_pages_may_send_across_origins(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p", settings=ProjectSettings(origins=("https://*.shop.example",)))
    page = {"Origin": "https://www.shop.example"}
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,traceparent"}
        preflight = running.request("OPTIONS", "/v1/events", headers={**page, **asked})
        assert (preflight.status, preflight.body) == (204, b"")
        allowed = {
            name: v for name, v in preflight.headers.items() if name.startswith("access-control-") or name == "vary"
        }
        assert allowed == {
            "access-control-allow-origin": "https://www.shop.example",
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "POST, GET, OPTIONS",
            "access-control-allow-headers": "authorization,traceparent",
            "access-control-expose-headers": "Retry-After",
            "access-control-max-age": "86400",
            "vary": "Origin",
        }

        # as sendBeacon sends: text/plain, no headers of ours, the key in the body
        beacon = {"key": project.key, "session_id": "s", "events": [GOOD]}
        sent = running.request(
            "POST", "/v1/events", json.dumps(beacon).encode(), {**page, "Content-Type": "text/plain"}
        )
        assert (sent.status, sent.body["accepted"]) == (202, 1)
        assert sent.headers["access-control-allow-origin"] == "https://www.shop.example"

        unknown = running.request("POST", "/v1/events?key=tfk_x", b"{}", page)
        assert (unknown.status, unknown.headers["access-control-allow-origin"]) == (401, "https://www.shop.example")
        foreign = running.events(project.key, beacon, Origin="https://shop.example")
        assert (foreign.status, foreign.body["error"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in foreign.headers


def test_a_project_decides_about_rate_quota_and_privacy(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    body = {"session_id": "s", "visitor_id": "v", "context": {"device_fingerprint": "f"}, "events": [GOOD] * 10}
    with administer(database) as connection:
        limited = create_project(connection, name="limited", settings=ProjectSettings(events_per_second=2))
        anonymous = create_project(connection, name="a", settings=ProjectSettings(privacy_signal="anonymise"))
        private = create_project(connection, name="d", settings=ProjectSettings(privacy_signal="drop"))
        used_up = create_project(connection, name="q")
        connection.execute("INSERT INTO auth.users (id) VALUES ('00000000-0000-4000-8000-000000000001')")
        connection.execute(
            "INSERT INTO traceflow_subscriptions (user_id, sessions_limit, sessions_used)"
            " VALUES ('00000000-0000-4000-8000-000000000001', 10, 10)"
        )
        connection.execute(
            "UPDATE traceflow_projects SET owner_id = '00000000-0000-4000-8000-000000000001' WHERE id = %s",
            (used_up.id,),
        )
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        assert running.events(limited.key, body).status == 202
        refused = running.events(limited.key, body)
        assert (refused.status, refused.body["error"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 4

        assert running.events(used_up.key, body).body == {"accepted": 0, "rejected": [], "quota_limited": True}
        assert running.events(private.key, body, Sec_GPC="1").body == {
            "accepted": 0,
            "rejected": [],
            "privacy_signal": True,
        }
        assert running.events(private.key, body).body["accepted"] == 10
        assert running.events(anonymous.key, body, DNT="1").body["accepted"] == 10
    batches = {r.key.split(b"/")[0].decode(): json.loads(r.value) for r in read_topic(kafka, f"{topics}events")}
    assert sorted(batches) == sorted([limited.id, anonymous.id, private.id])
    assert batches[private.id]["ip"] == "127.0.0.1"
    assert batches[private.id]["visitor_id"] == "v"
    assert not {"ip", "visitor_id", "context"} & batches[anonymous.id].keys()


def test_a_key_is_checked_before_the_body_is_asked_for(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p")
    head = "POST /v1/events?key={} HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n"
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        with running.socket() as connection:
            connection.sendall(head.format("tfk_unknown").encode())
            assert connection.recv(1_000).startswith(b"HTTP/1.1 401 ")
        with running.socket() as connection:
            connection.sendall(head.format(project.key).encode())
            assert connection.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_refused_upload_is_cut_off_and_its_client_still_sees_why(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        refused = running.request("POST", "/v1/events", b"x" * 900_000, {"X-TraceFlow-Key": "tfk_unknown"})
        assert (refused.status, refused.body["error"]) == (401, "key_unknown")

        kept = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        for _ in range(3):
            kept.request("POST", "/v1/events", b"x" * 900_000, {"X-TraceFlow-Key": "tfk_unknown"})
            assert read_answer(kept.getresponse()).status == 401
        kept.close()

        head = (
            b"POST /v1/events HTTP/1.1\r\nHost: a\r\nX-TraceFlow-Key: tfk_unknown\r\nContent-Length: 100000000\r\n\r\n"
        )
        with running.socket() as connection:
            connection.sendall(head)
            assert connection.recv(1_000).startswith(b"HTTP/1.1 401 ")
            wait_until(lambda: _is_reset(connection), deadline_s=10)


def _is_reset(connection: socket.socket) -> bool:
    """Go on sending; tell whether the other side has had enough."""
    try:
        connection.sendall(b"x" * 1_000)
    except OSError:
        return True
    return False


def test_pipelined_requests_are_answered_in_their_order(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p")
    body = json.dumps({"session_id": "s", "events": [GOOD]}).encode()
    head = f"POST /v1/events?key={project.key} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        with running.socket() as client:
            client.sendall(head + body + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + head[:20])
            time.sleep(0.1)
            client.sendall(head[20:] + body)
            seen = b""
            while seen.count(b"HTTP/1.1 ") < 3:
                seen += client.recv(10_000)
        assert re.findall(rb"HTTP/1.1 (\d+)", seen) == [b"202", b"200", b"202"]


def test_half_a_chunk_is_never_stored(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p")
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        head = f"POST {CHUNKS}&key={project.key} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode()
        chunked = f"POST {CHUNKS}&key={project.key} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        for parts in (head + CHUNK[:50], chunked + b"32\r\n" + CHUNK[:50] + b"\r\n"):
            with running.socket() as client:
                client.sendall(parts)
                wait_until(lambda: running.metric("traceflow_gateway_in_flight_requests") == 1, deadline_s=10)
            wait_until(lambda: running.metric("traceflow_gateway_in_flight_requests") == 0, deadline_s=10)
        whole = chunked + b"%x\r\n" % len(CHUNK) + CHUNK + b"\r\n0\r\n\r\n"
        assert answered_raw(running, whole).status == 202
    (stored,) = read_topic(kafka, f"{topics}recordings")
    assert stored.value == CHUNK


def test_a_slow_body_is_served_as_long_as_it_comes(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p")
    body = json.dumps({"session_id": "s", "events": [GOOD], "filler": "x" * 20_000}).encode()
    limits = {"body_timeout_s": "1", "min_body_rate": "5000"}
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, **limits) as running:
        head = f"POST /v1/events?key={project.key} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        began_s = time.monotonic()
        with running.socket() as client:
            client.sendall(head.encode())
            for start in range(0, len(body), 2_000):
                time.sleep(0.2)
                client.sendall(body[start : start + 2_000])
            response = http.client.HTTPResponse(client)
            response.begin()
            assert read_answer(response).body["accepted"] == 1
        assert time.monotonic() - began_s > 2


def test_connections_beyond_the_limit_are_told_so(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, max_connections="2") as running:
        with running.socket() as first, running.socket() as second:
            for busy in (first, second):
                busy.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                assert busy.recv(12) == b"HTTP/1.1 200"
                # and the next one begun: it waits for nothing only as long as nothing of it has come
                busy.sendall(b"GET /healthz HTTP/1.1\r\n")
            wait_until(lambda: running.metric("traceflow_gateway_connections") == 2, deadline_s=10)
            third = running.request("GET", "/healthz")
            assert (third.status, third.body["error"]) == (503, "overloaded")
            assert "retry-after" in third.headers
        wait_until(lambda: running.metric("traceflow_gateway_connections") == 0, deadline_s=10)
        assert running.request("GET", "/healthz").status == 200


def test_a_new_connection_takes_the_place_of_the_one_that_is_idle_for_longest(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, max_connections="3") as running:
        wait_until(lambda: running.metric("traceflow_gateway_connections") == 0, deadline_s=10)
        kept = [http.client.HTTPConnection("127.0.0.1", running.port, timeout=10) for _ in range(2)]
        for connection in kept:
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b"ok\n"
        with running.socket() as busy:
            busy.sendall(b"GET /healthz HTTP/1.1\r\n")
            wait_until(lambda: running.metric("traceflow_gateway_connections") == 3, deadline_s=10)
            with running.socket() as silent:
                wait_until(lambda: running.metric("traceflow_gateway_evicted_connections_total") == 1, deadline_s=10)
                assert kept[0].sock.recv(1) == b""
                kept[1].request("GET", "/healthz")
                assert kept[1].getresponse().read() == b"ok\n"
                assert running.request("GET", "/healthz").status == 200
                assert silent.recv(1) == b""
            busy.sendall(b"\r\n")
            assert busy.recv(12) == b"HTTP/1.1 200"
        for connection in kept:
            connection.close()


def test_bodies_beyond_what_may_be_held_are_told_so(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with administer(database) as connection:
        project = create_project(connection, name="p")
    head = f"POST {CHUNKS}&key={project.key} HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n".encode()
    held = {"max_held_body_bytes": "1000000"}
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, **held) as running:
        with running.socket() as slow:
            slow.sendall(head + b"[" * 900_000)
            wait_until(lambda: running.metric("traceflow_gateway_held_body_bytes") > 800_000, deadline_s=10)
            other = running.events(project.key, {"session_id": "s", "events": [], "filler": "x" * 300_000})
            assert (other.status, other.body["error"]) == (503, "overloaded")
        wait_until(lambda: running.metric("traceflow_gateway_held_body_bytes") == 0, deadline_s=10)
        assert running.events(project.key, {"session_id": "s", "events": [GOOD]}).status == 202


def test_the_interface_describes_itself(kafka: str, topics: str, database: str, tmp_path: Path) -> None:
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        document = running.request("GET", "/openapi.json").body
        assert sorted(document["paths"]) == ["/healthz", "/openapi.json", "/readyz", "/v1/events", "/v1/recordings"]
        for path, methods in document["paths"].items():
            for method in methods:
                assert running.request(method.upper(), path).status != 404
        text = running.output.read_text()
    assert re.search(r"event=starting .*database_url=\*\*\*", text)
    assert "event=listening" in text
