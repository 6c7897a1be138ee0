"""CPU seconds and resident memory of processes, read from /proc: what a benchmark can trust on a shared machine."""

import os
import resource
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICK = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


def process_tree(pid: int) -> list[int]:
    """Return a process and its living descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo += children.get(current, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time of the processes, and of their children that ended, seconds."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / _TICK


def thread_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process's first thread, to the nanosecond: a backend of PostgreSQL has no other."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of the processes; shared pages count in each."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except OSError:
            continue
    return total


class Resident:
    """The resident memory of a process and its descendants for the time of a block: the highest of samples."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resident")
        self.highest_mb = 0.0

    def now_mb(self) -> float:
        """Return what it is now."""
        return resident_bytes(process_tree(self._pid)) / 1e6

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_SAMPLE_S):
            self.highest_mb = max(self.highest_mb, self.now_mb())


def allow_many_files() -> int:
    """Raise this process's limit of open files, and that of its children to come, as far as it may; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@dataclass(frozen=True, slots=True)
class Usage:
    """What a measured stretch took."""

    wall_s: float
    cpu_s: Mapping[str, float]
    """By the name given to each process tree."""


class Stopwatch:
    """Measures wall time and the CPU seconds of named process trees between `start` and `stop`."""

    def __init__(self, trees: Mapping[str, int]) -> None:
        self._trees = dict(trees)
        self._began = 0.0
        self._cpu: dict[str, float] = {}

    def start(self) -> None:
        """Begin the stretch."""
        self._cpu = self._now()
        self._began = time.monotonic()

    def stop(self) -> Usage:
        """End the stretch."""
        wall = time.monotonic() - self._began
        return Usage(wall, {name: total - self._cpu.get(name, 0.0) for name, total in self._now().items()})

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(process_tree(pid)) for name, pid in self._trees.items()}
