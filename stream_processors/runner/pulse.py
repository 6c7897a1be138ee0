"""What a worker does once a tick, and what others may see of it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from faust.types import TP

from schemas.messages import KIND_HEADER, Kind
from stream_processors.metrics import StageMetrics
from stream_processors.runner.failstop import HALT, fail_stop
from stream_processors.runner.flights import Flights, Letter
from stream_processors.runner.stage import Stage, Standing
from stream_processors.runner.watchdog import Progress, Vitals

COMMIT_EVERY_S = 5.0
COMMIT_TIMEOUT_S = 20.0
CHAIN_EVERY_S = 10.0
"""How often the next stage is told up to where everything was acknowledged: what it waits for in vain, at most."""

_TICK_HEADERS = ((KIND_HEADER, Kind.TICK.value.encode()),)

log = structlog.get_logger()


class Pulse:
    """Shows log time in every partition that we own, tells how far behind we are, and commits now and then."""

    def __init__(self, stage: Stage, *, app: Any, source: str, flights: Flights, metrics: StageMetrics) -> None:
        self._stage = stage
        self._app = app
        self._source = source
        self._flights = flights
        self._metrics = metrics
        self._chain_at = time.monotonic()
        self._ends: dict[int, int] = {}
        self._undelivered: tuple[int, ...] = ()
        self._shown: set[int] = set()
        self._commit_at = time.monotonic()
        self._vitals = Vitals(is_settled=False, heard_at=time.monotonic(), committed_at=time.monotonic())

    async def beat(self, tick_s: float) -> None:
        """Go on for ever."""
        while True:
            await asyncio.sleep(tick_s)
            await self.turn()

    async def turn(self) -> None:
        """Do what is due once a tick."""
        vitals = replace(self._vitals, is_settled=self._is_settled(), heard_at=time.monotonic())
        try:
            if not self._app.rebalancing:
                self._tick()
                if vitals.heard_at >= self._chain_at:
                    self._chain_at = vitals.heard_at + CHAIN_EVERY_S
                    for letter in self._stage.statements():
                        self._flights.post(letter, lambda _partition, _offset: None)
                owned = self._stage.owned()
                self._measure(owned, now=time.time())
                self._undelivered = tuple(sorted(owned.keys() - self._stage.partitions.keys()))
                vitals = replace(vitals, progress=self._progress(owned))
            if vitals.is_settled and vitals.heard_at >= self._commit_at:
                self._commit_at = vitals.heard_at + COMMIT_EVERY_S
                if await self._commit():
                    vitals = replace(vitals, committed_at=time.monotonic())
        except Exception as error:
            # a rebalance can begin between any two lines above; the next turn comes anyway
            log.warning("beat_failed", reason=repr(error))
        self._vitals = vitals

    def vitals(self) -> Vitals:
        """Return what the watchdog looks at."""
        return self._vitals

    def reasons_against_readiness(self) -> list[str]:
        """Return why the worker cannot do its work now."""
        if not self._vitals.is_settled:
            return ["joining the group or recovering"]
        return [f"nothing of partition {number} was delivered yet" for number in self._undelivered]

    def _is_settled(self) -> bool:
        """Tell whether the worker belongs to its group and has recovered what it owns."""
        app = self._app
        return bool(app.consumer_generation_id > 0 and not app.rebalancing and not app.in_recovery)

    def _tick(self) -> None:
        """Show log time in every partition that we own, recovered or not; a second tick is harmless."""
        for tp in self._stage.assignment():
            taken = self._stage.partitions.get(tp.partition)
            acknowledged = partial(self._note_end, taken.wanted if taken else 0)
            self._flights.post(Letter(self._source, tp.partition, None, b"", _TICK_HEADERS), acknowledged)

    def _note_end(self, least: int, partition: int, offset: int) -> None:
        """Learn where the log ends, also when the consumer hangs; it had `least` records before the tick was sent."""
        if offset < 0:
            # a tick that was repeated and had been stored already
            return
        if offset < least:
            reason = f"the log ends at {offset}, before record {least - 1}, which the state includes"
            fail_stop("log_does_not_continue", code=HALT, partition=partition, reason=reason)
        self._ends[partition] = offset + 1

    def _end(self, partition: int) -> int:
        return max(self._ends.get(partition, 0), self._app.consumer.highwater(TP(self._source, partition)) or 0)

    def _progress(self, owned: Mapping[int, Standing]) -> dict[int, Progress]:
        return {number: Progress(standing.written, self._end(number)) for number, standing in owned.items()}

    def _measure(self, owned: Mapping[int, Standing], *, now: float) -> None:
        metrics = self._metrics
        metrics.owned_partitions.set(len(owned))
        for number in self._shown - owned.keys():
            metrics.forget(number)
        self._shown = set(owned)
        for number, standing in owned.items():
            label = str(number)
            lag = max(0, self._end(number) - standing.wanted)
            age = max(0.0, now - standing.latest / 1000) if lag and standing.latest else 0.0
            metrics.lag_records.labels(label).set(lag)
            metrics.oldest_record_age_seconds.labels(label).set(age)
        for number, partition in self._stage.partitions.items():
            label, watermark = str(number), partition.fold.position.watermark
            metrics.watermark_age_seconds.labels(label).set(max(0.0, now - watermark / 1000) if watermark else 0.0)
            metrics.open_sessions.labels(label).set(partition.fold.open_sessions)

    async def _commit(self) -> bool:
        """Commit how far the state is in the changelog: for the lag tools, and for who recovers it next.

        Nothing of a partition that is not taken yet: its state has not been compared with what is committed.
        """
        mine = {tp.partition for tp in self._stage.assignment()}
        offsets = {
            TP(self._source, number): partition.written + 1
            for number, partition in self._stage.partitions.items()
            if number in mine and partition.written >= 0
        }
        if not offsets:
            return True
        return bool(await asyncio.wait_for(self._app.consumer._commit(offsets), COMMIT_TIMEOUT_S))
