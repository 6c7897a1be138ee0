"""What the benchmarks fold and store: batches of 20 events as the gateway normalises them, about 500 B each."""

import random
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from uuid import UUID

import orjson
from confluent_kafka import Producer

from schemas import topics
from schemas.ids import EventIds, event_seed, session_key
from schemas.messages import FORMAT, KIND_HEADER, Kind

PROJECT_ID = str(UUID(int=0x0BE7C4 << 96 | 4 << 76 | 2 << 62))
EVENTS_PER_BATCH = 20
BATCH_MS = 4_000
"""What a batch covers: an event each 200 ms."""

TICK_MS = 1_000
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
_TYPES = ("click", "click", "scroll", "pageview", "input", "custom", "dom_change", "network")
_PAGES = tuple(f"https://shop.example/{name}" for name in ("", "cart", "search?q=lamp", "product/81723", "checkout"))


def batch(number: int, *, sessions: int, now_ms: int) -> tuple[bytes, bytes]:
    """Return key and value of the record `number`; sessions take turns."""
    draw = random.Random(number)  # noqa: S311 # repeatable, no secret
    session_id = f"bench-{number % sessions}"
    seed = event_seed(project_id=PROJECT_ID, session_id=session_id, events=b"%d" % number)
    start = now_ms + number // sessions * BATCH_MS
    ids = EventIds(seed=seed, count=EVENTS_PER_BATCH)
    times = [start + i * 200 for i in range(EVENTS_PER_BATCH)]
    events = [_event(draw, ids.make(i, time), time) for i, time in enumerate(times)]
    value = {
        "v": FORMAT,
        "project_id": PROJECT_ID,
        "session_id": session_id,
        "received_at": start,
        "settings": {"version": 1},
        "visitor_id": f"visitor-{number % sessions}",
        "user_agent": USER_AGENT,
        "events": events,
    }
    return session_key(PROJECT_ID, session_id), orjson.dumps(value)


def _event(draw: random.Random, event_id: str, timestamp: int) -> dict[str, object]:
    kind = draw.choice(_TYPES)
    n = draw.randrange(60)
    return {
        "id": event_id,
        "timestamp": timestamp,
        "event_type": kind,
        "page_url": draw.choice(_PAGES),
        "page_title": "Lamps and lights | Shop",
        "element_tag": "button",
        "element_id": f"item-{n}",
        "element_class": "btn btn-primary btn-lg",
        "element_text": f"Add lamp {n} to the cart",
        "element_selector": f"main > ul > li:nth-of-type({n}) > button",
        "x_position": draw.randrange(1280),
        "y_position": draw.randrange(800),
        "viewport_width": 1280,
        "viewport_height": 800,
        "metadata": {"release": "2026.11.1", "experiment": "b"},
    }


class Filled(NamedTuple):
    """A record of a log that a benchmark fills."""

    partition: int
    key: bytes
    value: bytes
    kind: Kind = Kind.EVENTS
    timestamp_ms: int = 0
    """0 for the time of writing."""


def fill(bootstrap: str, prefix: str, records: Iterable[Filled]) -> None:
    """Write records into the events topic."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 20, "compression.type": "lz4", "partitioner": "murmur2_random"}
    )
    topic = topics.EVENTS.full_name(prefix)
    for record in records:
        headers: list[tuple[str, str | bytes | None]] = [(KIND_HEADER, record.kind.value.encode())]
        while True:
            try:
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    record.partition,
                    headers=headers,
                    timestamp=record.timestamp_ms,
                )
            except BufferError:
                producer.poll(0.1)
            else:
                break
    producer.flush(120)


def batches(*, count: int, sessions: int, partitions: int) -> Iterator[Filled]:
    """Yield batches; sessions take turns."""
    start_ms = time.time_ns() // 1_000_000 - 3_600_000
    for number in range(count):
        key, value = batch(number, sessions=sessions, now_ms=start_ms)
        yield Filled(number % sessions % partitions, key, value)


def lived(*, count: int, sessions: int, partitions: int) -> Iterator[Filled]:
    """Yield the log that so many sessions leave at once, each sending a batch in 4 s: batches and ticks, dated.

    A log that is written in a moment would hold sessions that never settle, with states ten times as large.
    """
    lasted_ms = count * BATCH_MS // sessions
    start_ms = time.time_ns() // 1_000_000 - lasted_ms - BATCH_MS
    ticks = 0
    for number in range(count):
        at_ms = start_ms + BATCH_MS + number * BATCH_MS // sessions
        while start_ms + BATCH_MS + ticks * TICK_MS <= at_ms:
            moment = start_ms + BATCH_MS + ticks * TICK_MS
            for partition in range(partitions):
                yield Filled(partition, b"", b"", Kind.TICK, moment)
                value = orjson.dumps({"v": FORMAT, "src": ticks, "at": moment})
                yield Filled(partition, b"", value, Kind.DIGEST_TICK, moment)
            ticks += 1
        key, value = batch(number, sessions=sessions, now_ms=start_ms)
        yield Filled(number % sessions % partitions, key, value, Kind.EVENTS, at_ms)
