"""How a child process is described, started and stopped.

Each child leads its own session, so a Ctrl-C in the terminal reaches only the supervisor, and the whole group can be
ended at once. The parent-death signal is tied to the thread that starts the child: start children from the main thread.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_LEASH = Path(__file__).with_name("leash.py")


class RuntimeFailure(Exception):
    """The local runtime cannot do what was asked; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """A child process: what runs, as whom, and how it is asked to stop."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    user: str | None = None
    """Whom root becomes for it; None stays who we are."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends when the supervisor is gone: nothing here needs a goodbye to stay correct."""
    stop_deadline_s: float = 15.0
    directory: str | None = None
    """Its working directory; None is ours, so that relative paths in settings mean the same."""

    def leashed(self) -> list[str]:
        """Return the argument list that ties the program to this process."""
        head = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(int(self.orphan_signal))]
        return [*head, self.user or "-", *self.argv]

    def start(self, output: IO[bytes] | int) -> "subprocess.Popen[bytes]":
        """Start it with both of its output streams going to `output`."""
        return subprocess.Popen(
            self.leashed(),
            env=dict(self.environ),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Ask it to stop, wait, and end its whole group when the deadline has passed."""
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.stop_deadline_s)
        kill_group(process.pid)
        process.wait()


def kill_group(pid: int) -> None:
    """SIGKILL whatever is left of a child's process group."""
    # gone, or (macOS) only zombies are left
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
