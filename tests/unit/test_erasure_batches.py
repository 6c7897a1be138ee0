"""How many sessions an erasure removes in a transaction."""

import pytest

from deploy.erasure.run import BATCH_S, MOST_BATCH_SESSIONS, next_batch


@pytest.mark.parametrize(
    ("sessions", "took_s", "then"),
    [
        (50, 0.1, 100),
        (50, BATCH_S, 50),
        (50, 2 * BATCH_S + 0.1, 25),
        (1, 60.0, 1),
        (MOST_BATCH_SESSIONS, 0.0, MOST_BATCH_SESSIONS),
    ],
)
def test_small_sessions_go_together_and_large_ones_alone(sessions: int, took_s: float, then: int) -> None:
    assert next_batch(sessions, took_s) == then
