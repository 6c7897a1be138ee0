"""Chores: what a sink process does for the database beside its rows, on one thread and with no one else's connection.

A chore has an interval, and finds out for itself whether another process is doing the same. It comes on a connection of
its own, so that whatever it sets or locks ends with it. One that fails is tried again soon and keeps no other one back.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import psycopg
import structlog

from adapters.postgres import Connection, DatabaseRefused

HOUR_S = 3_600.0
RETRY_S = 10.0

log = structlog.get_logger()


class Work(Protocol):
    """What a chore does."""

    def __call__(self, connection: Connection, *, may_go_on: Callable[[], bool]) -> None:
        """Do it, in steps that may end anywhere; ask before each one that takes long whether the process goes on.

        Raises:
            psycopg.Error: it is to be tried again.
        """


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done again and again."""

    name: str
    work: Work
    interval_s: float = HOUR_S


class Housekeeper:
    """Does each chore at the start and at its interval."""

    def __init__(self, connect: Callable[[], Connection], chores: Sequence[Chore], *, retry_s: float = RETRY_S) -> None:
        self._connect = connect
        self._chores = tuple(chores)
        self._retry_s = retry_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin; all chores are done at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the step that is running."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = [time.monotonic()] * len(self._chores)
        while not self._stop.wait(max(0.0, min(due_s) - time.monotonic())):
            place = due_s.index(min(due_s))
            chore = self._chores[place]
            due_s[place] = (chore.interval_s if self._is_done(chore) else self._retry_s) + time.monotonic()

    def _is_done(self, chore: Chore) -> bool:
        try:
            with self._connect() as connection:
                chore.work(connection, may_go_on=lambda: not self._stop.is_set())
        except (psycopg.Error, DatabaseRefused) as error:
            log.warning("chore_failed", chore=chore.name, error=str(error))
            return False
        except Exception:  # a bug in one chore: the others go on
            log.exception("chore_failed", chore=chore.name)
            return False
        return True
