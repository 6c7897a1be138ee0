"""The analyze stage on Faust beside a plain confluent-kafka loop with the same fold, outputs and changelog."""

import os
import time
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from adapters.kafka_producer import producer_config
from deploy.bench.batches import EVENTS_PER_BATCH, fill, lived
from deploy.bench.cpu import Stopwatch, Usage
from deploy.bench.lab import Lab, wait_for
from deploy.bench.report import Line, Result, middle
from schemas import topics
from schemas.connections import KafkaSettings
from schemas.messages import Kind
from stream_processors.analyze import build_logic
from stream_processors.fold.facts import changelog_flight
from stream_processors.fold.logic import LogRecord
from stream_processors.fold.partition import PartitionFold

MESSAGES = 30_000
SESSIONS = 4_000
PARTITIONS = 4
ROUNDS = 2
MIN_RATIO = 0.8
MIN_MESSAGES_PER_S = 5_000


def run(lab: Lab) -> Result:
    """Alternate both over the same log, and compare."""
    faust: list[Usage] = []
    plain: list[Usage] = []
    with lab.topics(partitions=PARTITIONS, dated=True) as prefix:
        _fill(lab, prefix)
        for number in range(ROUNDS):
            plain.append(_plain_loop(lab, prefix))
            # a worker of its own changelog each round, or it would go on where the last one stopped
            faust.append(_worker(lab, number))
    faust_rate = middle([MESSAGES / usage.wall_s for usage in faust])
    plain_rate = middle([MESSAGES / usage.wall_s for usage in plain])
    ratio = middle([a.wall_s / b.wall_s for a, b in zip(plain, faust, strict=True)])
    return Result(
        "stage",
        [
            Line(
                "analyze worker on Faust",
                faust_rate,
                "messages/s",
                f"≥ {MIN_MESSAGES_PER_S:,}",
                faust_rate >= MIN_MESSAGES_PER_S,
                f"{faust_rate * EVENTS_PER_BATCH:,.0f} events/s",
            ),
            Line("plain confluent-kafka loop", plain_rate, "messages/s"),
            Line("ratio", ratio, "", f"≥ {MIN_RATIO}", ratio >= MIN_RATIO),
            Line("CPU of the worker", _cpu(faust), "s per million events"),
            Line("CPU of the plain loop", _cpu(plain), "s per million events"),
        ],
        {"messages": MESSAGES, "events_per_message": EVENTS_PER_BATCH, "sessions": SESSIONS, "rounds": ROUNDS},
    )


def _fill(lab: Lab, prefix: str) -> None:
    log = lived(count=MESSAGES, sessions=SESSIONS, partitions=PARTITIONS)
    fill(lab.target.kafka_bootstrap, prefix, log)


def _cpu(usages: list[Usage]) -> float:
    return middle([usage.cpu_s["worker"] for usage in usages]) * 1e6 / (MESSAGES * EVENTS_PER_BATCH)


def _worker(lab: Lab, number: int) -> Usage:
    with lab.topics(partitions=PARTITIONS, dated=True) as prefix:
        _fill(lab, prefix)
        with lab.process(("stream_processors", "analyze"), prefix=prefix, partitions=PARTITIONS) as worker:
            watch = Stopwatch({"worker": worker.pid})
            watch.start()
            before = worker.metric("traceflow_stage_records_total")
            wait_for(
                lambda: worker.metric("traceflow_stage_records_total") >= MESSAGES,
                what=f"round {number} of the worker",
                deadline_s=300,
            )
            usage = watch.stop()
    # what was folded before it said that it is ready was not measured
    share = (MESSAGES - before) / MESSAGES
    return Usage(usage.wall_s / share, {name: cpu / share for name, cpu in usage.cpu_s.items()})


def _plain_loop(lab: Lab, prefix: str) -> Usage:
    kafka = KafkaSettings(bootstrap=lab.target.kafka_bootstrap)
    producer = Producer(producer_config(kafka, linger_ms=1))
    consumer = Consumer({**kafka.librdkafka(), "group.id": "bench-plain", "enable.auto.commit": False})
    logic = build_logic({})
    folds: dict[int, PartitionFold[Any]] = {p: PartitionFold(logic) for p in range(PARTITIONS)}
    consumer.assign([TopicPartition(topics.EVENTS.full_name(prefix), p, 0) for p in folds])
    watch = Stopwatch({"worker": os.getpid()})
    done, ticked_at = 0, 0.0
    watch.start()
    while done < MESSAGES:
        if time.monotonic() - ticked_at >= 1:
            ticked_at = time.monotonic()
            for p in folds:
                producer.produce(topics.EVENTS.full_name(prefix), b"", None, p, headers=[("kind", b"tick")])
        messages = consumer.consume(1_000, 0.2)
        for partition, fold in folds.items():
            records = [_record(m) for m in messages if m.partition() == partition and not m.error()]
            if records:
                _send(producer, prefix, partition, fold, records)
                done += sum(record.kind == Kind.EVENTS for record in records)
        producer.flush(30)
    usage = watch.stop()
    consumer.close()
    return usage


def _record(message: Any) -> LogRecord:
    headers = message.headers() or []
    kind = next((value.decode() for name, value in headers if name == "kind"), "")
    return LogRecord(
        message.offset(), message.timestamp()[1], kind, message.key() or b"", message.value() or b"", headers
    )


def _send(producer: Producer, prefix: str, partition: int, fold: PartitionFold[Any], records: list[LogRecord]) -> None:
    # written to topics that nobody reads, as the worker's are
    batch = fold.apply(records)
    for output in batch.outputs:
        producer.produce(prefix + output.topic, output.value, output.key, partition)
    changelog = topics.ANALYZE_CHANGELOG.full_name(prefix)
    for key, value in [*changelog_flight(batch.facts, batch.deletions), batch.record]:
        while True:
            try:
                producer.produce(changelog, value, key, partition)
            except BufferError:
                producer.poll(0.1)
            else:
                break
