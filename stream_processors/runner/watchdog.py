"""End a worker that is alive and does nothing: a thread that looks at it from outside its event loop."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stream_processors.runner.failstop import fail_stop

CHECK_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each state may last, seconds."""

    settling_s: float = 120.0
    """Joining the group or recovering: longer, and recovery could race the log cleaner."""
    stalled_s: float = 60.0
    """A partition has records that wait, and is not written any further."""
    silent_s: float = 60.0
    """The event loop does not answer."""
    commit_s: float = 120.0
    """The group takes no commit: nothing depends on it, but a consumer that cannot commit is about to be lost."""


class Progress(NamedTuple):
    """A partition at a moment."""

    written: int
    """The last offset that is durably included; -1 for none."""
    end: int
    """The offset that the log will give next, as far as we know."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the worker looks like at a moment, monotonic seconds."""

    is_settled: bool
    heard_at: float
    """When the event loop last did its round."""
    committed_at: float
    """When the group last took a commit."""
    progress: Mapping[int, Progress] = field(default_factory=dict)
    """By partition."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the worker has been like since when; a policy that is given the time."""

    patience: Patience
    unsettled_since: float | None = None
    settled_since: float | None = None
    waiting: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    """Partitions with records that wait: what was written when first seen, and when that was."""

    def look(self, vitals: Vitals, *, now: float) -> "Judgement":
        """Return the judgement after a look."""
        if not vitals.is_settled:
            return Judgement(self.patience, unsettled_since=_earlier(self.unsettled_since, now))
        waiting = {}
        for partition, (written, end) in vitals.progress.items():
            if written + 1 < end:
                seen = self.waiting.get(partition)
                waiting[partition] = seen if seen is not None and seen[0] == written else (written, now)
        return Judgement(self.patience, settled_since=_earlier(self.settled_since, now), waiting=waiting)

    def verdict(self, vitals: Vitals, *, now: float) -> str | None:
        """Return why the worker has to end, or None."""
        patience = self.patience
        if now - vitals.heard_at > patience.silent_s:
            return "the event loop hangs"
        if self.unsettled_since is not None and now - self.unsettled_since > patience.settling_s:
            return "joining or recovering takes too long"
        for partition, (written, since) in self.waiting.items():
            if now - since > patience.stalled_s:
                return f"partition {partition} stands at {written} while records wait"
        if self.settled_since is not None and now - max(self.settled_since, vitals.committed_at) > patience.commit_s:
            return "the group takes no commit"
        return None


def _earlier(since: float | None, now: float) -> float:
    return now if since is None else since


def watch(vitals: Callable[[], Vitals], *, clock: Callable[[], float], patience: Patience | None = None) -> None:
    """Start the thread; it ends the process with the stacks of all threads."""

    def loop() -> None:
        judgement = Judgement(patience or Patience())
        pause = threading.Event()
        while not pause.wait(CHECK_S):
            now, seen = clock(), vitals()
            judgement = judgement.look(seen, now=now)
            if reason := judgement.verdict(seen, now=now):
                fail_stop("worker_is_stuck", reason=reason, stacks=True)

    threading.Thread(target=loop, name="watchdog", daemon=True).start()
