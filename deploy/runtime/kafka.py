"""A real Apache Kafka on this machine: KRaft, one node that is broker and controller."""

import os
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.runtime.jars import KAFKA_VERSION
from deploy.runtime.java import Java
from deploy.runtime.program import Program, RuntimeFailure
from deploy.runtime.restart import describe_exit

# With the serial collector and C1 only, the broker starts in half the time and rests at about 250 MB.
_JVM = (
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # no statistics file in /tmp, which can stall the whole machine on a slow disk
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    "-Dorg.slf4j.simpleLogger.showShortLogName=true",
    # it reports each controller activation and each late heartbeat of the only node as a warning
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller=error",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.NodeToControllerRequestThread=error",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.clients.NetworkClient=error",
)

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
# topics are created by `traceflow topics` and by nobody else
auto.create.topics.enable=false
# one node
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
# a broker that was killed may register again after this; halves a warm restart
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controlled.shutdown.enable=false
# a laptop
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=1
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=33554432
log.cleaner.backoff.ms=5000
log.retention.check.interval.ms=60000
# the largest record of any topic: a parked recording chunk with both envelopes
message.max.bytes=4300000
replica.fetch.max.bytes=4300000
"""


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A broker in a directory of its own, which stays usable by any port: its storage holds none."""

    directory: Path
    port: int
    controller_port: int
    java: Java
    jars: tuple[Path, ...]
    flags: tuple[str, ...] = ()
    """Further options of the JVM."""

    @property
    def bootstrap(self) -> str:
        """Return what clients connect to."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Write the configuration, and format the storage if it is new.

        Raises:
            RuntimeFailure: the storage was made by another version of Kafka, or cannot be formatted.
        """
        stamp = self.directory / "kafka.version"
        if stamp.exists() and stamp.read_text().strip() != KAFKA_VERSION:
            raise RuntimeFailure(
                f"{self.directory} was made by Kafka {stamp.read_text().strip()}, this is {KAFKA_VERSION}: "
                "use that version, or another data directory"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(
            _PROPERTIES.format(port=self.port, controller_port=self.controller_port, logs=self.directory / "log")
        )
        if not stamp.exists():
            self._format()
            stamp.write_text(KAFKA_VERSION + "\n")

    def _format(self) -> None:
        # one id in 64 would start with a dash and be taken for an option
        cluster = "c" + urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties), "--ignore-formatted"]
        done = subprocess.run([*self._command(), *tool], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            said = " ".join((done.stdout + done.stderr).split())[-600:] or "it wrote nothing"
            raise RuntimeFailure(f"cannot format Kafka's storage ({describe_exit(done.returncode)}): {said}")

    def program(self, environ: Mapping[str, str]) -> Program:
        """Describe the broker's process."""
        argv = (*self._command(), "kafka.Kafka", str(self._properties))
        return Program(name="kafka", argv=argv, environ=environ, stop_deadline_s=20)

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _command(self) -> list[str]:
        return [str(self.java.path), *_JVM, *self.flags, "-cp", os.pathsep.join(map(str, self.jars))]


def wait_until_ready(bootstrap: str, *, deadline_s: float, alive: Callable[[], bool]) -> None:
    """Wait until the broker answers a metadata request: an open port alone is too early.

    Raises:
        RuntimeFailure: it has ended, or does not answer in time.
    """
    ends_at = time.monotonic() + deadline_s
    while not answers(bootstrap, timeout_s=1.0):
        if not alive():
            raise RuntimeFailure("Kafka ended while it was starting; its output says why")
        if time.monotonic() > ends_at:
            raise RuntimeFailure(f"Kafka at {bootstrap} does not answer within {deadline_s:.0f} s")


def answers(bootstrap: str, *, timeout_s: float) -> bool:
    """Tell whether the brokers answer a metadata request."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # a fresh client each time: it tries at once instead of backing off from an earlier refusal
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.ms": 50})
    try:
        client.list_topics(timeout=timeout_s)
    except KafkaException:
        return False
    return True
