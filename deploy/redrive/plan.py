"""What a redrive does with each letter: decided before anything is touched. Pure."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from adapters.dead_letter_marks import LetterId, LetterPlace, Mark
from schemas.messages import Kind

SINK = "sink-"
LOG_STAGES = frozenset({"digest", "analyze"})

_OF_A_SESSION = frozenset({Kind.EVENTS.value, Kind.DIGEST.value, Kind.CHUNK.value})


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter without its record."""

    place: LetterPlace
    reason: str
    kind: str
    """The record's header `kind`."""
    project_id: str
    """Empty if the record's key is no session key."""


@dataclass(slots=True)
class Plan:
    """Letters by what is to be done; each list in the order of the log that it comes from."""

    log: list[LetterPlace] = field(default_factory=list)
    sinks: dict[str, list[LetterPlace]] = field(default_factory=dict)
    """By sink."""
    impossible: dict[str, list[LetterPlace]] = field(default_factory=dict)
    """By what stands against it."""

    def counts(self) -> dict[str, int]:
        """Return how many letters go back to each stage."""
        counts = {stage: sum(place.id.stage == stage for place in self.log) for stage in sorted(LOG_STAGES)}
        counts |= {SINK + name: len(places) for name, places in sorted(self.sinks.items())}
        return {stage: count for stage, count in counts.items() if count}


def make_plan(letters: Iterable[Letter], marks: Mapping[LetterId, Mark], *, sinks: Set[str]) -> Plan:
    """Lay out the letters that nothing was done about; `sinks` are those that exist."""
    plan = Plan()
    for letter in sorted(letters, key=lambda letter: letter.place.id):
        place = letter.place
        if place.id in marks:
            continue
        if why := obstacle(place.id.stage, letter.kind, sinks=sinks):
            plan.impossible.setdefault(why, []).append(place)
        elif place.id.stage in LOG_STAGES:
            plan.log.append(place)
        else:
            plan.sinks.setdefault(place.id.stage.removeprefix(SINK), []).append(place)
    return plan


def obstacle(stage: str, kind: str, *, sinks: Set[str]) -> str | None:
    """Return what stands against putting a letter back, None if nothing does."""
    if stage == "gateway":
        return "refused by the gateway: its client was told, and may send it again"
    if stage.startswith(SINK):
        return None if stage.removeprefix(SINK) in sinks else f"no sink {stage.removeprefix(SINK)}"
    if stage not in LOG_STAGES:
        return f"no stage {stage}"
    if kind not in _OF_A_SESSION:
        return "a tick: what it settled is settled, and the session that raised was closed"
    return None
