"""A gateway as its own process, and what a client of it does."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from pydantic import SecretStr

from adapters.postgres import Connection, connect
from deploy.runtime.ports import free_port
from schemas.connections import DatabaseSettings

ROOT = Path(__file__).parents[2]
START_DEADLINE_S = 60.0


class Answer(NamedTuple):
    """What the gateway answered."""

    status: int
    body: Any
    headers: dict[str, str]


class Stored(NamedTuple):
    """A record as Kafka has it."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    partition: int


@dataclass
class Gateway:
    """A running gateway."""

    process: "subprocess.Popen[bytes]"
    port: int
    admin_port: int
    output: Path

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            return read_answer(connection.getresponse())
        finally:
            connection.close()

    def events(self, key: str, body: Any, **headers: str) -> Answer:
        """Send events."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/v1/events", raw, {"Authorization": f"Bearer {key}", **named})

    def metric(self, sample: str) -> float:
        """Return a sample of /metrics; 0 where it is not there yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample + " ")), 0.0)

    def socket(self) -> socket.socket:
        """Open a raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def stop(self) -> int:
        """Ask the gateway to stop and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


def read_answer(response: http.client.HTTPResponse) -> Answer:
    """Read an answer to its end."""
    raw = response.read()
    kind = response.headers.get("Content-Type", "")
    body = json.loads(raw) if kind == "application/json" else raw
    return Answer(response.status, body, {name.lower(): value for name, value in response.headers.items()})


@contextmanager
def gateway(
    *,
    kafka: str,
    database: str,
    prefix: str,
    directory: Path,
    program: Sequence[str] = ("ingest_gateway",),
    **settings: str,
) -> Iterator[Gateway]:
    """Run a gateway for the time of a block; settings are named like their variables, without the prefix."""
    port = free_port()
    admin_port = free_port(taken=frozenset({port}))
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRACEFLOW_")},
        "TRACEFLOW_KAFKA_BOOTSTRAP": kafka,
        "TRACEFLOW_DATABASE_URL": database,
        "TRACEFLOW_TOPIC_PREFIX": prefix,
        "TRACEFLOW_ADMIN_PORT": str(admin_port),
        "TRACEFLOW_GATEWAY_PORT": str(port),
        **{f"TRACEFLOW_GATEWAY_{name.upper()}": value for name, value in settings.items()},
    }
    output = directory / f"gateway-{port}.out"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *program], cwd=ROOT, env=environ, stdout=stream, stderr=stream
        )
    running = Gateway(process, port, admin_port, output)
    try:
        wait_until(lambda: _ready(running), deadline_s=START_DEADLINE_S, what=output.read_text)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _ready(running: Gateway) -> bool:
    if running.process.poll() is not None:
        raise AssertionError(f"the gateway ended with {running.process.returncode}:\n{running.output.read_text()}")
    try:
        return running.request("GET", "/readyz").status == 200
    except OSError:
        return False


def wait_until(true: Callable[[], bool], *, deadline_s: float, what: Callable[[], str] = lambda: "") -> None:
    """Poll until something is true.

    Raises:
        AssertionError: at the deadline.
    """
    end_s = time.monotonic() + deadline_s
    while not true():
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {deadline_s} s {what()}")
        time.sleep(0.02)


def administer(database: str) -> Connection:
    """Connect to a database as the owner of its tables."""
    return connect(DatabaseSettings(url=SecretStr(database)), application_name="test")


def read_topic(kafka: str, topic: str) -> list[Stored]:
    """Read everything that a topic holds now, partition by partition."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p, end in ends.items() if end])
        stored: list[Stored] = []
        while len(stored) < sum(ends.values()):
            message = consumer.poll(10)
            assert message is not None, f"{topic} holds less than its end offsets say"
            error = message.error()
            assert error is None, error
            headers: Any = message.headers() or []
            stored.append(Stored(message.key() or b"", message.value() or b"", headers, message.partition() or 0))
        return sorted(stored, key=lambda record: record.partition)
    finally:
        consumer.close()


def stored_events(kafka: str, prefix: str) -> list[dict[str, Any]]:
    """Return the events that the log holds."""
    return [event for record in read_topic(kafka, f"{prefix}events") for event in json.loads(record.value)["events"]]
