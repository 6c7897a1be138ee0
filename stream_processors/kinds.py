"""The two stages: which log each folds, and where its facts go. Pure."""

from dataclasses import dataclass

from schemas import topics
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class StageKind:
    """What the runner has to know of a stage besides its logic."""

    name: str
    source: Topic
    """The log that it folds."""
    changelog: Topic
    weight_bytes: int
    """What a unit of its logic's `weight` takes in memory."""
    chained_into: Topic | None = None
    """Where exactly one record stands for each of its log, under its offset: another stage's log."""

    def group(self, prefix: str) -> str:
        """Return the name of the consumer group of its workers."""
        return prefix + self.name


DIGEST = StageKind("digest", topics.RECORDINGS, topics.DIGEST_CHANGELOG, weight_bytes=300, chained_into=topics.EVENTS)
ANALYZE = StageKind("analyze", topics.EVENTS, topics.ANALYZE_CHANGELOG, weight_bytes=1)
KINDS = {kind.name: kind for kind in (DIGEST, ANALYZE)}
