"""Send a load at a steady rate.

Each worker owns a connection with one request in flight, and a share of the sessions that are open at once, which it
takes in turn: a session's requests keep their order, as in a page. What takes longer than planned is made up for. Only
a worker that has fallen more than `MAX_BEHIND_S` behind gives that time up, or a recovered system would be hit by all
that was not sent during its outage. The report shows the rate that was really reached beside the one asked for.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

import uvloop

from deploy.load import Target
from deploy.load.delivery import PATIENT, Client, RetryPolicy, Tally
from deploy.load.generator import Load
from deploy.load.ledger import Ledger
from deploy.load.report import LoadClock, LoadReport, summarise
from deploy.load.request import GatewayAddress, SessionRequest

MAX_WORKERS = 32
MAX_BEHIND_S = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How much is sent."""

    rate: float
    """Structured events a second; recording chunks come on top."""
    seconds: float
    sessions: int = 200
    """Open at once; one that ends is followed by a new one."""


class _Numbers:
    """Numbers sessions in the order in which they begin."""

    def __init__(self) -> None:
        self._next = 0

    def take(self) -> int:
        self._next += 1
        return self._next


async def drive(
    load: Load,
    shape: Shape,
    *,
    address: GatewayAddress,
    key: str,
    ledger: Ledger,
    policy: RetryPolicy = PATIENT,
) -> Tally:
    """Send the load, and return what the clients saw when the last outcome is known."""
    tally = Tally()
    numbers = _Numbers()
    workers = min(MAX_WORKERS, shape.sessions)
    shares = [shape.sessions // workers + (n < shape.sessions % workers) for n in range(workers)]
    async with asyncio.TaskGroup() as group:
        for n, share in enumerate(shares):
            client = Client(address, key, ledger=ledger, tally=tally, policy=policy)
            worker = _Worker(load, numbers, client, open_sessions=share)
            group.create_task(worker.run(shape, share=share / shape.sessions, head_start=n / workers))
    return tally


class _Worker:
    def __init__(self, load: Load, numbers: _Numbers, client: Client, *, open_sessions: int) -> None:
        self._load = load
        self._numbers = numbers
        self._client = client
        self._open: list[Iterator[SessionRequest]] = [self._begin() for _ in range(open_sessions)]

    async def run(self, shape: Shape, *, share: float, head_start: float) -> None:
        """Send this worker's share of the rate until the time is over."""
        rate = shape.rate * share
        began = time.monotonic()
        # workers start one after the other within the time of one request
        due = began + head_start * 20 / rate
        turn = 0
        while due < began + shape.seconds:
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            elif now - due > MAX_BEHIND_S:
                due = now
            due += await self._flush(turn) / rate
            turn = (turn + 1) % len(self._open)
        self._client.close()

    async def _flush(self, turn: int) -> int:
        """Send a session's next flush, its chunk and its events, and return how many events that were."""
        while True:
            request = next(self._open[turn], None)
            if request is None:
                self._open[turn] = self._begin()
                continue
            await self._client.deliver(request)
            if request.chunk is None:
                return request.event_count

    def _begin(self) -> Iterator[SessionRequest]:
        return self._load.session(self._numbers.take(), now_ms=time.time_ns() // 1_000_000)


def send_load(target: Target, shape: Shape, *, seed: int) -> tuple[Ledger, LoadReport]:
    """Send a load from an event loop of its own, and count."""
    ledger = Ledger(target.project_id)
    load = Load(seed=seed, name=f"load-{seed}-{time.time_ns() // 1_000_000:x}")
    clock = LoadClock()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        address = GatewayAddress.parse(target.gateway)
        tally = runner.run(drive(load, shape, address=address, key=target.project_key, ledger=ledger))
    wall_s, cpu_s = clock.read()
    return ledger, summarise(ledger, tally, wall_s=wall_s, cpu_s=cpu_s, asked_rate=shape.rate)
