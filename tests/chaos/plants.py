"""The faults that can be planted in a service, and when a run has found one. `planted` has the faults themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.runtime.restart import EXIT_CONFIGURATION
from tests.chaos.ended import Ended


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault that a run has to find."""

    role: str
    """The service of which it replaces a step."""
    halts_over: str | None = None
    """What its service may see by itself and halt over, before anything is compared: a word of the reason it gives."""


PLANTS: Mapping[str, Plant] = {
    "commit-before-write": Plant("sink"),
    "skipped-fence": Plant("sink"),
    # a chain of digests with a gap: each digest after it is parked until the sender closes it
    "lost-seek": Plant("analyze", halts_over="sources_lost"),
    "early-tombstone": Plant("analyze"),
    "one-flight": Plant("analyze"),
}


def is_found(plant: Plant, ends: Sequence[Ended], lines: Sequence[str]) -> bool:
    """Tell whether a run has found a planted fault, where it is.

    Either what was compared says so of its service, or the service halted over what the fault does and gave that as its
    reason. A process that ended otherwise, of whatever service, is no find: it hides what there is to find.
    """
    if ends:
        return all(_is_halt_over(plant, end) for end in ends)
    return any(line.startswith(plant.role) for line in lines)


def _is_halt_over(plant: Plant, end: Ended) -> bool:
    is_halt = (end.role, end.code) == (plant.role, EXIT_CONFIGURATION)
    return is_halt and plant.halts_over is not None and plant.halts_over in end.reason
