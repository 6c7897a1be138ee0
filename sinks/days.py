"""Days that rows fall into, and how far around today they may have a partition.

The gateway lets event times lie from 7 days before to 10 minutes after their arrival, so the days from 8 before to 7
after today are made ahead. A row of an older day comes from a log that was read late: its partition is made when it is
needed, within bounds, because a table with thousands of days would slow every query.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)


def epoch_day(epoch_ms: int) -> int:
    """Return the UTC day of a time, counted from 1970-01-01."""
    return epoch_ms // DAY_MS


def day_date(day: int) -> date:
    """Return the date of a day counted from 1970-01-01.

    Raises:
        OverflowError: it lies outside the calendar.
    """
    return _EPOCH + timedelta(days=day)


@dataclass(frozen=True, slots=True)
class DayWindow:
    """How far around today partitions are made."""

    behind: int = 8
    ahead: int = 7
    oldest: int = 60
    """Days before today for which a late row still gets a partition: the log keeps 7 days, an outage adds some."""

    def open_days(self, days: Iterable[int], *, today: int) -> set[int]:
        """Return those of the days that may have a partition."""
        return {day for day in days if today - self.oldest <= day <= today + self.ahead}
