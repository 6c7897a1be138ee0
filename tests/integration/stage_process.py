"""Stage workers as processes of their own, with the toy logic; feeds their topics and reads what they wrote.

Run as a script it is such a worker: `python -m tests.integration.stage_process digest|analyze`.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from adapters import logs
from adapters.kafka_admin import Layout, recreate_topics
from adapters.kafka_consumer import headers_of
from adapters.kafka_producer import producer_config
from deploy.runtime.ports import free_port
from schemas.connections import KafkaSettings
from schemas.topics import Topic
from stream_processors.fold.facts import Recovered, recover
from stream_processors.fold.logic import LogRecord
from stream_processors.kinds import KINDS
from stream_processors.worker import Environment, run
from tests.stage_toy import ToyDigest, ToyLogic

ROOT = Path(__file__).parents[2]
GAP_MS, RESIDUE_MS = 1_500, 3_000
LOGICS = {"digest": ToyDigest, "analyze": ToyLogic}


@dataclass(frozen=True)
class Stored:
    """A record as the broker has it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def as_log_record(self) -> LogRecord:
        # the first header of a name counts, as in the stage
        kind = next((value for name, value in self.headers if name == "kind"), b"").decode()
        return LogRecord(self.offset, self.timestamp, kind, self.key, self.value or b"", self.headers)


class Worker:
    """A running worker."""

    def __init__(self, process: "subprocess.Popen[bytes]", admin_port: int, output: Path) -> None:
        self.process = process
        self.output = output
        self._admin = f"http://127.0.0.1:{admin_port}"

    def get(self, path: str) -> tuple[int, str]:
        """Ask the admin server; status 0 while there is none."""
        try:
            with urllib.request.urlopen(self._admin + path, timeout=2) as answer:  # noqa: S310 # ours
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()[-4_000:]
        return self.get("/readyz")[0] == 200

    def metric(self, name: str) -> float:
        """Return the sum over a metric's samples."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))

    def freeze(self) -> None:
        """Stop its time: it believes in what it had when it wakes up."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, *, deadline_s: float) -> int:
        """Ask it to stop, and return its exit code."""
        self.process.terminate()
        return self.process.wait(deadline_s)


class Stages:
    """The workers of a test, on topics of its own."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.kafka = KafkaSettings(bootstrap=bootstrap)
        self.prefix = prefix
        self.partitions = partitions
        self._directory = directory
        self._workers: list[Worker] = []
        self._producer: Producer | None = None

    def start(self, name: str, *, module: str = "tests.integration.stage_process") -> Worker:
        """Start a worker, by default with the toy logic; it is ready some seconds later."""
        admin_port = free_port()
        output = self._directory / f"{name}-{len(self._workers)}.log"
        environ = os.environ | {
            "TRACEFLOW_KAFKA_BOOTSTRAP": self.bootstrap,
            "TRACEFLOW_TOPIC_PREFIX": self.prefix,
            "TRACEFLOW_PARTITIONS": str(self.partitions),
            "TRACEFLOW_ADMIN_PORT": str(admin_port),
            # the broker's least: a kill is noticed soon
            "TRACEFLOW_STAGE_GROUP_SESSION_S": "6",
            "TRACEFLOW_STAGE_TICK_MS": "200",
        }
        command = [sys.executable, "-m", module, name]
        with output.open("wb") as stream:
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=stream, stderr=subprocess.STDOUT)
        worker = Worker(process, admin_port, output)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()

    def produce(self, topic: Topic, records: Iterable[tuple[int, bytes, str, Any]]) -> None:
        """Append records (partition, key, kind, value) and wait for the broker."""
        if self._producer is None:
            self._producer = Producer(producer_config(self.kafka))
        for partition, key, kind, value in records:
            data = value if isinstance(value, bytes) else orjson.dumps(value)
            self._producer.produce(
                topic.full_name(self.prefix), data, key, partition, headers=[("kind", kind.encode())]
            )
        assert self._producer.flush(30) == 0

    def write(self, topic: Topic, partition: int, key: bytes, value: bytes) -> None:
        """Append a record as it is."""
        producer = Producer(producer_config(self.kafka))
        producer.produce(topic.full_name(self.prefix), value, key, partition)
        assert producer.flush(30) == 0

    def make_anew(self, topic: Topic) -> None:
        """Delete a topic, and create it again."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        recreate_topics(admin, [topic], Layout(prefix=self.prefix, partitions=self.partitions))

    def commit(self, stage: str, topic: Topic, partition: int, offset: int) -> None:
        """Commit an offset to a stage's group, which has no members."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": KINDS[stage].group(self.prefix)})
        consumer.commit(offsets=[TopicPartition(topic.full_name(self.prefix), partition, offset)], asynchronous=False)
        consumer.close()

    def members(self, stage: str) -> int:
        """Return how many workers a stage's group has; one that has ended counts until its session is over."""
        group = KINDS[stage].group(self.prefix)
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        return len(admin.describe_consumer_groups([group])[group].result().members)

    def delete_records_before(self, topic: Topic, partition: int, offset: int) -> None:
        """Do to a log what retention does."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        name = topic.full_name(self.prefix)
        for future in admin.delete_records([TopicPartition(name, partition, offset)]).values():
            future.result()

    def read(self, topic: Topic) -> list[Stored]:
        """Read a topic from its beginning to its end as of now, in order of partition and offset."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.partition.eof": True}
            | {"enable.auto.commit": False, "auto.offset.reset": "earliest"}
        )
        name = topic.full_name(self.prefix)
        consumer.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in range(self.partitions)])
        found, ended = [], 0
        while ended < self.partitions:
            message = consumer.poll(30.0)
            assert message is not None, f"nothing more of {name}"
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended += 1
                continue
            place = message.partition() or 0, message.offset() or 0
            timestamp = message.timestamp()[1]
            found.append(Stored(*place, timestamp, message.key() or b"", message.value(), headers_of(message)))
        consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def recovered(self, changelog: Topic) -> dict[int, Recovered]:
        """Return each partition as its facts tell it now."""
        facts: dict[int, dict[bytes, bytes]] = {partition: {} for partition in range(self.partitions)}
        for record in self.read(changelog):
            if record.value is None:
                facts[record.partition].pop(record.key, None)
            else:
                facts[record.partition][record.key] = record.value
        return {partition: recover(found) for partition, found in facts.items()}


@contextmanager
def stages(bootstrap: str, prefix: str, partitions: int, directory: Path) -> Iterator[Stages]:
    """Give a test its stages, and end what still runs."""
    running = Stages(bootstrap, prefix, partitions, directory)
    try:
        yield running
    finally:
        running.close()


def until(condition: Callable[[], bool], *, deadline_s: float, what: str) -> None:
    """Wait for a condition."""
    ends_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends_at, f"{what}: not within {deadline_s:.0f} s"
        time.sleep(0.1)


def main(name: str, environ: Mapping[str, str]) -> None:
    """Be a worker with the toy logic."""
    environment = Environment.read(environ)
    logs.configure(name, log_format=environment.log.log_format)
    run(KINDS[name], environment, LOGICS[name](gap_ms=GAP_MS, residue_ms=RESIDUE_MS))


if __name__ == "__main__":
    main(sys.argv[1], os.environ)
