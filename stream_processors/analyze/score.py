"""The frustration score: how badly a session went, from 0 to 100.

`round(100 * (1 - exp(-sum(weight * count) / 10)))`, half up. It grows with every finding, never beyond 100, and does
not depend on their order. The SQL function `traceflow_frustration_score` is the same formula and gives the same
integers; it keeps the score of the sessions' rows, while this one decides about AI jobs.
"""

import math
from collections.abc import Mapping

WEIGHTS: Mapping[str, int] = {
    "error": 5,
    "rage_click": 4,
    "error_click": 4,
    "form_abandonment": 3,
    "dead_click": 2,
    "slow_load": 1,
    "quick_back": 1,
    "thrashed_cursor": 1,
}
"""What a finding of each kind weighs: an error hurts most, a slow page least."""

SCALE = 10
"""A sum of weights of 10 scores 63."""


def frustration_score(counts: Mapping[str, int]) -> int:
    """Return the score of a session with so many findings of each kind; other kinds weigh nothing."""
    total = sum(weight * counts.get(kind, 0) for kind, weight in WEIGHTS.items())
    return math.floor(100 * (1 - math.exp(-total / SCALE)) + 0.5)
