"""Read a client's timestamp and decide whether it can be the event's.

Theory. `(id, timestamp)` is the primary key of an event's row, so a retried request has to give the same timestamp. The
client's clock, taken verbatim, does. But a clock that is years off would create partitions for years, so outside
[received - 7 d, received + 10 min] the event is restamped with the time of receipt. Its id is made of what the client
sent all the same, because a time may be believed in one retry and not in another: a clock's future comes true, and an
event grows older than the window. So the sink looks for the id around that day before it inserts.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

WINDOW_BEFORE_MS = 7 * 86_400_000
"""How old an event may be: an SDK that was offline over a holiday."""

WINDOW_AFTER_MS = 600_000
"""How far a client's clock may run ahead."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
# 2 ** 53: the integers that a double holds exactly; far beyond year 9999
_MAX_MS = 9_007_199_254_740_992


class NotATime(ValueError):
    """The value is neither ISO 8601 nor epoch milliseconds; the message says what it is instead."""


def epoch_ms(value: Any) -> int:
    """Read ISO 8601 (without a zone: UTC) or epoch milliseconds, as a number or as digits.

    Raises:
        NotATime: if it is neither.
    """
    if type(value) is str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return _digits(value)
        if moment.tzinfo is None:
            if value.isdigit():
                return _digits(value)
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MS
    if type(value) is int:
        return value
    if type(value) is float:
        if not -_MAX_MS <= value <= _MAX_MS:
            raise NotATime("a number that is no time in milliseconds")
        return round(value)
    raise NotATime(json_type(value))


def in_window(timestamp_ms: int, received_at_ms: int) -> bool:
    """Tell whether a client's time is near enough to the time of receipt to be believed."""
    return received_at_ms - WINDOW_BEFORE_MS <= timestamp_ms <= received_at_ms + WINDOW_AFTER_MS


def json_type(value: Any) -> str:
    """Name a decoded value's JSON type for a message."""
    for kind, name in ((bool, "a boolean"), (str, "a string"), (dict, "an object"), (list, "an array")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "a number"


def _digits(value: str) -> int:
    digits = value[1:] if value[:1] == "-" else value
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 16):
        raise NotATime("a string that is neither ISO 8601 nor digits")
    return int(value)
