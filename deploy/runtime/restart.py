"""When an ended process is started again: a pure state machine that is given the time.

- Exit 75 (EX_TEMPFAIL): "restart me, I resume from my state". Soon, and only slowly later if it keeps happening.
- Exit 78 (EX_CONFIG): a person has to act (a wrong setting, a log that lost something); starting it again cannot help,
  so everything stops with its message.
- Anything else, death by a signal and an unexpected exit 0 too: a delay that doubles up to a bound.

A process that has run for long enough starts with a clean record. Jitter keeps the processes that one broker's death
ended from coming back at the same instant.
"""

from dataclasses import dataclass, replace

EXIT_RESUME = 75
EXIT_CONFIGURATION = 78


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The numbers of the policy."""

    resume_delay_ms: int = 200
    """After exit 75: the group coordinator needs about this long to notice that the member left."""
    resume_longest_ms: int = 5_000
    first_delay_ms: int = 500
    longest_delay_ms: int = 30_000
    jitter: float = 0.25
    """Share of the delay that is added at most."""
    clean_after_ms: int = 60_000
    """A run of this length forgives the failures before it."""


@dataclass(frozen=True, slots=True)
class History:
    """What counts of a process's past."""

    failures: int = 0
    """Ends in a row, each after a run that was too short to forgive."""


@dataclass(frozen=True, slots=True)
class RestartAt:
    """Start it again at this moment."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop everything: it cannot run until a person has acted."""

    reason: str


def on_exit(
    history: History, policy: RestartPolicy, *, code: int, ran_ms: int, now_ms: int, chance: float
) -> tuple[History, RestartAt | GiveUp]:
    """Decide about a process that ended at `now_ms` after `ran_ms`; `chance` in [0, 1) decides about the jitter."""
    if code == EXIT_CONFIGURATION:
        return history, GiveUp("a person has to act")
    if ran_ms >= policy.clean_after_ms:
        history = History()
    first, longest = policy.first_delay_ms, policy.longest_delay_ms
    if code == EXIT_RESUME:
        first, longest = policy.resume_delay_ms, policy.resume_longest_ms
    # 2**16 is beyond every bound; without it the power itself grows without one
    delay = min(longest, first * 2 ** min(history.failures, 16))
    delay += int(delay * policy.jitter * chance)
    return replace(history, failures=history.failures + 1), RestartAt(now_ms + delay)


def describe_exit(code: int) -> str:
    """Say how a process ended, in words."""
    if code < 0:
        return f"was ended by signal {-code}"
    if code == EXIT_RESUME:
        return "asked to be restarted (exit 75)"
    return f"ended with exit {code}"
