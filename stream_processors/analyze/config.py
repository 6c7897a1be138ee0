"""Thresholds of all detectors and of the AI jobs: the defaults, and a project's overrides, `settings["detectors"]`.

The overrides are an object by detector, each an object of thresholds:
`{"rage_click": {"min_clicks": 4}, "dead_click": {"enabled": false}, "ai_jobs": {"summary_min_score": 50}}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import orjson

from stream_processors.analyze.detectors.dead_click import DeadClickConfig
from stream_processors.analyze.detectors.error import ErrorConfig
from stream_processors.analyze.detectors.error_click import ErrorClickConfig
from stream_processors.analyze.detectors.form_abandonment import FormAbandonmentConfig
from stream_processors.analyze.detectors.quick_back import QuickBackConfig
from stream_processors.analyze.detectors.rage_click import RageClickConfig
from stream_processors.analyze.detectors.slow_load import SlowLoadConfig
from stream_processors.analyze.detectors.slow_response import SlowResponseConfig
from stream_processors.analyze.detectors.thrashed_cursor import ThrashedCursorConfig
from stream_processors.analyze.detectors.thresholds import Rejected, override
from stream_processors.analyze.jobs import AiJobConfig


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """All thresholds that decide about a session."""

    rage_click: RageClickConfig = field(default_factory=RageClickConfig)
    dead_click: DeadClickConfig = field(default_factory=DeadClickConfig)
    error_click: ErrorClickConfig = field(default_factory=ErrorClickConfig)
    error: ErrorConfig = field(default_factory=ErrorConfig)
    slow_load: SlowLoadConfig = field(default_factory=SlowLoadConfig)
    form_abandonment: FormAbandonmentConfig = field(default_factory=FormAbandonmentConfig)
    quick_back: QuickBackConfig = field(default_factory=QuickBackConfig)
    slow_response: SlowResponseConfig = field(default_factory=SlowResponseConfig)
    thrashed_cursor: ThrashedCursorConfig = field(default_factory=ThrashedCursorConfig)
    ai_jobs: AiJobConfig = field(default_factory=AiJobConfig)

    @property
    def settle_ms(self) -> int:
        """Return how long after a signal, in event time, anything can still matter to it."""
        return max(
            self.dead_click.deadline_ms,
            self.slow_response.max_wait_ms if self.slow_response.enabled else 0,
            self.rage_click.max_gap_ms,
            self.rage_click.effect_ms,
            self.error_click.window_ms,
            self.quick_back.max_stay_ms,
            self.thrashed_cursor.window_ms,
        )


def parse_detectors(overrides: Mapping[str, Any]) -> DetectorConfig:
    """Build the configuration from overrides that a person has written.

    Raises:
        ValueError: naming each field that is unknown or out of range, and what is expected.
    """
    config, rejected = _read(overrides)
    if rejected:
        raise ValueError("; ".join(f"{entry.name}: {entry.expected}" for entry in rejected))
    return config


def read_detectors(overrides: Mapping[str, Any] | None) -> DetectorConfig:
    """Build the configuration from overrides in the log: what is not understood keeps its default.

    Settings of an older or newer version travel in the log; a session is judged by what this version knows of them.
    """
    if not overrides:
        return _DEFAULTS
    return _cached(orjson.dumps(overrides))


@lru_cache(maxsize=1024)
def _cached(overrides: bytes) -> DetectorConfig:
    return _read(orjson.loads(overrides))[0]


def _read(overrides: Any) -> tuple[DetectorConfig, list[Rejected]]:
    if not isinstance(overrides, Mapping):
        return DetectorConfig(), [Rejected("detectors", "expected an object by detector")]
    kinds: dict[str, Any] = {f.name: f.default_factory for f in fields(DetectorConfig)}
    used: dict[str, Any] = {}
    rejected: list[Rejected] = []
    for name, values in overrides.items():
        if name not in kinds:
            rejected.append(Rejected(str(name), f"no such detector; known are {', '.join(sorted(kinds))}"))
            continue
        used[name], wrong = override(kinds[name], values, name=name)
        rejected += wrong
    return DetectorConfig(**used), rejected


_DEFAULTS = DetectorConfig()
