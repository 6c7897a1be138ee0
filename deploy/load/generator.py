"""The sessions of a load: which visit each one makes, from a seed alone."""

import random
from collections.abc import Iterator
from functools import partial

from deploy.load.request import ChunkPlace, SessionRequest
from deploy.load.template import cut_steps
from deploy.load.visit import draw_visit

_USER_AGENTS = tuple(
    f"Mozilla/5.0 ({machine}) {engine}"
    for machine, engine in (
        ("Windows NT 10.0; Win64; x64", "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"),
        ("Macintosh; Intel Mac OS X 10_15_7", "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15"),
        ("Linux; Android 14; Pixel 8", "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36"),
        ("X11; Linux x86_64; rv:133.0", "Gecko/20100101 Firefox/133.0"),
    )
)


class Load:
    """Sessions by number: the same seed and name give the same sessions."""

    def __init__(
        self,
        *,
        seed: int,
        name: str,
        recorded_share: float = 0.25,
        batch: int = 20,
        events_per_session: int = 160,
        visits: int = 64,
    ) -> None:
        """Draw `visits` different visits; `name` tells the sessions of one run from those of another."""
        self._seed = seed
        self._name = name
        self._recorded_share = recorded_share
        # every fourth visit is of an SDK that numbers its events itself
        self._visits = [
            cut_steps(draw_visit(seed * 1_000_003 + n, events=events_per_session), batch=batch, client_ids=n % 4 == 3)
            for n in range(visits)
        ]

    def session(self, number: int, *, now_ms: int) -> Iterator[SessionRequest]:
        """Yield the requests of a session that ends about now, in order."""
        draw = random.Random(f"{self._seed}/{number}")  # noqa: S311 # repeatable, no secret
        steps = draw.choice(self._visits)
        session_id = f"{self._name}-{number}"
        visitor_id = f"visitor-{draw.randrange(1 + number)}"
        user_agent = draw.choice(_USER_AGENTS)
        is_recorded = draw.random() < self._recorded_share
        start_ms = now_ms - steps[-1].events.offsets_ms[-1]
        next_seq = 0
        for step in steps:
            if is_recorded and step.chunk is not None:
                place = ChunkPlace("w1", next_seq, visitor_id)
                render = partial(step.chunk.render, start_ms)
                count = len(step.chunk.offsets_ms)
                yield SessionRequest(session_id, user_agent, render, count, place, compressed=True)
                next_seq += 1
            render = partial(step.events.render, session_id, visitor_id, start_ms)
            yield SessionRequest(session_id, user_agent, render, len(step.events.offsets_ms))
