import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from deploy.runtime.program import Program, RuntimeFailure
from deploy.runtime.restart import RestartPolicy
from deploy.runtime.supervisor import Child, ConfigurationRefused, Supervisor, pids

QUICK = RestartPolicy(resume_delay_ms=10, first_delay_ms=20, jitter=0)
DEADLINE_S = 20.0


async def ready() -> str | None:
    return None


def child(code: str, *, name: str = "one", stop_deadline_s: float = 5.0) -> Child:
    program = Program(
        name=name, argv=(sys.executable, "-c", code), environ=dict(os.environ), stop_deadline_s=stop_deadline_s
    )
    return Child(program, probe=ready)


def exists(pid: int) -> bool:
    with contextlib.suppress(OSError):
        # a zombie has ended
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 # what is waited for happens in other processes
            await asyncio.sleep(0.01)


class Watched:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.restarts = 0
        self.supervisor = Supervisor(write=self.write, on_restart=self.on_restart, policy=QUICK)

    def write(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")

    def on_restart(self) -> None:
        self.restarts += 1


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    found = Watched()
    try:
        yield found
    finally:
        await found.supervisor.stop(found.supervisor.children)


SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def test_output_is_told_by_name_and_a_stop_ends_the_process() -> None:
    async def scenario() -> None:
        async with watched() as run:
            await run.supervisor.start([child(SLEEP)], deadline_s=DEADLINE_S)
            await until(lambda: "one: up" in run.lines)
            (entry,) = pids(run.supervisor.children)
            assert entry["name"] == "one"
            assert exists(int(entry["pid"]))
        assert not exists(int(entry["pid"]))

    asyncio.run(scenario())


@pytest.mark.parametrize(("code", "words"), [(75, "asked to be restarted (exit 75)"), (3, "ended with exit 3")])
def test_an_ended_process_is_started_again_under_a_new_pid(code: int, words: str, tmp_path: Path) -> None:
    once = tmp_path / "once"
    script = (
        f"import pathlib,sys,time; p=pathlib.Path({str(once)!r})\n"
        f"if p.exists(): time.sleep(60)\np.touch(); sys.exit({code})"
    )

    async def scenario() -> None:
        async with watched() as run:
            await run.supervisor.start([child(script)], deadline_s=DEADLINE_S)
            await until(lambda: run.restarts == 1)
            assert any(f"one {words}" in line for line in run.lines)

    asyncio.run(scenario())


def test_a_killed_process_is_started_again() -> None:
    async def scenario() -> None:
        async with watched() as run:
            await run.supervisor.start([child(SLEEP)], deadline_s=DEADLINE_S)
            await until(lambda: "one: up" in run.lines)
            before = int(pids(run.supervisor.children)[0]["pid"])
            os.kill(before, signal.SIGKILL)
            await until(lambda: run.restarts == 1)
            assert int(pids(run.supervisor.children)[0]["pid"]) != before
            assert any("was ended by signal 9" in line for line in run.lines)

    asyncio.run(scenario())


def test_a_wrong_setting_ends_the_run_with_its_last_words() -> None:
    async def scenario() -> None:
        async with watched() as run:
            await run.supervisor.start([child(SLEEP, name="other")], deadline_s=DEADLINE_S)
            bad = child("import sys; print('TRACEFLOW_X: wrong'); sys.exit(78)", name="bad")
            await run.supervisor.start([bad], deadline_s=DEADLINE_S)
            await run.supervisor.until_failure()

    with pytest.raises(ConfigurationRefused, match=r"bad ended with exit 78: a person has to act: TRACEFLOW_X: wrong"):
        asyncio.run(scenario())


def test_what_is_never_ready_is_named_at_the_deadline() -> None:
    async def never() -> str | None:
        return "no topics"

    async def scenario() -> None:
        async with watched() as run:
            unready = child(SLEEP)
            unready.probe = never
            await run.supervisor.start([unready], deadline_s=0.3)

    with pytest.raises(RuntimeFailure, match=r"not ready within 0 s: one \(no topics\)"):
        asyncio.run(scenario())


def test_a_process_that_will_not_stop_is_ended_with_what_it_started() -> None:
    script = (
        "import signal,subprocess,sys,time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)'])\n"
        "print('grandchild', p.pid, flush=True); time.sleep(60)"
    )

    async def scenario() -> list[str]:
        async with watched() as run:
            await run.supervisor.start([child(script, stop_deadline_s=0.3)], deadline_s=DEADLINE_S)
            await until(lambda: any("grandchild" in line for line in run.lines))
            grandchild = int(next(line for line in run.lines if "grandchild" in line).split()[-1])
        await until(lambda: not exists(grandchild))
        return run.lines

    assert "traceflow: one did not stop within 0 s; ending it" in asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_no_process_stays_when_the_supervisor_itself_is_killed() -> None:
    script = f"""
import asyncio, os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from deploy.runtime.program import Program
from deploy.runtime.restart import RestartPolicy
from deploy.runtime.supervisor import Child, Supervisor, pids

async def ready():
    return None

async def main():
    run = Supervisor(write=lambda name, line: None, on_restart=lambda: None, policy=RestartPolicy())
    sleeper = (sys.executable, "-c", {SLEEP!r})
    await run.start([Child(Program(name=n, argv=sleeper, environ=dict(os.environ)), ready) for n in "ab"], deadline_s=9)
    while len(pids(run.children)) < 2:
        await asyncio.sleep(0.01)
    print(*(entry["pid"] for entry in pids(run.children)), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        children = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(children) == 2
        supervisor.kill()
    ends_at = time.monotonic() + DEADLINE_S
    while any(map(exists, children)) and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert not any(map(exists, children))
