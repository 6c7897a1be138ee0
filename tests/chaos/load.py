"""The load of a chaos run: sessions as browsers send them at their worst, and a ledger that knows the poison.

Of each session's requests some are sent twice, some after those that followed them, some long after the session ended;
some sessions took place days ago. Poison carries a marker, by which its dead letters are known:

    poison:SESSION:NUMBER!

- an event among good ones that the gateway rejects,
- a chunk that is no JSON, or an array of what is no rrweb event: the gateway takes it, digest and the recordings sink
  park it,
- a record of events that no version writes: put into the log directly, analyze and the events sink park it.
"""

import asyncio
import logging
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import uvloop
from confluent_kafka import Producer

from adapters.kafka_producer import producer_config
from deploy.load.connection import Answer
from deploy.load.delivery import RetryPolicy
from deploy.load.drive import Shape, drive
from deploy.load.generator import Load
from deploy.load.ledger import Acknowledged, Ledger
from deploy.load.request import ChunkPlace, GatewayAddress, SessionRequest
from schemas import topics
from schemas.connections import KafkaSettings
from schemas.ids import session_key

SICK_WINDOW = "sick"
MARKER = re.compile(rb"poison:[^!]*!")

TWICE, LATER, MUCH_LATER, SICK_EVENT, SICK_CHUNK = 0.05, 0.04, 0.04, 0.03, 0.02
"""Shares of the requests."""
LOG_POISON_EVERY_S = 40.0
"""Our own fault: well below the share that stops a stage."""
PERSISTENT = RetryPolicy(give_up_s=300.0, timeout_s=8.0)
"""Outlasts every outage, so that an unknown outcome is rare; a frozen gateway is given up soon."""

LONG_AGO = 0.1
"""Share of the sessions."""
HELD_BACK = 30
"""Requests that wait for a later session, at most."""


class UnrulyLoad(Load):
    """The same sessions, as browsers and networks mistreat them; the same seed mistreats them in the same way."""

    def __init__(self, *, seed: int, name: str, **shape: Any) -> None:
        super().__init__(seed=seed, name=name, **shape)
        self._unrest = seed
        self._held_back: deque[SessionRequest] = deque()

    def session(self, number: int, *, now_ms: int) -> Iterator[SessionRequest]:
        """Yield the requests of a session, and of sessions that ended before."""
        draw = random.Random(f"{self._unrest}/unrest/{number}")
        if draw.random() < LONG_AGO:
            now_ms -= draw.randrange(3_600_000, 48 * 3_600_000)
        held: list[SessionRequest] = []
        for count, request in enumerate(super().session(number, now_ms=now_ms)):
            if draw.random() < SICK_CHUNK:
                yield sick_chunk(request, count, is_json=draw.random() < 0.5)
            if request.chunk is None and draw.random() < SICK_EVENT:
                request = with_sick_event(request, count)
            chance = draw.random()
            if chance < LATER:
                held.append(request)
            elif chance < LATER + MUCH_LATER and len(self._held_back) < HELD_BACK:
                self._held_back.append(request)
            else:
                yield request
                if draw.random() < TWICE:
                    yield request
            if held and draw.random() < 0.4:
                yield held.pop()
        yield from held
        if len(self._held_back) > HELD_BACK // 2:
            yield self._held_back.popleft()


def sick_chunk(beside: SessionRequest, number: int, *, is_json: bool) -> SessionRequest:
    """Return a chunk of the same session that nobody can use; its first byte is that of an array."""
    note = f"poison:{beside.session_id}:{number}!"
    body = f'["{note}"]' if is_json else f'[{{"{note}'
    place = ChunkPlace(SICK_WINDOW, number, "nobody")
    return SessionRequest(beside.session_id, beside.user_agent, body.encode, 1, place)


def with_sick_event(request: SessionRequest, number: int) -> SessionRequest:
    """Return the request with an event in front that claims to be a finding."""
    return replace(request, render=_SickEvent(request.render, number), event_count=request.event_count + 1)


@dataclass(frozen=True, slots=True)
class _SickEvent:
    """Renders a body with a sick event in front of the good ones."""

    render: Callable[[], bytes]
    number: int

    def __call__(self) -> bytes:
        body = orjson.loads(self.render())
        note = f"poison:{body['session_id']}:{self.number}!"
        first = {"event_type": "rage_click", "timestamp": body["events"][0]["timestamp"], "metadata": {"note": note}}
        return orjson.dumps({**body, "events": [first, *body["events"]]})


