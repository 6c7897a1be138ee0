"""A gateway with a spool whose broker is away for a minute: what is refused, lost, used, and how soon it is over.

Clients send events and recording chunks at a steady pace before, during and after the outage. Every request is answered
202 or counted as refused; at the end the log is counted: it holds each of them, and, since nothing crashed, each once.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from deploy.bench.cpu import Resident, cpu_seconds, process_tree
from deploy.bench.hammer import Answered, Hammer
from deploy.bench.lab import Lab, Worker, wait_for
from deploy.bench.outage import PARTITIONS, PREFIX, Broker, own_broker, quantile, requests
from deploy.bench.report import Line, Result
from deploy.load.request import GatewayAddress, RequestHead
from deploy.runtime.ports import free_port
from schemas import topics

CLIENTS = 16
PAUSE_S = 0.05
HEALTHY_S = 5.0
AWAY_S = 60.0
DEADLINE_S = 120.0
MAX_GROWTH_MB = 250.0
"""The windows, what is being written, a segment of each lane, and what the producers held when the broker went."""
MAX_SYNC_P99_MS = 250.0


def run(lab: Lab) -> Result:
    """Take the broker away from a gateway with a spool, and give it back."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, own_broker(Path(folder) / "kafka") as broker:
        environ = {
            "TRACEFLOW_KAFKA_BOOTSTRAP": broker.server.bootstrap,
            "TRACEFLOW_GATEWAY_PORT": str(port),
            "TRACEFLOW_GATEWAY_SPOOL": str(Path(folder) / "spool"),
        }
        with lab.process(("ingest_gateway",), prefix=PREFIX, partitions=PARTITIONS, cpu=None, **environ) as gateway:
            wires = requests(RequestHead(f"127.0.0.1:{port}", lab.target.project_key))
            return _measure(broker, gateway, GatewayAddress("127.0.0.1", port), wires)


def _measure(broker: Broker, gateway: Worker, address: GatewayAddress, wires: Mapping[str, bytes]) -> Result:
    with Hammer(address, wires, clients=CLIENTS, pause_s=PAUSE_S) as hammer:
        time.sleep(HEALTHY_S)
        resident = Resident(gateway.pid)
        before_mb, gone_at = resident.now_mb(), time.monotonic()
        with resident:
            broker.kill()
            time.sleep(AWAY_S)
            waiting, spooled_mb = _waiting(gateway), gateway.metric("traceflow_gateway_spool_bytes") / 1e6
            broker.start()
            back_at, used_s = time.monotonic(), _cpu_s(gateway)
            wait_for(lambda: _is_direct(gateway), what="the spool to be empty", deadline_s=DEADLINE_S, poll_s=0.2)
            emptied_at, used_s = time.monotonic(), _cpu_s(gateway) - used_s
        time.sleep(HEALTHY_S)
    answers = hammer.answers
    away = sorted(a.took_s * 1e3 for a in answers if gone_at <= a.sent_at < back_at and a.status == 202)
    healthy = sorted(a.took_s * 1e3 for a in answers if a.sent_at < gone_at and a.status == 202)
    refused = sum(answer.status != 202 for answer in answers)
    lost = _lost(broker.server.bootstrap, answers)
    growth = resident.highest_mb - before_mb
    return Result(
        "spool",
        [
            Line("refused or failed", refused, "", "0", not refused, f"of {len(answers):,} requests"),
            Line("acknowledged and not in the log", lost, "", "0", not lost),
            Line("202 while the broker was away, p50", quantile(away, 0.5), "ms", note=f"{len(away):,} answers"),
            Line(
                "202 while the broker was away, p99",
                quantile(away, 0.99),
                "ms",
                f"≤ {MAX_SYNC_P99_MS:.0f}",
                quantile(away, 0.99) <= MAX_SYNC_P99_MS,
            ),
            Line("202 while the broker was away, max", quantile(away, 1.0), "ms", note="was in flight as it went"),
            Line("202 before, p50", quantile(healthy, 0.5), "ms"),
            Line("202 before, p99", quantile(healthy, 0.99), "ms"),
            Line("growth of the gateway's memory", growth, "MB", f"≤ {MAX_GROWTH_MB:.0f}", growth <= MAX_GROWTH_MB),
            Line("on disk at the end of the outage", spooled_mb, "MB", note=f"{waiting:,.0f} requests"),
            Line(
                "from the broker's return until it is empty", emptied_at - back_at, "s", note=f"{used_s:.1f} s of CPU"
            ),
        ],
        {"clients": CLIENTS, "pause_s": PAUSE_S, "away_s": AWAY_S, "body_bytes": {n: len(w) for n, w in wires.items()}},
    )


def _lost(bootstrap: str, answers: list[Answered]) -> int:
    """Count the acknowledged requests that the log does not hold: a request is one record."""
    acknowledged = {lane: sum(a.status == 202 for a in answers if a.lane == lane) for lane in ("events", "recordings")}
    stored = {topic.name: _count(bootstrap, topic.full_name(PREFIX)) for topic in (topics.EVENTS, topics.RECORDINGS)}
    return sum(max(0, acknowledged[lane] - stored[lane]) for lane in acknowledged)


def _count(bootstrap: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"})
    try:
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30) for p in range(PARTITIONS)]
        return sum(high - low for low, high in ends)
    finally:
        consumer.close()


def _is_direct(gateway: Worker) -> bool:
    return gateway.metric("traceflow_gateway_spooling") == 0 and _waiting(gateway) == 0


def _waiting(gateway: Worker) -> float:
    return gateway.metric("traceflow_gateway_spool_requests")


def _cpu_s(gateway: Worker) -> float:
    return cpu_seconds(process_tree(gateway.pid))
