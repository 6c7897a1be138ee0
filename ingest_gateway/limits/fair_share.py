"""Let no project take the time of the others: while there is not enough for all, who holds more than a share waits.

Theory. One loop and one queue serve all projects, first come first served: behind a project with a thousand connections
everybody waits for a thousand requests. A rate limit prevents that where one is set. This rule needs no setting and
costs nothing while there is enough for all. Two signs say that there is not:

- the loop has been late for a while, not for a moment (`Lateness`): requests wait for its time;
- the producer's queue is half as full as it may get: records wait for the broker.

Then a project that holds more than its share of what is not yet acknowledged is refused before its body is read: of the
requests where the loop is late, of a lane's bytes where its queue fills. The refusal takes its time, or a crowd that
asks again at once would only be refused faster, and take the loop with that. A share is an equal part among the
projects that sent something within the last seconds. One that is alone may hold everything. Among many projects an
equal part would be next to nothing and everybody above it, so a share is never less than an eighth: whoever holds that
much is why the others wait.
"""

from dataclasses import dataclass

MAX_LATE_S = 0.05
"""Twice the p99 of a gateway whose core is busy with clients that are well."""
MAX_QUEUE_SHARE = 0.5
"""Of the fill at which the gate refuses everybody."""
FLOOR_REQUESTS, FLOOR_BYTES = 32, 1_000_000
"""Never too much: so many requests take the loop 5 ms."""
CONTENDED_S = 3.0
"""What was contended is so for this long: those who were refused would come back at once, all of them."""
REFUSAL_S = 1.0
"""How long a refusal takes: who sends without a pause, and does not hear Retry-After, sends so much less."""
ACTIVE_S = 5.0
"""Who sent something within this time counts as one who wants a share."""
MOST_SHARES = 8


@dataclass(slots=True)
class _Held:
    """What a project holds."""

    weight: int = 0
    seen_s: float = 0.0


class Shares:
    """What each project holds of one thing that all need; no more projects are known than have sent lately."""

    def __init__(self, *, floor: int) -> None:
        self._floor = floor
        self._held: dict[str, _Held] = {}
        self._total = 0
        self._active = 0
        self._counted_s = 0.0

    def take(self, project_id: str, weight: int, *, now_s: float) -> None:
        """Note what a project holds from now on."""
        held = self._held.get(project_id)
        if held is None:
            held = self._held[project_id] = _Held()
            self._active += 1
        held.weight += weight
        held.seen_s = now_s
        self._total += weight

    def give_back(self, project_id: str, weight: int) -> None:
        """Note that it holds so much less."""
        self._held[project_id].weight -= weight
        self._total -= weight

    def is_exceeded(self, project_id: str, *, now_s: float) -> bool:
        """Tell whether a project holds more than its share, and more than `floor`, below which nothing is much."""
        held = self._held.get(project_id)
        if held is None or held.weight <= self._floor:
            return False
        self._count(now_s)
        return held.weight * min(self._active, MOST_SHARES) > self._total

    def _count(self, now_s: float) -> None:
        """Forget, once a second, who neither holds nor sends anything."""
        if now_s - self._counted_s < 1.0:
            return
        self._counted_s = now_s
        before_s = now_s - ACTIVE_S
        for project_id in [p for p, held in self._held.items() if not held.weight and held.seen_s < before_s]:
            del self._held[project_id]
        self._active = len(self._held)


class Lateness:
    """Whether the loop is late, from samples of it.

    One pause of the machine is no contention: two samples in a row have to be late at least, and together by five times
    what is allowed.
    """

    def __init__(self, *, max_late_s: float) -> None:
        self._max_late_s = max_late_s
        self._in_a_row = 0
        self._together_s = 0.0
        self._until_s = 0.0

    def sample(self, late_s: float, *, now_s: float) -> None:
        """Note how much later than asked for the loop came back."""
        if late_s <= self._max_late_s:
            self._in_a_row, self._together_s = 0, 0.0
            return
        self._in_a_row += 1
        self._together_s += late_s
        if self._in_a_row > 1 and self._together_s >= 5 * self._max_late_s:
            self._until_s = now_s + CONTENDED_S

    def is_late(self, *, now_s: float) -> bool:
        """Tell whether requests wait for the loop."""
        return now_s < self._until_s
