"""End a worker that is alive and does nothing: a thread that looks at it from outside its event loop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from stream_processors.failstop import fail_stop

CHECK_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each state may last, seconds."""

    settling_s: float = 120.0
    """Joining the group or recovering: longer, and recovery could race the log cleaner."""
    idle_s: float = 60.0
    """Records wait, and no batch is finished."""
    silent_s: float = 60.0
    """The event loop does not answer."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the worker looks like at a moment, monotonic seconds."""

    is_settled: bool
    lag: int
    finished_at: float
    """When the last batch was finished."""
    heard_at: float
    """When the event loop last did its round."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Where the worker has been since when; a policy that is given the time."""

    patience: Patience
    unsettled_since: float | None = None
    lagging_since: float | None = None

    def look(self, vitals: Vitals, *, now: float) -> "Judgement":
        """Return the judgement after a look."""
        return Judgement(
            patience=self.patience,
            unsettled_since=None if vitals.is_settled else self.unsettled_since or now,
            lagging_since=self.lagging_since or now if vitals.is_settled and vitals.lag else None,
        )

    def verdict(self, vitals: Vitals, *, now: float) -> str | None:
        """Return why the worker has to end, or None."""
        patience = self.patience
        if now - vitals.heard_at > patience.silent_s:
            return "the event loop hangs"
        if self.unsettled_since is not None and now - self.unsettled_since > patience.settling_s:
            return "joining or recovering takes too long"
        if self.lagging_since is not None and now - max(self.lagging_since, vitals.finished_at) > patience.idle_s:
            return "records wait and no batch is finished"
        return None


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