@dataclass(slots=True)
class ChaosLedger(Ledger):
    """A ledger that keeps sick chunks apart: none of them may become a row."""

    sick: list[SessionRequest] = field(default_factory=list)
    """Acknowledged."""
    maybe_sick: list[SessionRequest] = field(default_factory=list)
    """Given up."""

    def settle(self, request: SessionRequest, answer: Answer) -> None:
        """Write down a final answer."""
        if is_sick(request) and answer.status == 202:
            self.sick.append(request)
        else:
            Ledger.settle(self, request, answer)

    def give_up(self, request: SessionRequest) -> None:
        """Write down that nobody knows."""
        (self.maybe_sick if is_sick(request) else self.unknown).append(request)

    def sick_chunks(self) -> set[str]:
        """Return the markers of the sick chunks that were acknowledged."""
        return {marker_in(request.render()) for request in self.sick}

    def sick_events(self) -> set[str]:
        """Return the markers of the events that were rejected."""
        return {marker for entry in self.acknowledged for marker in _rejected(entry)}

    def maybe(self) -> set[str]:
        """Return the markers of what may have arrived."""
        return {
            found.decode()
            for request in (*self.unknown, *self.maybe_sick)
            for found in MARKER.findall(request.render())
        }

    def misjudged(self) -> int:
        """Count the requests of which other events were rejected than the sick ones."""
        return sum(
            len(_rejected(entry)) != len(MARKER.findall(entry.request.render()))
            for entry in self.acknowledged
            if entry.request.chunk is None
        )


def is_sick(request: SessionRequest) -> bool:
    """Tell whether a request is a chunk of which no row may come."""
    return request.chunk is not None and request.chunk.window_id == SICK_WINDOW


def marker_in(data: bytes) -> str:
    """Return the marker of a poisoned record; empty if it has none."""
    found = MARKER.search(data)
    return found.group().decode() if found else ""


def _rejected(entry: Acknowledged) -> list[str]:
    if not entry.rejected:
        return []
    events = orjson.loads(entry.request.render())["events"]
    return [str(events[index].get("metadata", {}).get("note", "")) for index in sorted(entry.rejected)]


class LogPoison:
    """Puts records into the log that no version writes."""

    def __init__(self, kafka: KafkaSettings, prefix: str) -> None:
        # the broker goes away on purpose: nobody wants to read of it
        config: dict[str, Any] = producer_config(kafka, linger_ms=0, message_timeout_ms=300_000) | {"log_level": 0}
        self._producer = Producer(config, logger=logging.getLogger("librdkafka"))
        self._topic = topics.EVENTS.full_name(prefix)
        self.landed: set[str] = set()
        self.sent: set[str] = set()

    async def put(self, project_id: str, *, seconds: float) -> None:
        """Put one now and then until the time is over."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            self._put_one(session_key(project_id, f"log-poison-{len(self.sent) % 24}"))
            await asyncio.sleep(LOG_POISON_EVERY_S)
            self._producer.poll(0)

    def _put_one(self, key: bytes) -> None:
        marker = f"poison:log:{len(self.sent)}!"
        self.sent.add(marker)

        def landed(error: object, _message: object) -> None:
            if error is None:
                self.landed.add(marker)

        self._producer.produce(self._topic, marker, key, headers={"kind": "events"}, on_delivery=landed)

    def finish(self) -> None:
        """Wait until it is known what became of all of them."""
        self._producer.flush(60)


@dataclass(frozen=True, slots=True)
class Sender:
    """A project that sends, and what became of its requests."""

    key: str = field(repr=False)
    ledger: ChaosLedger


def send_everything(senders: Sequence[Sender], shape: Shape, *, gateway: str, seed: int, poison: LogPoison) -> None:
    """Send the load of all projects side by side, and return when each outcome is known.

    `shape` is that of all together.
    """
    share = replace(shape, rate=shape.rate / len(senders), sessions=max(1, shape.sessions // len(senders)))
    address = GatewayAddress.parse(gateway)

    async def send() -> None:
        async with asyncio.TaskGroup() as group:
            for number, sender in enumerate(senders):
                load = UnrulyLoad(seed=seed * 10 + number, name=f"chaos-{seed}-{number}", visits=16)
                group.create_task(
                    drive(load, share, address=address, key=sender.key, ledger=sender.ledger, policy=PERSISTENT)
                )
            group.create_task(poison.put(senders[0].ledger.project_id, seconds=shape.seconds))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())
    poison.finish()
