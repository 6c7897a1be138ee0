"""A gateway whose broker is away: how soon it says so, what that costs in memory, how soon it takes requests again.

Clients send without a pause before and during the outage. Refused are requests before they are read. One exception is
meant: once a second one is let through as a probe, and waits for the broker until its timeout. So the slowest answers
are set apart, as many as the gateway's own metric says that requests failed at the broker.
"""

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient

from adapters.kafka_admin import Layout, create_topics
from deploy.bench.cpu import process_tree, resident_bytes
from deploy.bench.hammer import Answered, Hammer
from deploy.bench.lab import Lab, Worker, wait_for
from deploy.bench.report import Line, Result
from deploy.load.generator import Load
from deploy.load.request import GatewayAddress, RequestHead
from deploy.runtime import archive, jars, java, kafka
from deploy.runtime.ports import free_port
from deploy.runtime.program import kill_group
from schemas import topics

PREFIX = "outage."
PARTITIONS = 4
CLIENTS = 16
HEALTHY_S = 3.0
SECONDS = 30.0
PAUSE_S = 0.1
"""Between two requests of a client while the broker starts: how it starts under load is not the question."""
DEADLINE_S = 60.0
MAX_REFUSAL_MS = 50.0
MAX_GROWTH_MB = 10.0
MAX_RETURN_S = 5.0
"""A second between two attempts to connect and one between two probes, on a machine that is busy with a start."""
LANES = frozenset(("events", "recordings"))
"""Each has a producer and a gate of its own."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The answers to requests that were sent while the broker was away."""

    known_s: float
    """From its end to the last lane's first 503."""
    refusals_ms: Sequence[float]
    """To requests sent since then, in order of size."""
    waits_ms: Sequence[float]
    """To requests that failed at the broker: those of before that, and the probes."""
    not_as_promised: int
    """Answers since then that are no 503 with Retry-After."""

    @classmethod
    def of(cls, answers: Sequence[Answered], *, began: float, failures: int) -> "Outage":
        """Tell refusals from requests that waited, of which there were so many."""
        during = sorted((a for a in answers if a.sent_at >= began), key=lambda a: a.took_s)
        firsts: dict[str, float] = {}
        for answer in sorted(during, key=lambda a: a.sent_at + a.took_s):
            if answer.status == 503:
                firsts.setdefault(answer.lane, answer.sent_at + answer.took_s)
        known = max(firsts.values(), default=began)
        split = max(0, len(during) - failures)
        since = [a for a in during if a.sent_at >= known]
        return cls(
            known_s=known - began,
            refusals_ms=[a.took_s * 1e3 for a in during[:split] if a.sent_at >= known],
            waits_ms=[a.took_s * 1e3 for a in during[split:]],
            not_as_promised=sum(a.status != 503 or not a.retry_after_s for a in since),
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; 0 if there are none."""
    return ordered[math.ceil(len(ordered) * share) - 1] if ordered else 0.0


def run(lab: Lab) -> Result:
    """Take the broker away from a gateway under load, wait, and give it back."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, own_broker(Path(folder)) as broker:
        environ = {"TRACEFLOW_KAFKA_BOOTSTRAP": broker.server.bootstrap, "TRACEFLOW_GATEWAY_PORT": str(port)}
        with lab.process(("ingest_gateway",), prefix=PREFIX, partitions=PARTITIONS, cpu=None, **environ) as gateway:
            wires = requests(RequestHead(f"127.0.0.1:{port}", lab.target.project_key))
            return _measure(broker, gateway, GatewayAddress("127.0.0.1", port), wires)


def requests(head: RequestHead) -> dict[str, bytes]:
    """Return one whole request for each lane: 20 events in 10 kB, and a chunk of a recording."""
    load = Load(seed=4, name="outage", recorded_share=1.0, visits=4)
    wires: dict[str, bytes] = {}
    for request in load.session(1, now_ms=time.time_ns() // 1_000_000):
        wires.setdefault("events" if request.chunk is None else "recordings", request.wire(head))
    return wires


def _measure(broker: "Broker", gateway: Worker, address: GatewayAddress, wires: dict[str, bytes]) -> Result:
    with Hammer(address, wires, clients=CLIENTS) as hammer:
        time.sleep(HEALTHY_S)
        began, failures = time.monotonic(), _failures(gateway)
        broker.kill()

        def is_known() -> bool:
            # those who were there wait for their answers: others come
            hammer.add_client()
            return hammer.lanes_with(503, since=began) == LANES

        wait_for(is_known, what="the first 503", deadline_s=DEADLINE_S, poll_s=0.1)
        resident = [_resident_mb(gateway)]
        known = time.monotonic()
        while time.monotonic() < known + SECONDS:
            time.sleep(0.5)
            resident.append(_resident_mb(gateway))
    outage = Outage.of(hammer.answers, began=began, failures=int(_failures(gateway) - failures))
    healthy = sorted(a.took_s * 1e3 for a in hammer.answers if a.status == 202)
    with Hammer(address, wires, clients=CLIENTS, pause_s=PAUSE_S) as hammer:
        started = time.monotonic()
        broker.start()
        back = time.monotonic()
        wait_for(lambda: hammer.lanes_with(202, since=started) == LANES, what="the first 202", deadline_s=DEADLINE_S)
        returned_s = max(0.0, time.monotonic() - back)
    growth = max(resident) - resident[0]
    return Result(
        "outage",
        [
            *_refusal_lines(outage),
            Line("growth of the gateway's memory", growth, "MB", f"≤ {MAX_GROWTH_MB:.0f}", growth <= MAX_GROWTH_MB),
            Line("from the broker's death to the first 503s", outage.known_s, "s"),
            Line(
                "from the broker's return to the first 202s",
                returned_s,
                "s",
                f"≤ {MAX_RETURN_S:.0f}",
                returned_s <= MAX_RETURN_S,
                f"clients that heed Retry-After come back later; the broker took {back - started:.1f} s",
            ),
            Line("acknowledgement before, p50", quantile(healthy, 0.5), "ms"),
        ],
        {"clients": CLIENTS, "seconds": SECONDS, "body_bytes": {lane: len(wire) for lane, wire in wires.items()}},
    )


def _refusal_lines(outage: Outage) -> list[Line]:
    target = f"≤ {MAX_REFUSAL_MS:.0f}"
    p50, p99 = quantile(outage.refusals_ms, 0.5), quantile(outage.refusals_ms, 0.99)
    count = f"{len(outage.refusals_ms):,} answers"
    waited = f"{len(outage.waits_ms):,} answers: sent before it was known, or let through as a probe"
    return [
        Line("503 once known, p50", p50, "ms", target, p50 <= MAX_REFUSAL_MS, count),
        Line("503 once known, p99", p99, "ms", target, p99 <= MAX_REFUSAL_MS),
        Line("503 once known, max", quantile(outage.refusals_ms, 1.0), "ms"),
        Line("answers without 503 and Retry-After", outage.not_as_promised, "", "0", not outage.not_as_promised),
        Line("503 after waiting for the broker, p50", quantile(outage.waits_ms, 0.5), "ms", note=waited),
    ]


def _failures(gateway: Worker) -> float:
    return gateway.metric("traceflow_gateway_kafka_delivery_failures_total")


def _resident_mb(gateway: Worker) -> float:
    return resident_bytes(process_tree(gateway.pid)) / 1e6


class Broker:
    """A broker of the benchmark's own, which it may kill."""

    def __init__(self, directory: Path) -> None:
        runtime, classpath = java.find_java(os.environ), tuple(jars.classpath(os.environ, report=print))
        port = free_port()
        self.server = kafka.KafkaServer(
            directory=directory,
            port=port,
            controller_port=free_port(taken=frozenset({port})),
            java=runtime,
            jars=classpath,
            flags=archive.flags_to_use(runtime, classpath, os.environ),
        )
        self.server.prepare()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        process = self._process = self.server.program(os.environ).start(subprocess.DEVNULL)
        kafka.wait_until_ready(self.server.bootstrap, deadline_s=DEADLINE_S, alive=lambda: process.poll() is None)

    def kill(self) -> None:
        """End it as a machine that is lost does."""
        if self._process is not None:
            kill_group(self._process.pid)
            self._process.wait()


@contextmanager
def own_broker(directory: Path) -> Iterator[Broker]:
    """Run a broker, with the topics made."""
    broker = Broker(directory)
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.server.bootstrap, "log_level": 0})
        create_topics(admin, topics.ALL, Layout(prefix=PREFIX, partitions=PARTITIONS))
        yield broker
    finally:
        broker.kill()
