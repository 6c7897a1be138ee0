"""Carry out an erasure: the order is the package's."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TypeVar

from psycopg import errors

from adapters.erasures import Erasures, Subject
from adapters.postgres import Connection, Cursor

T = TypeVar("T")

BATCH_SESSIONS = 50
"""Removed in the first transaction: 0.6 s if each has 1,000 events."""

MOST_BATCH_SESSIONS = 2_000
BATCH_S = 0.5
"""What a transaction should take: signals of the issues that it changes wait for it."""

LOCK_PATIENCE_S = 60.0
LOCK_PAUSE_S = 0.5
"""Sinks that waited behind us for the lock get their turn."""


class Step(Enum):
    """The moments at which `on_step` is called: where tests end a process."""

    BLOCKED = 1
    REMOVED = 2
    FORGOTTEN = 3
    VERIFIED = 4
    NOTED = 5


class LocksHeld(Exception):
    """A transaction of a sink, or one that has rows of it, does not end: run it again, it goes on from there."""


class RowsLeft(Exception):
    """Something still names the sessions or the visitor: the message says in which tables."""


def next_batch(sessions: int, took_s: float) -> int:
    """Return how many sessions to remove in the next transaction, after one of so many: as many as take `BATCH_S`.

    400 days cost each transaction 0.1 s whatever it removes, so many small sessions go together, and few large ones.
    """
    if took_s < BATCH_S / 2:
        return min(2 * sessions, MOST_BATCH_SESSIONS)
    return max(1, sessions // 2) if took_s > 2 * BATCH_S else sessions


@dataclass(frozen=True, slots=True)
class Erased:
    """What is gone."""

    removed: dict[str, int]
    """Rows by table, what former runs removed included."""
    left: dict[str, int]
    """Rows by table, counted afterwards: none."""


@dataclass(slots=True)
class Erasure:
    """One run of the command, on a connection in autocommit mode that may delete: the tables' owner's."""

    connection: Connection
    subject: Subject
    on_step: Callable[[Step], None] = lambda _step: None
    batch_sessions: int = BATCH_SESSIONS
    patience_s: float = LOCK_PATIENCE_S
    _erasures: Erasures = field(default_factory=Erasures)

    def knows_project(self) -> bool:
        """Tell whether the subject's project exists."""
        return self._erasures.knows_project(self.connection, self.subject.project_id)

    def planned(self) -> dict[str, int]:
        """Count what a run would remove, by table."""
        if self.subject.kind == "session":
            return self._erasures.rows(self.connection, self.subject, [self.subject.id])
        found = self._erasures.sessions_of(self.connection, self.subject, only_blocked=False, most=None)
        return self._erasures.rows(self.connection, self.subject, found)

    def run(self) -> Erased:
        """Erase.

        Raises:
            LocksHeld: a transaction that is waited for does not end.
            RowsLeft: something is left.
            psycopg.Error: Postgres refuses or is away; run it again.
        """
        self._done(lambda cursor: self._erasures.block(cursor, self.subject))  # 1
        self.on_step(Step.BLOCKED)
        erased: list[str] = []
        for sessions in self._batches():  # 2
            began = time.monotonic()
            self._done(partial(self._erasures.remove, subject=self.subject, session_ids=sessions))
            self.batch_sessions = next_batch(self.batch_sessions, time.monotonic() - began)
            erased += sessions
            self.on_step(Step.REMOVED)
        if self.subject.kind == "visitor":  # 3
            self._done(lambda cursor: self._erasures.forget_name(cursor, self.subject))
        self.on_step(Step.FORGOTTEN)
        left = self._left(erased)  # 4
        if any(left.values()):
            raise RowsLeft(", ".join(f"{table}: {count}" for table, count in left.items() if count))
        self.on_step(Step.VERIFIED)
        removed = self._done(lambda cursor: self._erasures.note_done(cursor, self.subject))  # 5
        self.on_step(Step.NOTED)
        return Erased(removed, left)

    def _batches(self) -> Iterator[list[str]]:
        if self.subject.kind == "session":
            yield [self.subject.id]
            return
        while found := self._erasures.sessions_of(
            self.connection, self.subject, only_blocked=True, most=self.batch_sessions
        ):
            yield found

    def _left(self, sessions: Sequence[str]) -> dict[str, int]:
        left = Counter(self._erasures.rows(self.connection, self.subject, sessions))
        if self.subject.kind == "visitor":
            left.update(self._erasures.names(self.connection, self.subject))
            named = self._erasures.sessions_of(self.connection, self.subject, only_blocked=True, most=None)
            left["traceflow_sessions"] += len(named)
        return dict(left)

    def _done(self, work: Callable[[Cursor], T]) -> T:
        """Do the work in a transaction; again, while it meets locks that pass.

        Raises:
            LocksHeld: they do not.
        """
        ends_at = time.monotonic() + self.patience_s
        while True:
            try:
                with self.connection.transaction(), self.connection.cursor() as cursor:
                    return work(cursor)
            except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
                if time.monotonic() > ends_at:
                    raise LocksHeld(f"a transaction has been open for {self.patience_s:.0f} s") from error
            time.sleep(LOCK_PAUSE_S)
