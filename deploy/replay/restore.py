"""Write what a replay misses, through the sinks' own code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapters.dead_letters import ParkedRecord
from adapters.kafka_consumer import ConsumedRecord
from sinks.app import Environment
from sinks.commit.writer import Step
from sinks.repair.restore import SinkRestore


@dataclass(slots=True)
class Restorer:
    """The sinks' writers, each opened when it is needed first."""

    environment: Environment
    on_step: Callable[[Step], None] = lambda _step: None
    refused: list[ParkedRecord] = field(default_factory=list)
    """What a sink cannot store now either."""
    _sinks: dict[str, SinkRestore] = field(default_factory=dict)

    def write(self, sink: str, records: Sequence[ConsumedRecord]) -> None:
        """Store what is missing of records of a sink's topic, in one transaction.

        Raises:
            Abandoned: Postgres cannot be written now.
            SinkHalted: a person has to act.
        """
        if not records:
            return
        restore = self._sinks.get(sink)
        if restore is None:
            restore = self._sinks[sink] = SinkRestore(sink, self.environment, self.on_step)
        self.refused += restore.store(records)

    def close(self) -> None:
        """Close the connections."""
        for restore in self._sinks.values():
            restore.close()
