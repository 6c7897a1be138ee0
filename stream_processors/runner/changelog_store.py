"""What Faust's recovery reads of a changelog, per partition, for a fold to take.

Faust knows when a partition has to be recovered, from where, and when that is done. It does not hold our state: the
table below exists to be recovered, its store takes the records as they are (6 to 10 us each; Faust's own way needs
210), and a fold takes them over once recovery is complete.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import faust
from faust.stores.base import Store
from faust.types import TP

from stream_processors.fold.facts import PartitionRecord, is_session_key, recover

MAX_RECOVERY_S = 120.0
"""A reader this slow could have raced the log cleaner, which leaves the last `min.compaction.lag.ms` (10 min) alone."""


class ChangelogStore(Store[bytes, bytes]):
    """Faust's store of the table: changelog key to bytes, by partition."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._facts: dict[int, dict[bytes, bytes] | None] = {}
        self._positions: dict[int, int] = {}
        self._began = time.monotonic()
        self.on_slow_recovery: Callable[[float], None] = lambda _seconds: None

    # --- for the stage

    def take(self, partition: int) -> dict[bytes, bytes]:
        """Give a partition's facts away; recovery never fills it again while its fold lives."""
        facts = self._facts.get(partition) or {}
        self._facts[partition] = None
        return facts

    def position(self, partition: int) -> PartitionRecord:
        """Return how far the facts read of a partition say that its fold has come, without giving them away."""
        facts = self._facts.get(partition) or {}
        return recover({key: fact for key, fact in facts.items() if not is_session_key(key)}).record

    def read_until(self, partition: int) -> int:
        """Return the last offset of the changelog that is known of a partition; -1 if none is."""
        return self._positions.get(partition, -1)

    def note_written(self, partition: int, offset: int) -> None:
        """Remember how far the changelog is known, because we wrote it: nothing is read twice.

        Not so for a partition that was dropped: its next recovery has to read everything.
        """
        if partition in self._facts:
            self._positions[partition] = offset

    def drop(self, partition: int) -> None:
        """Forget a partition: it belongs to somebody else, or its recovery has to start anew."""
        self._facts.pop(partition, None)
        self._positions.pop(partition, None)

    def restart_recovery(self) -> None:
        """Drop what a recovery that was cut short has read, and count its time from now."""
        self._began = time.monotonic()
        for partition in [p for p, facts in self._facts.items() if facts is not None]:
            self.drop(partition)

    # --- for Faust's recovery

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the last changelog offset that is included: recovery starts behind it.

        For a partition that was dropped this is -1 and not None, or Faust would keep the offset of its own that it had:
        a log that was missing for a moment is given back with a changelog that was never taken away, and its recovery
        would read nothing, so that the fold would begin anew.
        """
        return self._positions.get(tp.partition, -1)

    def apply_changelog_batch(self, batch: Iterable[Any], *_args: Any, **_kwargs: Any) -> None:
        """Take runs of changelog records."""
        for event in batch:
            message = event.message
            facts = self._facts.setdefault(message.partition, {})
            self._positions[message.partition] = message.offset
            if facts is None:
                continue
            for record in message.value:
                if record.value is None:
                    facts.pop(record.key, None)
                else:
                    facts[record.key] = record.value

    async def on_recovery_completed(self, *_args: Any, **_kwargs: Any) -> None:
        """Measure how long the recovery took, the wait for its partitions included."""
        seconds = time.monotonic() - self._began
        if seconds > MAX_RECOVERY_S:
            self.on_slow_recovery(seconds)

    def reset_state(self) -> None:
        """Forget everything."""
        self._facts.clear()
        self._positions.clear()

    def set_persisted_offset(self, *_args: Any, **_kwargs: Any) -> None:
        """Pass over what Faust believes about offsets: `apply_changelog_batch` and `note_written` know."""

    async def need_active_standby_for(self, *_args: Any, **_kwargs: Any) -> bool:
        """Want no standby: its copy would be dropped at the hand-over anyway."""
        return False

    # --- the mapping that a table would be; ours is never used as one

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotImplementedError("facts are written by the stage, not through the table")

    def __delitem__(self, key: Any) -> None:
        raise NotImplementedError("facts are deleted by the stage, not through the table")

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return sum(len(facts or ()) for facts in self._facts.values())

    async def backup_partition(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuse: the changelog is the backup."""
        raise NotImplementedError

    def restore_backup(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuse: the changelog is the backup."""
        raise NotImplementedError


class ChangelogTable(faust.Table[bytes, bytes]):
    """Faust's setting `Table`: a table whose store is a `ChangelogStore`."""

    def _new_store(self) -> ChangelogStore:
        return ChangelogStore(
            "memory://", self.app, self, table_name=self.name, key_type=self.key_type, value_type=self.value_type
        )
