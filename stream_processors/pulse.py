"""What a worker does once a tick, and what others may see of it."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import structlog
from faust.types import TP

from schemas.messages import KIND_HEADER, Kind
from stream_processors.flights import Flights, Letter
from stream_processors.metrics import StageMetrics
from stream_processors.stage import Stage
from stream_processors.watchdog import Progress, Vitals

COMMIT_EVERY_S = 5.0
COMMIT_TIMEOUT_S = 20.0

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
        self._ends: dict[int, int] = {}
        self._vitals = Vitals(is_settled=False, heard_at=time.monotonic(), committed_at=time.monotonic())

    async def beat(self, tick_s: float) -> None:
        """Go on for ever."""
        commit_at = time.monotonic()
        while True:
            await asyncio.sleep(tick_s)
            vitals = self._vitals
            vitals = replace(vitals, is_settled=self._is_settled(), heard_at=time.monotonic())
            try:
                if not self._app.rebalancing:
                    self._tick()
                    self._measure(now=time.time())
                    vitals = replace(vitals, progress=self._progress())
                if vitals.is_settled and vitals.heard_at >= commit_at:
                    commit_at = vitals.heard_at + COMMIT_EVERY_S
                    if await self._commit():
                        vitals = replace(vitals, committed_at=time.monotonic())
            except Exception as error:
                # a rebalance can begin between any two lines above; the next beat comes anyway
                log.warning("beat_failed", reason=repr(error))
            self._vitals = vitals

    def vitals(self) -> Vitals:
        """Return what the watchdog looks at."""
        return self._vitals

    def reasons_against_readiness(self) -> list[str]:
        """Return why the worker cannot do its work now."""
        return [] if self._vitals.is_settled else ["joining the group or recovering"]

    def _is_settled(self) -> bool:
        """Tell whether the worker belongs to its group and has recovered what it owns."""
        app = self._app
        return bool(app.consumer_generation_id > 0 and not app.rebalancing and not app.in_recovery)

    def _tick(self) -> None:
        """Show log time in every partition that we own, recovered or not; a second tick is harmless."""
        for tp in self._stage.assignment():
            self._flights.post(Letter(self._source, tp.partition, None, b"", _TICK_HEADERS), self._note_end)

    def _note_end(self, partition: int, offset: int) -> None:
        # an acknowledged tick tells where the log ends, also when the consumer hangs
        self._ends[partition] = offset + 1

    def _end(self, partition: int) -> int:
        return max(self._ends.get(partition, 0), self._app.consumer.highwater(TP(self._source, partition)) or 0)

    def _progress(self) -> dict[int, Progress]:
        return {number: Progress(p.written, self._end(number)) for number, p in self._stage.partitions.items()}

    def _measure(self, *, now: float) -> None:
        metrics = self._metrics
        metrics.owned_partitions.set(len(self._stage.partitions))
        for number, partition in self._stage.partitions.items():
            label = str(number)
            lag = max(0, self._end(number) - partition.wanted)
            age = max(0.0, now - partition.latest / 1000) if lag and partition.latest else 0.0
            watermark = partition.fold.position.watermark
            metrics.lag_records.labels(label).set(lag)
            metrics.oldest_record_age_seconds.labels(label).set(age)
            metrics.watermark_age_seconds.labels(label).set(max(0.0, now - watermark / 1000) if watermark else 0.0)
            metrics.open_sessions.labels(label).set(partition.fold.open_sessions)

    async def _commit(self) -> bool:
        """Commit positions to the group, for the lag tools: nothing here ever reads them."""
        mine = self._stage.assignment()
        offsets = {TP(self._source, number): p.written + 1 for number, p in self._stage.partitions.items()}
        offsets = {tp: offset for tp, offset in offsets.items() if tp in mine and offset > 0}
        if not offsets:
            return True
        return bool(await asyncio.wait_for(self._app.consumer._commit(offsets), COMMIT_TIMEOUT_S))
