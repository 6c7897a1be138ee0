"""Run processes: start them, keep them running, tell who runs, stop them in order.

All processes are started from the event loop's thread, which is the main thread: the kernel ties the parent-death
signal of a child to the thread that started it.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.runtime.output import LineSplitter
from deploy.runtime.program import Program, RuntimeFailure, kill_group
from deploy.runtime.restart import GiveUp, History, RestartPolicy, describe_exit, on_exit

_REMEMBERED_LINES = 15
_READ_BYTES = 65_536
_POLL_S = 0.05
_LAST_LINES_S = 2.0
"""How long the last lines of an ended process are waited for."""
_IMPATIENT_S = 20.0

WriteLine = Callable[[str, str], None]
Probe = Callable[[], Awaitable[str | None]]
"""Returns why the process cannot work yet, None once it can."""


class ConfigurationRefused(RuntimeFailure):
    """A process ended because of a setting; the message holds its last lines."""


@dataclass(slots=True)
class Child:
    """A process under supervision."""

    program: Program
    probe: Probe
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    history: History = field(default_factory=History)
    stop_asked: asyncio.Event = field(default_factory=asyncio.Event)
    waiting_for: str | None = None
    """Why it cannot work yet, while it is being started."""
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_LINES))

    @property
    def name(self) -> str:
        """Return the process's name."""
        return self.program.name

    @property
    def is_alive(self) -> bool:
        """Tell whether the process runs now."""
        return self.process is not None and self.process.returncode is None


class Supervisor:
    """The processes of one runtime; `write` takes their lines, `on_restart` is called when a pid has changed."""

    def __init__(self, *, write: WriteLine, on_restart: Callable[[], None], policy: RestartPolicy) -> None:
        self.children: list[Child] = []
        self._write = write
        self._on_restart = on_restart
        self._policy = policy
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, children: Sequence[Child], *, deadline_s: float) -> None:
        """Start processes and return when each of them can work; a process that ends meanwhile is started again.

        Raises:
            RuntimeFailure: one of them cannot run with its settings, or cannot work at the deadline.
        """
        self.children += children
        for child in children:
            child.keeper = asyncio.create_task(self._keep(child), name=child.name)
        ready = asyncio.gather(*(self._until_ready(child) for child in children))
        waited: list[asyncio.Future[Any]] = [ready, self._failed]
        try:
            done, _ = await asyncio.wait(waited, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ready
        if self._failed.done():
            self._failed.result()
        if not done:
            late = [f"{child.name} ({child.waiting_for})" for child in children if child.waiting_for]
            raise RuntimeFailure(f"not ready within {deadline_s:.0f} s: {', '.join(late)}")

    async def until_failure(self) -> None:
        """Wait until a process gives up.

        Raises:
            RuntimeFailure: it did.
        """
        await asyncio.shield(self._failed)

    async def stop(self, children: Sequence[Child]) -> None:
        """Stop processes side by side: ask, wait until each one's deadline, then end what is left of their groups."""
        await asyncio.gather(*(self._stop_one(child) for child in children))

    def kill(self) -> None:
        """End everything at once."""
        for child in self.children:
            child.stop_asked.set()
            if child.process is not None and child.is_alive:
                kill_group(child.process.pid)

    async def _keep(self, child: Child) -> None:
        while not child.stop_asked.is_set():
            started = time.monotonic()
            code = await self._run_once(child)
            if child.stop_asked.is_set():
                return
            now = time.monotonic()
            child.history, decision = on_exit(
                child.history,
                self._policy,
                code=code,
                ran_ms=int((now - started) * 1000),
                now_ms=int(now * 1000),
                chance=random.random(),  # noqa: S311 # no secret
            )
            if isinstance(decision, GiveUp):
                self._give_up(child, code, decision)
                return
            delay_s = max(0.0, decision.at_ms / 1000 - now)
            self._write("traceflow", f"{child.name} {describe_exit(code)}; starting it again in {delay_s:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.stop_asked.wait(), delay_s)

    async def _run_once(self, child: Child) -> int:
        program = child.program
        first = child.process is None
        process = child.process = await asyncio.create_subprocess_exec(
            *program.leashed(),
            env=dict(program.environ),
            cwd=program.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        if child.stop_asked.is_set():
            process.send_signal(program.stop_signal)
        elif not first:
            self._on_restart()
        pump = asyncio.create_task(self._pump(child, process))
        # process.wait() would also wait until whoever inherited its output has ended
        while process.returncode is None:  # noqa: ASYNC110 # nothing else tells of the end alone
            await asyncio.sleep(_POLL_S)
        # what it started must not outlive it and hold its ports, files and output
        kill_group(process.pid)
        await asyncio.wait([pump], timeout=_LAST_LINES_S)
        pump.cancel()
        return process.returncode

    async def _pump(self, child: Child, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            raise RuntimeError("started without a pipe")
        splitter = LineSplitter()
        while data := await process.stdout.read(_READ_BYTES):
            self._say(child, splitter.feed(data))
        self._say(child, splitter.end())

    def _say(self, child: Child, lines: list[str]) -> None:
        for line in lines:
            child.last_lines.append(line)
            self._write(child.name, line)

    def _give_up(self, child: Child, code: int, decision: GiveUp) -> None:
        said = "; ".join(list(child.last_lines)[-3:]) or "it wrote nothing"
        if not self._failed.done():
            self._failed.set_exception(
                ConfigurationRefused(f"{child.name} {describe_exit(code)}: {decision.reason}: {said}")
            )

    async def _until_ready(self, child: Child) -> None:
        impatient_at = time.monotonic() + _IMPATIENT_S
        while (reason := await child.probe()) is not None:
            child.waiting_for = reason
            if time.monotonic() > impatient_at:
                self._write("traceflow", f"still waiting for {child.name}: {reason}")
                impatient_at = time.monotonic() + _IMPATIENT_S
            await asyncio.sleep(_POLL_S)
        child.waiting_for = None

    async def _stop_one(self, child: Child) -> None:
        child.stop_asked.set()
        if child.process is not None and child.is_alive:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(child.program.stop_signal)
        if child.keeper is None:
            return
        done, _ = await asyncio.wait([child.keeper], timeout=child.program.stop_deadline_s)
        if not done and child.process is not None:
            seconds = child.program.stop_deadline_s
            self._write("traceflow", f"{child.name} did not stop within {seconds:.0f} s; ending it")
            kill_group(child.process.pid)
            await child.keeper


def end_by_signal(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, at_once: Callable[[], None]) -> None:
    """Let the first SIGINT, SIGTERM or SIGHUP set `stop`, and a second one end everything at once."""

    def on_signal() -> None:
        if stop.is_set():
            at_once()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)


def pids(children: Sequence[Child]) -> list[dict[str, str | int]]:
    """Return name and pid of each process, in the order of their start."""
    return [{"name": child.name, "pid": child.process.pid} for child in children if child.process is not None]
