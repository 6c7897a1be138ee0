"""Keep the log readable: what Faust and the Kafka clients say, at most once in a while each.

While the broker is away they write 80 lines a second and worker, four different ones.
"""

import logging
import time
from collections.abc import Callable

EVERY_S = 10.0

_TALKATIVE = (
    "faust",
    "mode",
    "aiokafka",
    # Faust logs the life of its services under the names of their modules
    "stream_processors.changelog_store",
    "stream_processors.faust_app",
)
_LIBRARIES = frozenset({"aiokafka", "faust", "mode", "rdkafka"})
_MOST_KEPT = 1_000


class Sparingly(logging.Filter):
    """Passes a library's line if the same one was not written lately; values aside, its first one included."""

    def __init__(self, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._written: dict[tuple[str, str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the line is written."""
        if record.name.partition(".")[0] not in _LIBRARIES:
            return True
        first = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        line, now = (record.name, str(record.msg), first), self._clock()
        if now - self._written.get(line, float("-inf")) < self._every_s:
            return False
        if len(self._written) >= _MOST_KEPT:
            self._written.clear()
        self._written[line] = now
        return True


def write_sparingly() -> None:
    """Hold the libraries to warnings, and to one of a kind in a while; our own lines stay as they are."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    sparingly = Sparingly()
    for handler in logging.getLogger().handlers:
        handler.addFilter(sparingly)
