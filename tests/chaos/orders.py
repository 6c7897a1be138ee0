"""Have a process stop or kill itself at a step of its work, whichever of a service comes to that step first.

An order is a file, `STEP SIGNAL`, in the folder of a service. A process that comes to the step takes the order by a
rename that adds its pid to the name, which one of several can, and sends itself the signal. So a fault meets a worker
that has its partitions and its load, and does not wait for one that has to start and join under all the other faults.
"""

import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

IN_THE_MIDDLE: Mapping[str, int] = {"HANDED": 10, "ACKED": 10}
"""So often these steps of a spool pass first: some requests of a segment are done then, and some are not."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order that was given."""

    file: Path

    @property
    def taken_by(self) -> int | None:
        """Return the pid of the process that took it; None as long as it waits."""
        return next((int(taken.suffix[1:]) for taken in self.file.parent.glob(f"{self.file.name}.*")), None)

    def withdraw(self) -> bool:
        """Take it back; False if a process was faster."""
        try:
            self.file.unlink()
        except FileNotFoundError:
            return False
        return True


class Orders:
    """Gives orders to the processes of each service."""

    def __init__(self, directory: Path, roles: Sequence[str]) -> None:
        self._directory = directory
        self._given = 0
        for role in roles:
            self.folder(role).mkdir(parents=True)

    def folder(self, role: str) -> Path:
        """Return where the processes of a service look."""
        return self._directory / role

    def give(self, role: str, step: str, number: signal.Signals) -> Order:
        """Order the process of a service that comes to a step first to send itself a signal there."""
        self._given += 1
        written = self._directory / "written"
        written.write_text(f"{step} {number.name}")
        return Order(written.rename(self.folder(role) / str(self._given)))


class AtSteps:
    """Carries the orders of a folder out, within the process that comes to their steps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._came: Counter[Path] = Counter()

    def __call__(self, step: Enum) -> None:
        for file in self._folder.iterdir():
            if not file.suffix:
                self._look_at(file, step)

    def _look_at(self, file: Path, step: Enum) -> None:
        try:
            wanted, number = file.read_text().split()
            if step.name != wanted:
                return
            self._came[file] += 1
            if self._came[file] < IN_THE_MIDDLE.get(wanted, 1):
                return
            file.rename(f"{file}.{os.getpid()}")
        except FileNotFoundError:
            return  # another took it, or it was withdrawn
        os.kill(os.getpid(), signal.Signals[number])


def client_id(role: str, pid: int) -> str:
    """Return a name for a worker in its group, by which its process is known; sinks have one of their own."""
    return f"traceflow {role}:{pid}/"


def is_of(name: str, pid: int) -> bool:
    """Tell whether a member of a group is of a process."""
    return f":{pid}/" in name
