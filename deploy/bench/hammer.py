"""Clients that send one request over and over from a thread, and note when each answer came and what it was."""

import asyncio
import itertools
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple, Self

import uvloop

from deploy.load.connection import Connection, ConnectionFailed
from deploy.load.request import GatewayAddress

TIMEOUT_S = 15.0
"""Three times what the gateway allows a request."""


class Answered(NamedTuple):
    """An answer, or a connection that broke instead."""

    lane: str
    sent_at: float
    """Of the monotonic clock, seconds."""
    took_s: float
    status: int
    """0 for none: the connection was refused, broke, or timed out."""
    retry_after_s: float | None


class Hammer:
    """Clients for the time of a block, each with the request of one lane; its end waits for the last answers."""

    def __init__(
        self,
        address: GatewayAddress,
        requests: Mapping[str, bytes],
        *,
        clients: int,
        pause_s: float = 0.0,
        fresh: bool = False,
    ) -> None:
        self._address = address
        self._clients = clients
        self._pause_s = pause_s
        self._fresh = fresh
        """Each request on a connection of its own, as of a client that was not there before."""
        self._turns = itertools.cycle(requests.items())
        self._is_over = threading.Event()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hammer")
        self.answers: list[Answered] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._has_begun.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def lanes_with(self, status: int, *, since: float) -> set[str]:
        """Return the lanes in which a request that was sent since then got this answer."""
        return {answer.lane for answer in self.answers[:] if answer.status == status and answer.sent_at >= since}

    def add_client(self) -> None:
        """Let another client come."""
        self._loop.call_soon_threadsafe(self._add_client)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._send_all())

    async def _send_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as self._group:
            for _ in range(self._clients):
                self._add_client()
            self._has_begun.set()

    def _add_client(self) -> None:
        self._group.create_task(self._send(*next(self._turns)))

    async def _send(self, lane: str, wire: bytes) -> None:
        connection = Connection(self._address, timeout_s=TIMEOUT_S)
        while not self._is_over.is_set():
            sent_at = time.monotonic()
            try:
                answer = await connection.send(wire)
                status, retry_after_s = answer.status, answer.retry_after_s
            except ConnectionFailed:
                status, retry_after_s = 0, None
            self.answers.append(Answered(lane, sent_at, time.monotonic() - sent_at, status, retry_after_s))
            if self._fresh:
                connection.close()
            await asyncio.sleep(self._pause_s)
        connection.close()
