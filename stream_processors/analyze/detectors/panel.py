"""All detectors of a project, and which of them sees which signal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from stream_processors.analyze.config import DetectorConfig, read_detectors
from stream_processors.analyze.detectors.clicks import ClickDetectors
from stream_processors.analyze.detectors.detector import Detector, Handler
from stream_processors.analyze.detectors.error import ErrorDetector
from stream_processors.analyze.detectors.form_abandonment import FormAbandonmentDetector
from stream_processors.analyze.detectors.quick_back import QuickBackDetector
from stream_processors.analyze.detectors.slow_load import SlowLoadDetector
from stream_processors.analyze.detectors.thrashed_cursor import ThrashedCursorDetector


@dataclass(frozen=True, slots=True)
class Panel:
    """The detectors of a project's configuration; many sessions share it."""

    config: DetectorConfig
    detectors: Mapping[str, Detector[Any]]
    """By the name under which a session keeps the detector's memory."""
    by_signal: Mapping[type[Any], Sequence[tuple[str, type[Any], Handler]]]
    """For each type of signal: where it is remembered, the type of that memory, and what to call."""
    settle_ms: int
    """How long after a signal anything can still matter to it."""


def panel_for(overrides: Mapping[str, Any] | None) -> Panel:
    """Return the panel of a project's overrides, from a cache."""
    return _cached(orjson.dumps(overrides) if overrides else b"")


@lru_cache(maxsize=1024)
def _cached(overrides: bytes) -> Panel:
    return build_panel(read_detectors(orjson.loads(overrides) if overrides else None))


def build_panel(config: DetectorConfig) -> Panel:
    """Wire the detectors of a configuration."""
    detectors: dict[str, Detector[Any]] = {
        "clicks": ClickDetectors(
            rage=config.rage_click, dead=config.dead_click, error=config.error_click, slow=config.slow_response
        ),
        "error": ErrorDetector(config.error),
        "slow_load": SlowLoadDetector(config.slow_load),
        "form_abandonment": FormAbandonmentDetector(config.form_abandonment),
        "quick_back": QuickBackDetector(config.quick_back),
        "thrashed_cursor": ThrashedCursorDetector(config.thrashed_cursor),
    }
    by_signal: dict[type[Any], list[tuple[str, type[Any], Handler]]] = {}
    for name, detector in detectors.items():
        for kind, handler in detector.handlers().items():
            by_signal.setdefault(kind, []).append((name, detector.memory, handler))
    return Panel(config, detectors, by_signal, config.settle_ms)
