"""A TraceFlow of the demo's own: `traceflow up` on a temporary directory, gone afterwards without a trace."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from deploy.load import Target
from deploy.runtime.program import Program, RuntimeFailure

SESSION_GAP_MS = 4_000
"""Half an hour in earnest. Longer than any pause between two requests of a replayed session."""

FLUSH_GRACE_MS = 500
"""10 s in earnest: real SDKs hold events back, the replay does not."""

PARTITIONS = 4
"""Enough to see that sessions are spread; each costs a few files on three topics and time at the start."""

START_DEADLINE_S = 900.0
"""The first start downloads Kafka."""

_KEPT = frozenset(("TRACEFLOW_CACHE_DIR", "TRACEFLOW_JAVA", "TRACEFLOW_MAVEN_URL"))
_POLL_S = 0.1
_TOLD_LINES = 15


class System(NamedTuple):
    """A running TraceFlow."""

    target: Target
    ready: Path
    """The ready file, which `traceflow up` keeps true: it has the processes and their pids."""
    log: Path
    """What all processes say."""
    pid: int
    """Of `traceflow up`, the parent of all processes."""


UP = (sys.executable, "-c", "from deploy.command import main; main()", "up")


@contextmanager
def own_system(
    environ: Mapping[str, str],
    *,
    report: Callable[[str], None],
    workers: str = "",
    partitions: int = PARTITIONS,
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = UP,
) -> Iterator[System]:
    """Run everything for the time of a block; `report` gets the lines that tell how the start proceeds.

    `workers` is as for `traceflow up --workers`; `settings` are further variables of the services; `command` is what
    starts it.

    Raises:
        RuntimeFailure: it cannot be started; the message holds the last lines of its log.
    """
    with _ended_by_sigterm():
        folder = Path(tempfile.mkdtemp(prefix="traceflow-demo-")).resolve()
        try:
            # as root the database runs as another user, who has to pass
            folder.chmod(0o711)
            options = ["--partitions", str(partitions), *(["--workers", workers] if workers else [])]
            with _running(
                folder, demo_environment(environ) | dict(settings or {}), report, [*command, *options]
            ) as system:
                yield system
        finally:
            _remove(folder)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the block as Ctrl-C does, so that nothing is left behind."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def demo_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the demo's system: its own servers and defaults, whatever is set for others."""
    kept = {name: value for name, value in environ.items() if not name.startswith("TRACEFLOW_") or name in _KEPT}
    return kept | {
        "TRACEFLOW_STAGE_SESSION_GAP_MS": str(SESSION_GAP_MS),
        "TRACEFLOW_STAGE_FLUSH_GRACE_MS": str(FLUSH_GRACE_MS),
    }


@contextmanager
def _running(
    folder: Path, environ: Mapping[str, str], report: Callable[[str], None], command: Sequence[str]
) -> Iterator[System]:
    ready, log = folder / "ready.json", folder / "up.log"
    program = Program(
        name="traceflow up",
        argv=(*command, "--data", str(folder / "data"), "--gateway-port", "0", "--ready-file", str(ready)),
        environ=environ,
        # if we are killed it still ends its children in order
        orphan_signal=signal.SIGTERM,
        stop_deadline_s=90.0,
    )
    with log.open("wb") as output:
        process = program.start(output)
    try:
        yield System(_wait_until_ready(process, ready, log, report), ready, log, process.pid)
    finally:
        program.stop(process)


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", ready: Path, log: Path, report: Callable[[str], None]
) -> Target:
    ends_at = time.monotonic() + START_DEADLINE_S
    with log.open(errors="replace") as lines:
        while not ready.exists():
            for line in lines:
                name, bar, said = line.partition(" | ")
                if bar and name.strip() == "traceflow":
                    report(said.strip())
            if process.poll() is not None:
                raise RuntimeFailure(f"`traceflow up` ended with code {process.returncode}:\n{_tail(log)}")
            if time.monotonic() > ends_at:
                raise RuntimeFailure(f"nothing accepts work after {START_DEADLINE_S:.0f} s:\n{_tail(log)}")
            time.sleep(_POLL_S)
    state: dict[str, Any] = orjson.loads(ready.read_bytes())
    return Target(**{name: state[name] for name in Target._fields})


def _tail(log: Path) -> str:
    """Return the last lines of the processes: those without a name before them may hold the key."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if " | " in line or "traceflow:" in line]
    return "\n".join(lines[-_TOLD_LINES:])


def _remove(folder: Path) -> None:
    database = (folder / "data" / "postgres").resolve()
    if not database.is_relative_to(folder):
        # the server's user may not enter the temporary directory, so the files lie elsewhere
        shutil.rmtree(database, ignore_errors=True)
        with suppress(OSError):
            database.parent.rmdir()
    shutil.rmtree(folder, ignore_errors=True)
