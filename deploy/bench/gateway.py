"""The gateway on one core beside a bare ASGI app that only produces the same bytes: durable acknowledgements."""

import time

import orjson

from deploy.bench.batches import EVENTS_PER_BATCH, USER_AGENT, batch
from deploy.bench.blast import blast
from deploy.bench.cpu import cpu_seconds, process_tree
from deploy.bench.lab import Lab, wait_for
from deploy.bench.report import Line, Result, middle
from deploy.runtime.ports import free_port, is_free

CONNECTIONS = 64
SECONDS = 8.0
WARM_UP_S = 1.0
ROUNDS = 3
PARTITIONS = 4
SERVER_CORE = 0
MIN_EVENTS_PER_S = 60_000
MAX_CPU_S = 16.0


def run(lab: Lab) -> Result:
    """Alternate both, each pinned to the same core, and compare."""
    gateway: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with lab.topics(partitions=PARTITIONS) as prefix:
        for _ in range(ROUNDS):
            bare.append(_measure(lab, prefix, "deploy.bench.bare_asgi"))
            gateway.append(_measure(lab, prefix, "ingest_gateway"))
    rate, bare_rate = middle([r for r, _ in gateway]), middle([r for r, _ in bare])
    cpu = middle([c for _, c in gateway])
    ratio = middle([a[0] / b[0] for a, b in zip(gateway, bare, strict=True)])
    met = rate >= MIN_EVENTS_PER_S
    return Result(
        "gateway",
        [
            Line("gateway", rate, "events/s", f"≥ {MIN_EVENTS_PER_S:,}", met, "one core, acks=all"),
            Line("bare ASGI app", bare_rate, "events/s", note="same bytes, same producer, no key, no validation"),
            Line("ratio", ratio, ""),
            Line("CPU of the gateway", cpu, "s per million events", f"≤ {MAX_CPU_S:.0f}", cpu <= MAX_CPU_S),
            Line("CPU of the bare app", middle([c for _, c in bare]), "s per million events"),
        ],
        {"connections": CONNECTIONS, "seconds": SECONDS, "rounds": ROUNDS, "body_bytes": len(_body())},
    )


def _measure(lab: Lab, prefix: str, module: str) -> tuple[float, float]:
    port = free_port()
    arguments = (module, str(port)) if module.endswith("bare_asgi") else (module,)
    with lab.process(
        arguments, prefix=prefix, partitions=PARTITIONS, cpu=SERVER_CORE, TRACEFLOW_GATEWAY_PORT=str(port)
    ) as worker:
        wait_for(lambda: not is_free(port), what=f"{module} to listen", deadline_s=30)
        wire = _wire(lab.target.project_key, port)
        blast(port, wire, connections=CONNECTIONS, seconds=WARM_UP_S)
        before = cpu_seconds(process_tree(worker.pid))
        result = blast(port, wire, connections=CONNECTIONS, seconds=SECONDS)
        used = cpu_seconds(process_tree(worker.pid)) - before
    if result.other_than_202:
        raise RuntimeError(f"{result.other_than_202} of {result.answered} answers are not 202")
    events = result.answered * EVENTS_PER_BATCH
    return events / result.seconds, used * 1e6 / events


def _body() -> bytes:
    _, value = batch(1, sessions=1, now_ms=time.time_ns() // 1_000_000)
    events = orjson.loads(value)["events"]
    for event in events:
        # as a client sends it: ids are the gateway's work
        del event["id"]
    return orjson.dumps({"session_id": "bench", "visitor_id": "v", "events": events})


def _wire(key: str, port: int) -> bytes:
    body = _body()
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"User-Agent: {USER_AGENT}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
