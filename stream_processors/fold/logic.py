"""The contract between the generic fold and the logic of a stage (digest, analyze).

A stage is a fold over one partition's log. The fold (`partition`) owns offsets, skipping, facts, expiry and recovery; a
`SessionLogic` owns what a session's state means. Everything here is a pure function of the log: no clock, no I/O, no
randomness, and nothing may depend on where a batch begins or ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from schemas.reasons import Reason

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the stage's input log."""

    offset: int
    timestamp: int
    """Broker time (LogAppendTime), epoch ms."""
    kind: str
    """The header `kind`."""
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """A record to be sent to the same partition of `topic` (named without prefix)."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Parked:
    """A record, or the event at `index` within it, that goes to the dead letters; its effect on the state is none."""

    record: LogRecord
    reason: Reason
    detail: str = ""
    index: int = -1


class RecordRefused(Exception):
    """The logic cannot use this record: the fold parks it with `reason`, and the state stays as it was before."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class NewerStateFormat(Exception):
    """A state was written by a newer version than this one reads: the process ends, because it would undo its work."""


@dataclass(slots=True)
class Emitted:
    """What a logic says while it folds: outputs in order, and parts of the record to be parked."""

    outputs: list[Output] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lives without traffic, ms of log time."""

    gap_ms: int
    """Inactivity after which it is closed."""
    residue_ms: int
    """How long a closed session stays known, so that late data continues the same life."""


class SessionLogic(Protocol[S]):
    """The logic of a stage; `S` is its state of one session, which it may change in place.

    `moment` is the stage's clock: the watermark that the fold keeps, epoch ms of broker time, never moving back.
    Exceptions other than RecordRefused and NewerStateFormat are bugs: the fold parks the record as `engine_error` and
    goes on without it. A method that raises may leave the state half changed: the fold drops it and makes it anew.
    """

    session_kinds: frozenset[str]
    """Record kinds that belong to a session: their key names it."""

    tick_kinds: frozenset[str]
    """Record kinds that belong to no session: they may move the clock; sessions with records since are reported."""

    def clock(self, record: LogRecord) -> int:
        """Return the moment that a tick record shows, epoch ms; 0 if it moves no clock.

        Raises:
            RecordRefused: the tick cannot be read.
        """

    def source(self, record: LogRecord) -> int | None:
        """Return the offset in the upstream log that the record stands for; None if it has no upstream.

        A record at or below the highest source seen is skipped; one beyond the next is ignored, because its sender will
        send again in order. The first one that a partition ever sees may have any source.

        Raises:
            RecordRefused: the record cannot be read.
        """

    def open(self, key: bytes, record: LogRecord) -> S:
        """Make the state of a session whose first record this is; `apply` is called with it next."""

    def apply(self, state: S, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Fold one record of the session into its state.

        Raises:
            RecordRefused: the record cannot be used.
        """

    def reopen(self, state: S, key: bytes, record: LogRecord) -> None:
        """Prepare a closed session for the late record that `apply` is called with next."""

    def wake_at(self, state: S) -> int:
        """Return the moment at which `on_time` wants to be called; 0 for never. Asked after each change."""

    def on_time(self, state: S, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:
        """Settle what is due: `moment` is beyond `wake_at`; `offset` is the record that moved the clock.

        Called at most once a tick; a session for which it raises is closed without outputs. What `on_report` emits must
        not depend on it: a session that is only woken is not reported.
        """

    def on_close(self, state: S, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:
        """Settle everything that is open and emit the final outputs: the session has been idle for its gap.

        If it raises, the session is closed all the same, without outputs.
        """

    def on_report(self, state: S, key: bytes, *, offset: int, out: Emitted) -> None:
        """Emit the snapshot of a session that had records since the last tick; must not change the state.

        `offset` is the record that changed it last: the same offset always comes with the same state.
        """

    def on_tick(self, record: LogRecord, out: Emitted) -> None:
        """Emit what each tick record gives, whether or not it moves the clock; it comes last."""

    def on_refused(self, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Emit what must be sent even for a record that was parked, of whatever kind; `key` is empty if it has none."""

    def lifetime(self, state: S) -> Lifetime:
        """Return the session's lifetime: constant within a life."""

    def weight(self, state: S) -> int:
        """Return what a decoded state weighs in the fold's cache, in the logic's own unit (bytes or nodes).

        Asked after each change, so it must not walk through the state.
        """

    def encode(self, state: S) -> bytes:
        """Encode the state; the same state gives the same bytes in every process.

        `decode(encode(state))` behaves as `state` does: the fold swaps them as memory asks. If it raises, the process
        ends.
        """

    def decode(self, data: bytes) -> S:
        """Decode a state.

        Raises:
            NewerStateFormat: the state was written by a newer version of the logic.
        """
